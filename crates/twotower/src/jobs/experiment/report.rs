use anyhow::Context;
use serde::Serialize;
use std::fmt;
use twotower_core::ab_test::{Difference, Estimate, RatioSums, SampleRatio};
use twotower_store::{Arm, ArmCoverage, ArmOrigins, ExperimentRecord, ExperimentUser, Store};

/// Below this chance a difference is told.
const SIGNIFICANT: f64 = 0.05;

/// The difference, relative to the control, for which the users needed are given.
const RELATIVE: f64 = 0.05;

/// Of the impressions that name a version, the part that may name another one than the arm's: lists that were made before the experiment began
/// are shown a little longer.
const STRAY_PERCENT: u64 = 1;

/// As many impressions that name another version than the arm's are told at the least: of the few of a first hour, a single list from before the
/// experiment is more than that part, and says nothing of any server.
const FEWEST_STRAYS: u64 = 20;

/// What is compared. Each is a ratio of sums over users, of what they were shown at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Of the videos shown to a user, those they viewed (more than nothing of it) or liked.
    ClickThroughRate,
    /// Of the videos shown to a user, those they liked.
    LikeRate,
    /// Mean part watched, of views that tell it.
    WatchFraction,
    /// Distinct makers for each video shown to a user, of videos with a maker: 1 if no maker comes twice.
    Diversity,
    /// Mean age of the videos when first shown to a user, days since publication (or arrival in the catalogue).
    AgeDays,
}

/// One metric in both arms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MetricReport {
    /// Which.
    pub metric: Metric,
    /// Of the active version.
    pub control: Option<Estimate>,
    /// Of the version that is tried.
    pub challenger: Option<Estimate>,
    /// Challenger minus control.
    pub difference: Option<Difference>,
    /// Users each arm needs so that a difference of 5 % of the control's value would be found in 80 of 100 experiments.
    pub users_needed: Option<u64>,
}

/// One arm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ArmReport {
    /// Which.
    pub arm: Arm,
    /// Version that it got.
    pub version: i64,
    /// Users with at least one event.
    pub users: u64,
    /// Pairs of a user and a video shown to them.
    pub shown: u64,
    /// Distinct videos shown, and those in the catalogue.
    pub coverage: ArmCoverage,
    /// Impressions that name a version, and those that name another one.
    pub origins: ArmOrigins,
}

/// What an experiment has shown so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Which, from when to when.
    pub experiment: ExperimentRecord,
    /// Control, then challenger.
    pub arms: [ArmReport; 2],
    /// Whether users fell into the arms as planned; `None` while there are none.
    pub sample_ratio: Option<SampleRatio>,
    /// What is compared.
    pub metrics: Vec<MetricReport>,
}

/// The report of an experiment, the latest if none is named.
///
/// # Errors
/// If there is no such experiment, or the store fails.
pub async fn report(store: &Store, id: Option<i64>) -> anyhow::Result<Report> {
    let experiments = store.experiments().await?;
    let experiment = match id {
        None => experiments.into_iter().next().context(
            "there has been no experiment yet: `twotower experiment start --challenger VERSION --share 0.5` starts one",
        )?,
        Some(id) => experiments
            .into_iter()
            .find(|experiment| experiment.id == id)
            .with_context(|| format!("there is no experiment {id}"))?,
    };
    let (control, control_sums) = arm(store, &experiment, Arm::Control).await?;
    let (challenger, challenger_sums) = arm(store, &experiment, Arm::Challenger).await?;
    let metrics = Metric::ALL
        .into_iter()
        .zip(control_sums.iter().zip(&challenger_sums))
        .map(|(metric, (control, challenger))| {
            MetricReport::new(metric, control.estimate(), challenger.estimate())
        })
        .collect();
    Ok(Report {
        sample_ratio: SampleRatio::of(control.users, challenger.users, experiment.share),
        experiment,
        arms: [control, challenger],
        metrics,
    })
}

type Sums = [RatioSums; Metric::ALL.len()];

async fn arm(
    store: &Store,
    experiment: &ExperimentRecord,
    arm: Arm,
) -> anyhow::Result<(ArmReport, Sums)> {
    let mut sums = Sums::default();
    let (mut users, mut shown) = (0, 0);
    let mut each = |user: ExperimentUser| {
        users += 1;
        shown += user.shown;
        for (metric, sums) in Metric::ALL.into_iter().zip(&mut sums) {
            let (numerator, denominator) = metric.of(&user);
            sums.push(numerator, denominator);
        }
    };
    let totals = store
        .for_each_experiment_user(experiment.id, arm, &mut each)
        .await?;
    let version = match arm {
        Arm::Control => experiment.control,
        Arm::Challenger => experiment.challenger,
    };
    let report = ArmReport {
        arm,
        version,
        users,
        shown,
        coverage: totals.coverage,
        origins: totals.origins,
    };
    Ok((report, sums))
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ClickThroughRate,
        Self::LikeRate,
        Self::WatchFraction,
        Self::Diversity,
        Self::AgeDays,
    ];

    /// Numerator and denominator of one user.
    fn of(self, user: &ExperimentUser) -> (f64, f64) {
        let counts = |numerator: u64, denominator: u64| (numerator as f64, denominator as f64);
        match self {
            Self::ClickThroughRate => counts(user.clicked, user.shown),
            Self::LikeRate => counts(user.liked, user.shown),
            Self::WatchFraction => (user.watched, user.measured as f64),
            Self::Diversity => counts(user.makers, user.with_maker),
            Self::AgeDays => (user.age_days, user.dated as f64),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ClickThroughRate => "click-through rate",
            Self::LikeRate => "like rate",
            Self::WatchFraction => "watch fraction",
            Self::Diversity => "diversity of makers",
            Self::AgeDays => "age in days",
        })
    }
}

impl MetricReport {
    fn new(metric: Metric, control: Option<Estimate>, challenger: Option<Estimate>) -> Self {
        let both = challenger.as_ref().zip(control.as_ref());
        Self {
            metric,
            control,
            challenger,
            difference: both
                .and_then(|(challenger, control)| Difference::between(challenger, control)),
            users_needed: control.and_then(|control| control.users_needed(RELATIVE)),
        }
    }

    /// What the numbers mean, in words.
    pub fn verdict(&self) -> String {
        let needed = self.users_needed.map_or(String::new(), |users| {
            format!(" (a difference of 5 % needs about {users} users an arm)")
        });
        match self.difference {
            None => "too little to tell anything yet".into(),
            Some(difference) if difference.p_value >= SIGNIFICANT => {
                format!("no difference can be told yet{needed}")
            }
            Some(difference) if difference.value > 0.0 => "higher with the challenger".into(),
            Some(_) => "lower with the challenger".into(),
        }
    }
}

impl ArmReport {
    /// Whether so much of what the arm was shown came from another version that it is not the arm's.
    fn is_mixed(&self) -> bool {
        let ArmOrigins { named, others } = self.origins;
        others >= FEWEST_STRAYS && others * 100 > named * STRAY_PERCENT
    }
}

impl Report {
    /// What is wrong with the arms, if something is: then nothing below it should be believed.
    pub fn warning(&self) -> Option<String> {
        let mixed = self.arms.iter().filter(|arm| arm.is_mixed()).map(mixed);
        let warnings: Vec<String> = self.split().into_iter().chain(mixed).collect();
        (!warnings.is_empty()).then(|| warnings.join("; "))
    }

    fn split(&self) -> Option<String> {
        let ratio = self.sample_ratio.filter(SampleRatio::is_suspicious)?;
        let [control, challenger] = &self.arms;
        Some(format!(
            "the arms have {} and {} users where {} of all were to get the challenger: chance does that once in {:.0} experiments, so that \
             events are probably lost in one arm, and no difference below should be believed",
            control.users,
            challenger.users,
            self.experiment.share,
            1.0 / ratio.p_value.max(1e-300)
        ))
    }
}

fn mixed(arm: &ArmReport) -> String {
    let ArmOrigins { named, others } = arm.origins;
    format!(
        "{others} of {named} impressions of the {} name another version than {}: a server that cannot read the files of that one answers its users \
         by the active one, so that differences below are smaller than they are (`twotower doctor --only server-current`)",
        arm.arm, arm.version
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handful_of_strays_mixes_no_arm() {
        for (named, others, expected) in [
            (0, 0, false),
            // Of the first list of all.
            (19, 19, false),
            (20, 20, true),
            (1_000, 19, false),
            (1_000, 20, true),
            (2_000, 20, false),
            (1_999, 20, true),
            (100_000, 1_001, true),
        ] {
            let arm = ArmReport {
                arm: Arm::Control,
                version: 1,
                users: 1,
                shown: named,
                coverage: ArmCoverage::default(),
                origins: ArmOrigins { named, others },
            };
            assert_eq!(arm.is_mixed(), expected, "{others} of {named}");
        }
    }
}
