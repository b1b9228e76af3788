//! Two model versions served side by side. A hash assigns users to them.

use crate::StoreError;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

/// The running experiment, as needed to assign users.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Id of the experiment.
    pub id: i64,
    /// Version that was active at the start.
    pub control: i64,
    /// Version under test.
    pub challenger: i64,
    /// Share of users assigned to the challenger, between 0 and 1.
    pub share: f64,
    /// Makes assignments independent across experiments.
    pub salt: [u8; 16],
}

/// One of the two versions of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The version that was active before.
    Control,
    /// The version under test.
    Challenger,
}

/// An experiment to start.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExperiment {
    /// Active version.
    pub control: i64,
    /// Version under test.
    pub challenger: i64,
    /// Share of users assigned to it, between 0 and 1.
    pub share: f64,
    /// Operator who starts it.
    pub by: String,
    /// Reason for it.
    pub reason: String,
}

/// An experiment, running or ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExperimentRecord {
    /// Id of the experiment.
    pub id: i64,
    /// Version that was active at the start.
    pub control: i64,
    /// Version under test.
    pub challenger: i64,
    /// Share of users assigned to the challenger, between 0 and 1.
    pub share: f64,
    /// Microseconds since 1970.
    pub started_at_us: i64,
    /// Microseconds since 1970; `None` while it runs.
    pub ended_at_us: Option<i64>,
    /// Operator who started it.
    pub by: String,
    /// Reason for it.
    pub reason: String,
}

/// What one user was shown and did during an experiment. Counts distinct videos, however often each
/// was shown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ExperimentUser {
    /// Videos shown.
    pub shown: u64,
    /// Of those, viewed with a watched fraction above 0, or liked.
    pub clicked: u64,
    /// Of those shown, liked.
    pub liked: u64,
    /// Number of views.
    pub views: u64,
    /// Sum of the watched fractions, over views of shown videos that report one.
    pub watched: f64,
    /// Number of views of shown videos that report the watched fraction.
    pub measured: u64,
    /// Shown videos whose maker is known.
    pub with_maker: u64,
    /// Pairs among those with the same maker.
    pub same_maker: u64,
    /// Shown videos whose publication time is known.
    pub dated: u64,
    /// Sum of their ages when first shown, days.
    pub age_days: f64,
}

/// What an arm was shown, over all its users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArmTotals {
    /// Share of the catalogue that was shown.
    pub coverage: ArmCoverage,
    /// Versions that produced it.
    pub origins: ArmOrigins,
}

/// Versions that recommended what an arm was shown, as reported by the senders of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ArmOrigins {
    /// Impressions that report a version.
    pub named: u64,
    /// Of those, impressions that report another version than the arm's.
    pub others: u64,
}

/// Share of the catalogue that an arm was shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ArmCoverage {
    /// Distinct videos shown.
    pub videos: u64,
    /// Videos in the catalogue.
    pub catalogue: u64,
}

/// Id, control, challenger, share of users, salt.
pub(crate) type RunningRow = (i64, i64, i64, f64, Vec<u8>);

/// In the order of the fields of [`ExperimentRecord`].
pub(crate) type ExperimentRow = (i64, i64, i64, f64, i64, Option<i64>, String, String);

/// In the order of the fields of [`ExperimentUser`].
pub(crate) type ExperimentUserRow = (i64, i64, i64, i64, f64, i64, i64, i64, i64, f64);

/// Distinct videos shown, impressions that report a version, those of another version than the
/// arm's, videos in the catalogue.
pub(crate) type ArmTotalsRow = (i64, i64, i64, i64);

impl From<ExperimentRow> for ExperimentRecord {
    fn from(row: ExperimentRow) -> Self {
        let (id, control, challenger, share, started_at_us, ended_at_us, by, reason) = row;
        Self {
            id,
            control,
            challenger,
            share,
            started_at_us,
            ended_at_us,
            by,
            reason,
        }
    }
}

impl From<ExperimentUserRow> for ExperimentUser {
    fn from(row: ExperimentUserRow) -> Self {
        let (
            shown,
            clicked,
            liked,
            views,
            watched,
            measured,
            with_maker,
            same_maker,
            dated,
            age_days,
        ) = row;
        Self {
            shown: shown as u64,
            clicked: clicked as u64,
            liked: liked as u64,
            views: views as u64,
            watched,
            measured: measured as u64,
            with_maker: with_maker as u64,
            same_maker: same_maker as u64,
            dated: dated as u64,
            age_days,
        }
    }
}

impl From<ArmTotalsRow> for ArmTotals {
    fn from((videos, named, others, catalogue): ArmTotalsRow) -> Self {
        Self {
            coverage: ArmCoverage {
                videos: videos as u64,
                catalogue: catalogue as u64,
            },
            origins: ArmOrigins {
                named: named as u64,
                others: others as u64,
            },
        }
    }
}

impl Experiment {
    pub(crate) fn from_row(
        (id, control, challenger, share, salt): RunningRow,
    ) -> Result<Self, StoreError> {
        let salt = salt.try_into().map_err(|_| StoreError::Row {
            query: "experiments",
            column: "salt",
            reason: "is not 16 bytes long".into(),
        })?;
        Ok(Self {
            id,
            control,
            challenger,
            share,
            salt,
        })
    }

    /// The arm of a user. It is stable, and independent of their arm in any other experiment.
    pub fn arm(&self, user: Uuid) -> Arm {
        let hash = Sha256::new()
            .chain_update(self.salt)
            .chain_update(user.as_bytes())
            .finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        // 53 bits fill the mantissa: uniform in 0..1.
        let place = (u64::from_be_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64;
        if place < self.share {
            Arm::Challenger
        } else {
            Arm::Control
        }
    }

    /// Whether the control is still `active`, the version that readers see. An experiment ends when
    /// another version becomes active.
    pub fn is_against(&self, active: Option<i64>) -> bool {
        active == Some(self.control)
    }

    /// Version that a user is served.
    pub fn version(&self, user: Uuid) -> i64 {
        match self.arm(user) {
            Arm::Control => self.control,
            Arm::Challenger => self.challenger,
        }
    }
}

impl Arm {
    /// Both arms.
    pub const ALL: [Self; 2] = [Self::Control, Self::Challenger];

    /// Spelling in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Challenger => "challenger",
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(share: f64, salt: u8) -> Experiment {
        Experiment {
            id: 1,
            control: 1,
            challenger: 2,
            share,
            salt: [salt; 16],
        }
    }

    fn challengers(experiment: &Experiment, users: u128) -> u128 {
        let arms = (0..users).map(|n| experiment.arm(Uuid::from_u128(n)));
        arms.filter(|&arm| arm == Arm::Challenger).count() as u128
    }

    #[test]
    fn shares_are_kept_and_arms_are_stable() {
        for share in [0.01, 0.1, 0.5, 0.9] {
            let experiment = experiment(share, 7);
            let users = 100_000;
            // Four standard deviations.
            let expected = share * users as f64;
            let tolerance = 4.0 * (expected * (1.0 - share)).sqrt();
            let found = challengers(&experiment, users);
            assert!((found as f64 - expected).abs() < tolerance, "{found}");
        }
        // Known answers: another hash would move users between the arms of running experiments.
        let arms: Vec<bool> = (0..16)
            .map(|n| experiment(0.5, 7).arm(Uuid::from_u128(n)) == Arm::Challenger)
            .collect();
        let word = arms
            .iter()
            .fold(0_u16, |word, &arm| word << 1 | u16::from(arm));
        assert_eq!(word, 0x708e, "{word:#06x}");
    }

    #[test]
    fn it_is_against_its_control_alone() {
        let experiment = experiment(0.5, 7);
        assert!(experiment.is_against(Some(1)));
        assert!(!experiment.is_against(Some(2)) && !experiment.is_against(None));
    }

    #[test]
    fn a_larger_share_takes_nobody_out_and_another_salt_mixes_anew() {
        let (small, large) = (experiment(0.2, 1), experiment(0.4, 1));
        let other = experiment(0.2, 2);
        let mut both = 0;
        for n in 0..10_000 {
            let user = Uuid::from_u128(n);
            if small.arm(user) == Arm::Challenger {
                assert_eq!(large.version(user), 2);
                both += u32::from(other.arm(user) == Arm::Challenger);
            }
        }
        // A fifth of a fifth.
        assert!((300..500).contains(&both), "{both}");
    }
}
