//! Which alerts there are, and what each channel was told of them: transitions without files, clocks or sockets.
//!
//! The rules. Something that is wrong fires once it has been wrong for as long as its severity says, and is over when it is right. Wrong
//! again soon after that, it comes and goes: then it is told once more, and is over only when it has been right for that long. So the
//! first recovery is told at once, and whatever goes on and off as it likes makes four messages. What cannot be looked at changes nothing.

use crate::config;
use crate::operations::check::{Check, Finding, Severity, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use twotower_core::time::MINUTE_US;

/// How patient alerts are.
#[expect(clippy::struct_field_names, reason = "names say the unit")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    critical_us: i64,
    warning_us: i64,
    flapping_us: i64,
    repeat_us: Option<i64>,
}

impl From<&config::Alerts> for Patience {
    fn from(alerts: &config::Alerts) -> Self {
        let minutes = |minutes: u32| i64::from(minutes) * MINUTE_US;
        let repeat_us = minutes(alerts.repeat_hours * 60);
        Self {
            critical_us: minutes(alerts.critical_after_minutes),
            warning_us: minutes(alerts.warning_after_minutes),
            flapping_us: minutes(alerts.flapping_minutes),
            repeat_us: (repeat_us > 0).then_some(repeat_us),
        }
    }
}

impl Patience {
    fn before_firing(&self, severity: Severity) -> i64 {
        match severity {
            Severity::Critical => self.critical_us,
            Severity::Warning => self.warning_us,
        }
    }
}

/// How far an alert has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Wrong, and not yet for long enough to tell.
    Pending,
    /// Wrong.
    Firing,
    /// Right again.
    Resolved {
        /// Since then.
        at_us: i64,
    },
}

/// What a channel was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// That it fires; else that it is over.
    pub firing: bool,
    /// When.
    pub at_us: i64,
}

/// Why a channel is told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// It fires.
    Firing,
    /// It has been firing for long.
    StillFiring,
    /// It is over.
    Resolved,
}

/// Something that is wrong, or was until not long ago. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Name of the check.
    pub check: String,
    /// Which of several things of its kind.
    pub subject: Option<String>,
    /// What the check asks.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// How far it has come.
    pub phase: Phase,
    /// When it was first seen to be wrong.
    pub since_us: i64,
    /// When it was last seen to be wrong.
    pub last_seen_us: i64,
    /// Of one that comes and goes: since when it has been right.
    pub right_since_us: Option<i64>,
    /// It comes and goes.
    pub flapping: bool,
    /// What was seen last.
    pub evidence: String,
    /// What to do.
    pub fix: String,
    /// By channel.
    pub told: BTreeMap<String, Mark>,
}

impl Alert {
    fn new(check: &Check, severity: Severity, finding: &Finding, now_us: i64) -> Self {
        Self {
            check: check.name.into(),
            subject: finding.subject.clone(),
            title: check.title.into(),
            severity,
            phase: Phase::Pending,
            since_us: now_us,
            last_seen_us: now_us,
            right_since_us: None,
            flapping: false,
            evidence: String::new(),
            fix: String::new(),
            told: BTreeMap::new(),
        }
    }

    /// What names it: check and subject.
    pub fn key(&self) -> String {
        match &self.subject {
            Some(subject) => format!("{}/{subject}", self.check),
            None => self.check.clone(),
        }
    }

    fn is_of(&self, finding: &Finding) -> bool {
        self.check == finding.check && self.subject == finding.subject
    }

    /// A clock that was ahead and was put right must not keep anybody silent until then.
    fn not_after(&mut self, now_us: i64) {
        let times = [&mut self.since_us, &mut self.last_seen_us];
        let times = times.into_iter().chain(&mut self.right_since_us);
        for time in times.chain(self.told.values_mut().map(|mark| &mut mark.at_us)) {
            *time = now_us.min(*time);
        }
        if let Phase::Resolved { at_us } = &mut self.phase {
            *at_us = now_us.min(*at_us);
        }
    }

    fn is_wrong(&mut self, finding: &Finding, now_us: i64, patience: &Patience) {
        if let Phase::Resolved { at_us } = self.phase {
            if now_us - at_us < patience.flapping_us {
                self.phase = Phase::Firing;
                self.flapping = true;
            } else {
                self.phase = Phase::Pending;
                self.flapping = false;
                self.since_us = now_us;
            }
        }
        self.last_seen_us = now_us;
        self.right_since_us = None;
        self.evidence.clone_from(&finding.evidence);
        self.fix.clone_from(&finding.fix);
        let long_enough = now_us - self.since_us >= patience.before_firing(self.severity);
        if self.phase == Phase::Pending && long_enough {
            self.phase = Phase::Firing;
        }
    }

    /// Whether it is still of interest.
    fn is_right(&mut self, now_us: i64, patience: &Patience) -> bool {
        match self.phase {
            // Nobody was told of this time; one who was told of an earlier one and not of its end is owed that.
            Phase::Pending if self.told.values().any(|mark| mark.firing) => {
                self.phase = Phase::Resolved { at_us: now_us };
            }
            Phase::Pending => return false,
            Phase::Firing => {
                let since_us = *self.right_since_us.get_or_insert(now_us);
                if !self.flapping || now_us - since_us >= patience.flapping_us {
                    self.phase = Phase::Resolved { at_us: since_us };
                }
            }
            Phase::Resolved { .. } => {}
        }
        true
    }

    /// Why `channel` is to be told of it now, if it is.
    pub(super) fn owed(&self, channel: &str, now_us: i64, patience: &Patience) -> Option<Occasion> {
        let knows = self.told.get(channel).filter(|mark| mark.firing);
        match (self.phase, knows) {
            (Phase::Pending, _) | (Phase::Resolved { .. }, None) => None,
            (Phase::Resolved { .. }, Some(_)) => Some(Occasion::Resolved),
            (Phase::Firing, Some(mark)) if mark.at_us >= self.since_us => {
                let due = |repeat_us| now_us - mark.at_us >= repeat_us;
                let due = patience.repeat_us.is_some_and(due);
                due.then_some(Occasion::StillFiring)
            }
            (Phase::Firing, _) => Some(Occasion::Firing),
        }
    }
}

/// All alerts, by check and subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// No two have the same key.
    pub(super) alerts: Vec<Alert>,
}

impl State {
    /// Takes up what a round found of the checks of `catalogue` that are watched. What such a check no longer speaks of, though it
    /// could look, is over.
    pub(super) fn observe(
        &mut self,
        catalogue: &[Check],
        findings: &[Finding],
        now_us: i64,
        patience: &Patience,
    ) {
        for alert in &mut self.alerts {
            alert.not_after(now_us);
        }
        for finding in findings.iter().filter(|it| it.verdict == Verdict::Failed) {
            let check = catalogue.iter().find(|check| check.name == finding.check);
            let Some((check, severity)) = check.and_then(|check| Some((check, check.watched?)))
            else {
                continue;
            };
            let at = self.alerts.iter().position(|alert| alert.is_of(finding));
            let at = at.unwrap_or_else(|| {
                self.alerts
                    .push(Alert::new(check, severity, finding, now_us));
                self.alerts.len() - 1
            });
            self.alerts[at].is_wrong(finding, now_us, patience);
        }
        self.alerts.retain_mut(|alert| {
            let mut own = findings.iter().filter(|finding| alert.is_of(finding));
            let any_failed = own.clone().any(|it| it.verdict == Verdict::Failed);
            let skipped = own.any(|it| it.verdict == Verdict::Skipped);
            let looked = |it: &Finding| it.check == alert.check && it.verdict != Verdict::Skipped;
            if any_failed || skipped || !findings.iter().any(looked) {
                return true;
            }
            alert.is_right(now_us, patience)
        });
        self.alerts
            .sort_by(|a, b| (&a.check, &a.subject).cmp(&(&b.check, &b.subject)));
    }

    /// `channel` was told of the alert `key`.
    pub(super) fn told(&mut self, channel: &str, key: &str, occasion: Occasion, now_us: i64) {
        if let Some(alert) = self.alerts.iter_mut().find(|alert| alert.key() == key) {
            let mark = Mark {
                firing: occasion != Occasion::Resolved,
                at_us: now_us,
            };
            alert.told.insert(channel.into(), mark);
        }
    }

    /// Forgets what is over, what every one of `channels` knows to be over, and what has been so for longer than things come and go.
    pub(super) fn forget(&mut self, channels: &[&str], now_us: i64, patience: &Patience) {
        self.alerts.retain(|alert| {
            let Phase::Resolved { at_us } = alert.phase else {
                return true;
            };
            let owed = |channel: &&str| alert.owed(channel, now_us, patience).is_some();
            now_us - at_us < patience.flapping_us || channels.iter().any(owed)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::CATALOGUE;

    fn finding(check: &'static str, subject: Option<&str>, verdict: Verdict) -> Finding {
        Finding {
            check,
            subject: subject.map(str::to_owned),
            verdict,
            evidence: "seen".into(),
            fix: "mend it".into(),
        }
    }

    /// One channel that always takes what it is told.
    struct Scene {
        state: State,
        patience: Patience,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                state: State::default(),
                patience: Patience::from(&config::Alerts::default()),
            }
        }

        fn round(&mut self, minute: i64, findings: &[Finding]) -> Vec<(String, Occasion)> {
            let now_us = minute * MINUTE_US;
            self.state
                .observe(CATALOGUE, findings, now_us, &self.patience);
            let owed =
                |alert: &Alert| Some((alert.key(), alert.owed("a", now_us, &self.patience)?));
            let owed: Vec<_> = self.state.alerts.iter().filter_map(owed).collect();
            for (key, occasion) in &owed {
                self.state.told("a", key, *occasion, now_us);
            }
            self.state.forget(&["a"], now_us, &self.patience);
            owed
        }

        fn run(&mut self, minute: i64, verdict: Verdict) -> Vec<Occasion> {
            let said = self.round(minute, &[finding("run-failed", Some("update"), verdict)]);
            said.into_iter().map(|(_, occasion)| occasion).collect()
        }
    }

    use Occasion::{Firing, Resolved, StillFiring};
    use Verdict::{Failed, Passed, Skipped, Warned};

    #[test]
    fn it_is_told_once_then_once_a_day_then_that_it_is_over() {
        let mut scene = Scene::new();
        assert_eq!(scene.run(0, Failed), [Firing]);
        assert_eq!(scene.run(1, Failed), []);
        assert_eq!(scene.run(2, Skipped), []);
        assert_eq!(scene.run(24 * 60 - 1, Failed), []);
        assert_eq!(scene.run(24 * 60, Failed), [StillFiring]);
        assert_eq!(scene.run(24 * 60 + 1, Failed), []);
        assert_eq!(scene.run(24 * 60 + 2, Passed), [Resolved]);
        assert_eq!(scene.run(24 * 60 + 3, Passed), []);
        assert_eq!(scene.run(26 * 60, Passed), []);
        assert_eq!(scene.state, State::default(), "nothing is left of it");
    }

    #[test]
    fn what_comes_and_goes_every_minute_for_a_day_makes_four_messages() {
        let mut scene = Scene::new();
        let mut said = Vec::new();
        for minute in 0..12 * 60 {
            said.extend(scene.run(minute, if minute % 2 == 0 { Failed } else { Passed }));
        }
        assert_eq!(said, [Firing, Resolved, Firing]);
        assert!(scene.state.alerts[0].flapping);
        for minute in 12 * 60..14 * 60 {
            said.extend(scene.run(minute, Passed));
        }
        assert_eq!(said, [Firing, Resolved, Firing, Resolved]);
        assert_eq!(scene.state, State::default());
        assert_eq!(scene.run(14 * 60, Failed), [Firing], "and it starts afresh");
    }

    #[test]
    fn a_warning_waits_and_what_is_no_failure_does_not_fire() {
        let mut scene = Scene::new();
        let mut connections =
            |minute, verdict| scene.round(minute, &[finding("connections", None, verdict)]);
        assert_eq!(connections(0, Failed), []);
        assert_eq!(connections(5, Passed), []);
        assert_eq!(connections(9, Failed), []);
        assert_eq!(connections(18, Failed), []);
        assert_eq!(
            connections(19, Failed),
            [("connections".to_owned(), Firing)]
        );
        assert_eq!(
            connections(20, Warned),
            [("connections".to_owned(), Resolved)]
        );
        let unwatched = [
            finding("grants", None, Failed),
            finding("new", None, Failed),
        ];
        assert_eq!(scene.round(200, &unwatched), []);
    }

    #[test]
    fn what_is_no_longer_spoken_of_is_over_unless_nobody_could_look() {
        let mut scene = Scene::new();
        let failed = |subject| finding("run-failed", Some(subject), Failed);
        let both = [failed("update"), failed("backup")];
        assert_eq!(scene.round(0, &both).len(), 2);
        assert_eq!(scene.round(1, &[finding("run-failed", None, Skipped)]), []);
        assert_eq!(scene.round(2, &[finding("connections", None, Passed)]), []);
        let over = [("run-failed/backup".to_owned(), Resolved)];
        assert_eq!(scene.round(3, &[failed("update")]), over);
    }

    #[test]
    fn a_channel_that_was_away_hears_what_it_missed_and_no_more() {
        let mut scene = Scene::new();
        scene.run(0, Failed);
        let patience = scene.patience;
        let owed = |scene: &Scene, minute: i64| {
            let alert = &scene.state.alerts[0];
            alert.owed("b", minute * MINUTE_US, &patience)
        };
        assert_eq!(owed(&scene, 1), Some(Firing));
        let key = scene.state.alerts[0].key();
        scene.state.told("b", &key, Firing, MINUTE_US);
        assert_eq!(owed(&scene, 2), None);
        scene.run(3, Passed);
        assert_eq!(owed(&scene, 4), Some(Resolved));
        scene.state.forget(&["a", "b"], 600 * MINUTE_US, &patience);
        assert_eq!(scene.state.alerts.len(), 1, "b does not know yet");
        scene.run(601, Failed);
        assert_eq!(owed(&scene, 601), Some(Firing), "another time it is wrong");
        scene.state.told("b", &key, Firing, 601 * MINUTE_US);
        // c came after all of it, and need not hear of an end.
        scene.run(602, Passed);
        let alert = &scene.state.alerts[0];
        assert_eq!(alert.owed("c", 603 * MINUTE_US, &patience), None);
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_nobody_silent() {
        let mut scene = Scene::new();
        let year = 365 * 24 * 60;
        assert_eq!(scene.run(year, Failed), [Firing]);
        assert_eq!(scene.run(0, Failed), []);
        assert_eq!(scene.run(24 * 60, Failed), [StillFiring]);
        assert_eq!(scene.run(24 * 60 + 5, Passed), [Resolved]);
    }
}
