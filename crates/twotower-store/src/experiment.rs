//! Two model versions served side by side, to users told apart by a hash.

use crate::StoreError;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

/// An experiment that runs: who gets which version.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Number of it.
    pub id: i64,
    /// Version that was active when it began.
    pub control: i64,
    /// Version that is tried.
    pub challenger: i64,
    /// Share of the users who get the challenger, between 0 and 1.
    pub share: f64,
    /// Makes the arms of one experiment independent of those of another.
    pub salt: [u8; 16],
}

/// Which of the two versions a user gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The one that was there before.
    Control,
    /// The one that is tried.
    Challenger,
}

/// An experiment to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExperiment {
    /// Active version.
    pub control: i64,
    /// Version to be tried.
    pub challenger: i64,
    /// Share of the users who get it, between 0 and 1.
    pub share: f64,
    /// Who starts it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// An experiment, running or over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExperimentRecord {
    /// Number of it.
    pub id: i64,
    /// Version that was active when it began.
    pub control: i64,
    /// Version that is tried.
    pub challenger: i64,
    /// Share of the users who get the challenger.
    pub share: f64,
    /// Microseconds since 1970.
    pub started_at_us: i64,
    /// Microseconds since 1970; `None` while it runs.
    pub ended_at_us: Option<i64>,
    /// Who started it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What one user was shown during an experiment, and did with it. Of pairs of a user and a video, however often it was shown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ExperimentUser {
    /// Videos shown.
    pub shown: u64,
    /// Of those, viewed (with more than nothing watched) or liked.
    pub clicked: u64,
    /// Of those shown, liked.
    pub liked: u64,
    /// Views.
    pub views: u64,
    /// Sum of the watched fractions of views of videos shown that tell one.
    pub watched: f64,
    /// Views of videos shown that tell the fraction watched.
    pub measured: u64,
    /// Of those shown, the ones whose maker is known.
    pub with_maker: u64,
    /// Pairs of those that are of one maker.
    pub same_maker: u64,
    /// Of those shown, the ones whose time of publication is known.
    pub dated: u64,
    /// Sum of their ages when they were first shown, days.
    pub age_days: f64,
}

/// What an arm was shown as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArmTotals {
    /// How much of the catalogue.
    pub coverage: ArmCoverage,
    /// From which versions.
    pub origins: ArmOrigins,
}

/// Which versions recommended what an arm was shown, as the senders of events say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ArmOrigins {
    /// Impressions that name a version.
    pub named: u64,
    /// Of those, the ones that name another version than the arm's.
    pub others: u64,
}

/// How much of the catalogue an arm was shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ArmCoverage {
    /// Distinct videos.
    pub videos: u64,
    /// Videos in the catalogue.
    pub catalogue: u64,
}

/// Number, control, challenger, share of its users, salt.
pub(crate) type RunningRow = (i64, i64, i64, f64, Vec<u8>);

/// In the order of the fields of [`ExperimentRecord`].
pub(crate) type ExperimentRow = (i64, i64, i64, f64, i64, Option<i64>, String, String);

/// In the order of the fields of [`ExperimentUser`].
pub(crate) type ExperimentUserRow = (i64, i64, i64, i64, f64, i64, i64, i64, i64, f64);

/// Distinct videos, impressions that name a version, those that name another than the arm's, videos in the catalogue.
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

    /// The arm of a user: always the same one, and independent of their arm in any other experiment.
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

    /// Whether it compares with `active`, the version that readers see: what the challenger is tried against, and what ends it when another
    /// one takes its place. One whose control is not active any more is nobody's.
    pub fn is_against(&self, active: Option<i64>) -> bool {
        active == Some(self.control)
    }

    /// Version that a user gets.
    pub fn version(&self, user: Uuid) -> i64 {
        match self.arm(user) {
            Arm::Control => self.control,
            Arm::Challenger => self.challenger,
        }
    }
}

impl Arm {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Control, Self::Challenger];

    /// How the database spells it.
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
        // Known answers: who has another hash mixes the arms of running experiments.
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
