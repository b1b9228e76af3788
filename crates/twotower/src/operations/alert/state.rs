//! The state machine of alerts, and what each channel was told: pure transitions without files,
//! clocks or sockets.
//!
//! A failure starts to fire after it has lasted for as long as its severity says, and is resolved
//! as soon as its check passes. If it fails again soon after that, it is flapping: it fires once
//! more, and is resolved only after the check has passed for the flapping time. So the first
//! recovery is reported at once, while an alert that flaps all day makes four messages. A check
//! that was skipped changes nothing.

use crate::config;
use crate::operations::check::{Check, Finding, Severity, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use twotower_core::time::MINUTE_US;

/// How long an alert waits before it fires, before it is resolved, and before it is repeated.
#[expect(clippy::struct_field_names, reason = "names say the unit")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    critical_us: i64,
    warning_us: i64,
    flapping_us: i64,
    repeat_us: Option<i64>,
}

impl From<&config::Alerts> for Timing {
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

impl Timing {
    fn before_firing(&self, severity: Severity) -> i64 {
        match severity {
            Severity::Critical => self.critical_us,
            Severity::Warning => self.warning_us,
        }
    }
}

/// The phase of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Failing, but not for long enough to alert.
    Pending,
    /// Failing.
    Firing,
    /// Passing again.
    Resolved {
        /// Since when, microseconds since 1970.
        at_us: i64,
    },
}

/// The last message about an alert on one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMessage {
    /// Whether it said that the alert fires, or that it is resolved.
    pub firing: bool,
    /// When it was sent.
    pub at_us: i64,
}

/// Why a channel is sent an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// It started to fire.
    Firing,
    /// It is still firing, and the last message is old.
    StillFiring,
    /// It is resolved.
    Resolved,
}

/// A check that fails, or did a short while ago. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Name of the check.
    pub check: String,
    /// Which of several things the check covers, such as a job.
    pub subject: Option<String>,
    /// What the check asks.
    pub title: String,
    /// Severity of the check.
    pub severity: Severity,
    /// Its phase.
    pub phase: Phase,
    /// When it was first seen to fail.
    pub since_us: i64,
    /// When it was last seen to fail.
    pub last_seen_us: i64,
    /// While flapping: since when it has been passing.
    pub right_since_us: Option<i64>,
    /// Whether it is flapping.
    pub flapping: bool,
    /// The latest evidence.
    pub evidence: String,
    /// What to do.
    pub fix: String,
    /// The last message on each channel, by channel name.
    pub told: BTreeMap<String, LastMessage>,
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

    /// Its unique key: check and subject.
    pub fn key(&self) -> String {
        match &self.subject {
            Some(subject) => format!("{}/{subject}", self.check),
            None => self.check.clone(),
        }
    }

    fn is_of(&self, finding: &Finding) -> bool {
        self.check == finding.check && self.subject == finding.subject
    }

    /// Limits all times to now: otherwise, after a clock that was ahead is corrected, no message
    /// would be sent until those times.
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

    fn is_wrong(&mut self, finding: &Finding, now_us: i64, timing: &Timing) {
        if let Phase::Resolved { at_us } = self.phase {
            if now_us - at_us < timing.flapping_us {
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
        let long_enough = now_us - self.since_us >= timing.before_firing(self.severity);
        if self.phase == Phase::Pending && long_enough {
            self.phase = Phase::Firing;
        }
    }

    /// Records that the check passes; returns whether the alert is to be kept.
    fn is_right(&mut self, now_us: i64, timing: &Timing) -> bool {
        match self.phase {
            // This failure was not reported, but an earlier one was: its channel is still owed the
            // end.
            Phase::Pending if self.told.values().any(|mark| mark.firing) => {
                self.phase = Phase::Resolved { at_us: now_us };
            }
            Phase::Pending => return false,
            Phase::Firing => {
                let since_us = *self.right_since_us.get_or_insert(now_us);
                if !self.flapping || now_us - since_us >= timing.flapping_us {
                    self.phase = Phase::Resolved { at_us: since_us };
                }
            }
            Phase::Resolved { .. } => {}
        }
        true
    }

    /// Why `channel` is owed a message now, if it is.
    pub(super) fn owed(&self, channel: &str, now_us: i64, timing: &Timing) -> Option<Occasion> {
        let knows = self.told.get(channel).filter(|mark| mark.firing);
        match (self.phase, knows) {
            (Phase::Pending, _) | (Phase::Resolved { .. }, None) => None,
            (Phase::Resolved { .. }, Some(_)) => Some(Occasion::Resolved),
            (Phase::Firing, Some(mark)) if mark.at_us >= self.since_us => {
                let due = |repeat_us| now_us - mark.at_us >= repeat_us;
                let due = timing.repeat_us.is_some_and(due);
                due.then_some(Occasion::StillFiring)
            }
            (Phase::Firing, _) => Some(Occasion::Firing),
        }
    }
}

/// All alerts, sorted by check and subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// No two have the same key.
    pub(super) alerts: Vec<Alert>,
}

impl State {
    /// Updates the alerts with the findings of a round, for the watched checks of `catalogue`. An
    /// alert that its check does not report, though the check could run, has passed.
    pub(super) fn observe(
        &mut self,
        catalogue: &[Check],
        findings: &[Finding],
        now_us: i64,
        timing: &Timing,
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
            self.alerts[at].is_wrong(finding, now_us, timing);
        }
        self.alerts.retain_mut(|alert| {
            let mut own = findings.iter().filter(|finding| alert.is_of(finding));
            let any_failed = own.clone().any(|it| it.verdict == Verdict::Failed);
            let skipped = own.any(|it| it.verdict == Verdict::Skipped);
            let looked = |it: &Finding| it.check == alert.check && it.verdict != Verdict::Skipped;
            if any_failed || skipped || !findings.iter().any(looked) {
                return true;
            }
            alert.is_right(now_us, timing)
        });
        self.alerts
            .sort_by(|a, b| (&a.check, &a.subject).cmp(&(&b.check, &b.subject)));
    }

    /// Records that `channel` was sent the alert `key`.
    pub(super) fn told(&mut self, channel: &str, key: &str, occasion: Occasion, now_us: i64) {
        if let Some(alert) = self.alerts.iter_mut().find(|alert| alert.key() == key) {
            let mark = LastMessage {
                firing: occasion != Occasion::Resolved,
                at_us: now_us,
            };
            alert.told.insert(channel.into(), mark);
        }
    }

    /// Drops alerts that have been resolved for longer than the flapping time, and whose end all of
    /// `channels` know.
    pub(super) fn forget(&mut self, channels: &[&str], now_us: i64, timing: &Timing) {
        self.alerts.retain(|alert| {
            let Phase::Resolved { at_us } = alert.phase else {
                return true;
            };
            let owed = |channel: &&str| alert.owed(channel, now_us, timing).is_some();
            now_us - at_us < timing.flapping_us || channels.iter().any(owed)
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

    /// One channel that accepts every message.
    struct Scene {
        state: State,
        timing: Timing,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                state: State::default(),
                timing: Timing::from(&config::Alerts::default()),
            }
        }

        fn round(&mut self, minute: i64, findings: &[Finding]) -> Vec<(String, Occasion)> {
            let now_us = minute * MINUTE_US;
            self.state
                .observe(CATALOGUE, findings, now_us, &self.timing);
            let owed = |alert: &Alert| Some((alert.key(), alert.owed("a", now_us, &self.timing)?));
            let owed: Vec<_> = self.state.alerts.iter().filter_map(owed).collect();
            for (key, occasion) in &owed {
                self.state.told("a", key, *occasion, now_us);
            }
            self.state.forget(&["a"], now_us, &self.timing);
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
        let timing = scene.timing;
        let owed = |scene: &Scene, minute: i64| {
            let alert = &scene.state.alerts[0];
            alert.owed("b", minute * MINUTE_US, &timing)
        };
        assert_eq!(owed(&scene, 1), Some(Firing));
        let key = scene.state.alerts[0].key();
        scene.state.told("b", &key, Firing, MINUTE_US);
        assert_eq!(owed(&scene, 2), None);
        scene.run(3, Passed);
        assert_eq!(owed(&scene, 4), Some(Resolved));
        scene.state.forget(&["a", "b"], 600 * MINUTE_US, &timing);
        assert_eq!(scene.state.alerts.len(), 1, "b does not know yet");
        scene.run(601, Failed);
        assert_eq!(owed(&scene, 601), Some(Firing), "another time it is wrong");
        scene.state.told("b", &key, Firing, 601 * MINUTE_US);
        // c was added after the end, and is not told of it.
        scene.run(602, Passed);
        let alert = &scene.state.alerts[0];
        assert_eq!(alert.owed("c", 603 * MINUTE_US, &timing), None);
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
