//! When each job is due.

mod expression;

pub use expression::ExpressionError;

use super::Job;
use crate::config::Schedule;
use expression::Expression;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use thiserror::Error;

/// Number of days searched for the next or last due one: leap days can be eight years apart, around
/// a century that is no leap year.
const HORIZON_DAYS: usize = 366 * 9;

/// The schedule is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Unknown time zone.
    #[error(
        "time_zone is `{0}`, which the IANA time zone database does not have: name one like Europe/Berlin or UTC"
    )]
    TimeZone(String),
    /// An expression cannot be parsed.
    #[error("{key} = \"{text}\": {cause}")]
    Expression {
        /// The key in the section.
        key: &'static str,
        /// As written.
        text: String,
        /// What is wrong.
        cause: ExpressionError,
    },
}

/// The times at which each job is due, in the time zone of the schedule.
///
/// Where clocks are put forward, a local time that does not exist is due at the next moment that
/// does; where they are put back, a local time that occurs twice is due the first time.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    time_zone: TimeZone,
    update: Option<Expression>,
    retrain: Option<Expression>,
    fine_tune: Option<Expression>,
    maintain: Option<Expression>,
    backup: Option<Expression>,
}

impl Plan {
    /// Reads the section `[schedule]`; a job whose expression is empty is never due.
    ///
    /// # Errors
    /// [`PlanError`]
    pub fn new(schedule: &Schedule) -> Result<Self, PlanError> {
        let time_zone = TimeZone::get(&schedule.time_zone)
            .map_err(|_| PlanError::TimeZone(schedule.time_zone.clone()))?;
        let read = |key, text: &str| {
            let expression = match text.trim() {
                "" => return Ok(None),
                text => Expression::parse(text).and_then(comes),
            };
            expression.map(Some).map_err(|cause| PlanError::Expression {
                key,
                text: text.to_owned(),
                cause,
            })
        };
        Ok(Self {
            time_zone,
            update: read("update", &schedule.update)?,
            retrain: read("retrain", &schedule.retrain)?,
            fine_tune: read("fine_tune", &schedule.fine_tune)?,
            maintain: read("maintain", &schedule.maintain)?,
            backup: read("backup", &schedule.backup)?,
        })
    }

    /// The latest time at or before `now_us` at which `job` is due; for retraining, fine-tuning
    /// included. All times here are microseconds since 1970.
    pub fn last_due(&self, job: Job, now_us: i64) -> Option<i64> {
        self.expressions(job)
            .filter_map(|expression| self.last(expression, now_us))
            .max()
    }

    /// The first time after `now_us` at which `job` is due.
    pub fn next_due(&self, job: Job, now_us: i64) -> Option<i64> {
        self.expressions(job)
            .filter_map(|expression| self.next(expression, now_us))
            .min()
    }

    /// Like [`Plan::last_due`] of retraining, but without fine-tuning.
    pub fn last_training(&self, now_us: i64) -> Option<i64> {
        self.last(self.retrain.as_ref()?, now_us)
    }

    /// For example `2026-11-26T02:00:00+01:00[Europe/Berlin]`.
    pub fn local(&self, at_us: i64) -> String {
        Timestamp::from_microsecond(at_us).map_or_else(
            |_| at_us.to_string(),
            |at| at.to_zoned_datetime(self.time_zone.clone()).to_string(),
        )
    }

    fn expressions(&self, job: Job) -> impl Iterator<Item = &Expression> {
        let expressions = match job {
            Job::Update => [&self.update, &None],
            Job::Retrain => [&self.retrain, &self.fine_tune],
            Job::Maintain => [&self.maintain, &None],
            Job::Backup => [&self.backup, &None],
        };
        expressions.into_iter().flatten()
    }

    /// Local times map to moments in the same order, even across gaps and repetitions, so the first
    /// one that is late enough is the next.
    fn next(&self, expression: &Expression, now_us: i64) -> Option<i64> {
        let mut days = days_from(self.day(now_us)?, Date::tomorrow);
        days.find_map(|day| {
            let mut moments = self.moments(expression, day);
            moments.find(|&moment| moment > now_us)
        })
    }

    /// Searches backwards from tomorrow: a local time that occurs twice is due the first time,
    /// which may be before now although the local time of now is an earlier one.
    fn last(&self, expression: &Expression, now_us: i64) -> Option<i64> {
        let tomorrow = self.day(now_us)?.tomorrow().ok()?;
        let mut days = days_from(tomorrow, Date::yesterday);
        days.find_map(|day| {
            let mut moments = self.moments(expression, day).rev();
            moments.find(|&moment| moment <= now_us)
        })
    }

    fn day(&self, at_us: i64) -> Option<Date> {
        let at = Timestamp::from_microsecond(at_us).ok()?;
        Some(self.time_zone.to_datetime(at).date())
    }

    /// The due times of one day, ascending.
    fn moments<'a>(
        &'a self,
        expression: &'a Expression,
        day: Date,
    ) -> impl DoubleEndedIterator<Item = i64> + 'a {
        let times = expression.falls_on(day).then(|| expression.times());
        times
            .into_iter()
            .flatten()
            .filter_map(move |time| self.moment(day.to_datetime(time)))
    }

    fn moment(&self, local: DateTime) -> Option<i64> {
        let ambiguous = self.time_zone.to_ambiguous_timestamp(local);
        let gap = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
        // In a gap this is the moment before it.
        let earlier = ambiguous.earlier().ok()?;
        let moment = if gap {
            self.time_zone.following(earlier).next()?.timestamp()
        } else {
            earlier
        };
        Some(moment.as_microsecond())
    }
}

fn days_from(day: Date, step: fn(Date) -> Result<Date, jiff::Error>) -> impl Iterator<Item = Date> {
    std::iter::successors(Some(day), move |&day| step(day).ok()).take(HORIZON_DAYS)
}

/// Refuses dates that never occur, such as 31 February.
fn comes(expression: Expression) -> Result<Expression, ExpressionError> {
    let mut days = days_from(jiff::civil::date(2000, 1, 1), Date::tomorrow);
    if days.any(|day| expression.falls_on(day)) {
        Ok(expression)
    } else {
        Err(ExpressionError::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(time_zone: &str, update: &str) -> Plan {
        Plan::new(&Schedule {
            time_zone: time_zone.into(),
            update: update.into(),
            ..Schedule::default()
        })
        .unwrap()
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn said(at_us: Option<i64>) -> String {
        Timestamp::from_microsecond(at_us.unwrap())
            .unwrap()
            .to_string()
    }

    /// All due times from `from` to `to`; `last_due` must agree with them.
    fn due(plan: &Plan, from: &str, to: &str) -> Vec<String> {
        let mut moments = Vec::new();
        let mut now = at(from);
        while let Some(next) = plan.next_due(Job::Update, now)
            && next < at(to)
        {
            assert_eq!(plan.last_due(Job::Update, next), Some(next));
            assert!(plan.last_due(Job::Update, next - 1) < Some(next));
            moments.push(said(Some(next)));
            now = next;
        }
        moments
    }

    #[test]
    fn the_night_before_and_the_night_after() {
        let plan = plan("UTC", "0 2 * * *");
        let last = |job, now_us| said(plan.last_due(job, now_us));
        let next = |job, now_us| said(plan.next_due(job, now_us));
        let noon = at("2026-11-26T12:00:00Z");
        assert_eq!(last(Job::Update, noon), "2026-11-26T02:00:00Z");
        assert_eq!(next(Job::Update, noon), "2026-11-27T02:00:00Z");
        assert_eq!(last(Job::Retrain, noon), "2026-11-22T03:00:00Z");
        assert_eq!(next(Job::Retrain, noon), "2026-11-29T03:00:00Z");
        // It is due at the moment itself; the next one is tomorrow's.
        let two = at("2026-11-26T02:00:00Z");
        assert_eq!(last(Job::Update, two), "2026-11-26T02:00:00Z");
        assert_eq!(last(Job::Update, two - 1), "2026-11-25T02:00:00Z");
        assert_eq!(next(Job::Update, two), "2026-11-27T02:00:00Z");
    }

    #[test]
    fn a_time_that_does_not_exist_is_due_at_the_next_that_does() {
        // Berlin, 29 March 2026: 02:00 is followed by 03:00.
        let berlin = plan("Europe/Berlin", "30 2 * * *");
        assert_eq!(
            due(&berlin, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z"
            ]
        );
        let often = plan("Europe/Berlin", "*/30 1-3 * * *");
        assert_eq!(
            due(&often, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
            [
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z"
            ]
        );
        // Samoa had no 30 December 2011 at all.
        let apia = plan("Pacific/Apia", "0 2 * * *");
        assert_eq!(
            due(&apia, "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z"),
            [
                "2011-12-29T12:00:00Z",
                "2011-12-30T10:00:00Z",
                "2011-12-30T12:00:00Z",
                "2011-12-31T12:00:00Z"
            ]
        );
    }

    #[test]
    fn a_time_that_comes_twice_is_due_once() {
        // Berlin, 25 October 2026: 03:00 is followed by 02:00.
        let berlin = plan("Europe/Berlin", "30 2 * * *");
        assert_eq!(
            due(&berlin, "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z"),
            [
                "2026-10-24T00:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z"
            ]
        );
        // The second 02:10 comes after the only 02:30 that is due.
        let again = at("2026-10-25T01:10:00Z");
        assert_eq!(
            said(berlin.last_due(Job::Update, again)),
            "2026-10-25T00:30:00Z"
        );
        // Midnight occurs twice in Havana.
        let havana = plan("America/Havana", "15 0 * * *");
        assert_eq!(
            due(&havana, "2026-10-31T00:00:00Z", "2026-11-03T00:00:00Z"),
            [
                "2026-10-31T04:15:00Z",
                "2026-11-01T04:15:00Z",
                "2026-11-02T05:15:00Z"
            ]
        );
    }

    #[test]
    fn fine_tuning_is_a_retraining() {
        let plan = Plan::new(&Schedule {
            fine_tune: "0 3 * * 1-6".into(),
            maintain: String::new(),
            ..Schedule::default()
        })
        .unwrap();
        let thursday = at("2026-11-26T12:00:00Z");
        assert_eq!(
            said(plan.last_due(Job::Retrain, thursday)),
            "2026-11-26T03:00:00Z"
        );
        assert_eq!(said(plan.last_training(thursday)), "2026-11-22T03:00:00Z");
        assert_eq!(plan.last_due(Job::Maintain, thursday), None);
        assert_eq!(plan.next_due(Job::Maintain, thursday), None);
    }

    #[test]
    fn what_never_comes_is_refused() {
        let refused = |schedule: Schedule| Plan::new(&schedule).unwrap_err().to_string();
        let leap = Schedule {
            backup: "0 0 29 2 *".into(),
            ..Schedule::default()
        };
        let due = Plan::new(&leap)
            .unwrap()
            .next_due(Job::Backup, at("2096-03-01T00:00:00Z"));
        assert_eq!(said(due), "2104-02-29T00:00:00Z");
        assert_eq!(
            refused(Schedule {
                backup: "0 0 31 2 *".into(),
                ..Schedule::default()
            }),
            "backup = \"0 0 31 2 *\": names a day that never comes"
        );
        assert!(
            refused(Schedule {
                time_zone: "Berlin".into(),
                ..Schedule::default()
            })
            .starts_with("time_zone is `Berlin`, which")
        );
    }

    #[test]
    fn local_times_name_their_zone() {
        assert_eq!(
            plan("Europe/Berlin", "").local(at("2026-11-26T01:00:00Z")),
            "2026-11-26T02:00:00+01:00[Europe/Berlin]"
        );
    }
}
