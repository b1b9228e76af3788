use anyhow::Context;
use serde::Serialize;
use std::fmt;
use twotower_core::ab_test::{
    AtAnyTime, Difference, Estimate, FEWEST_USERS, RatioSums, SampleRatio,
};
use twotower_store::{
    Arm, ArmCoverage, ArmOrigins, ExperimentRecord, ExperimentUser, InteractionKind, Store,
};

/// Below this chance a difference is told, at whichever look.
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
    /// Mean part watched, of views of what was shown that tell it.
    WatchFraction,
    /// Mean over users of the chance that two of the videos shown to them are of different makers, of videos with a maker: 1 if no maker comes twice.
    /// Distinct makers for each video would fall with every list that a user looks at, whatever is in it.
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
    /// Challenger minus control. Its p-value is for who looks once, at a time that was fixed beforehand.
    pub difference: Option<Difference>,
    /// The same for who looks more than once: what is said in words goes by it.
    pub at_any_time: Option<AtAnyTime>,
    /// Users each arm needs so that a look finds a difference of 5 % of the control's value in 80 of 100 experiments, by `at_any_time`.
    pub users_needed: Option<u64>,
    /// Whether what it counts is not among the events: likes that `[source]` reads from the application's own table, where no list is named.
    pub unrecorded: bool,
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
    let likes_elsewhere = store.reads_elsewhere(InteractionKind::Like);
    let metrics = Metric::ALL
        .into_iter()
        .zip(control_sums.iter().zip(&challenger_sums))
        .map(|(metric, (control, challenger))| MetricReport {
            unrecorded: metric == Metric::LikeRate && likes_elsewhere,
            ..MetricReport::new(metric, control.estimate(), challenger.estimate())
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
            // An unbiased estimate from each user, however many videos they were shown.
            Self::Diversity if user.with_maker >= 2 => {
                let pairs = user.with_maker * (user.with_maker - 1) / 2;
                (1.0 - user.same_maker as f64 / pairs as f64, 1.0)
            }
            Self::Diversity => (0.0, 0.0),
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
        let both = challenger.zip(control);
        let difference =
            both.and_then(|(challenger, control)| Difference::between(&challenger, &control));
        Self {
            metric,
            control,
            challenger,
            difference,
            at_any_time: difference.map(|difference| difference.at_any_time()),
            unrecorded: false,
            users_needed: control.and_then(|control| control.users_needed(RELATIVE)),
        }
    }

    /// What the numbers mean, in words.
    pub fn verdict(&self) -> String {
        let needed = self.users_needed.map_or(String::new(), |users| {
            format!(" (a difference of 5 % needs about {users} users an arm)")
        });
        match self.at_any_time {
            None if self.unrecorded => {
                "not recorded: likes are read from the application's own table ([source])".into()
            }
            None if self.found_nothing() => "none in either arm yet".into(),
            None => "too little to tell anything yet".into(),
            Some(found) if found.p_value >= SIGNIFICANT => {
                format!("no difference can be told yet{needed}")
            }
            Some(found) if found.low > 0.0 => "higher with the challenger".into(),
            Some(_) => "lower with the challenger".into(),
        }
    }

    /// Whether enough users were shown videos, and none did what is counted.
    fn found_nothing(&self) -> bool {
        let counts = matches!(self.metric, Metric::ClickThroughRate | Metric::LikeRate);
        let nothing = |arm: Estimate| arm.value.abs() <= 0.0 && arm.users >= FEWEST_USERS;
        self.control
            .zip(self.challenger)
            .is_some_and(|(control, challenger)| counts && nothing(control) && nothing(challenger))
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

    fn estimate(value: f64, standard_error: f64, users: u64) -> Estimate {
        Estimate {
            value,
            standard_error,
            users,
        }
    }

    #[test]
    fn words_go_by_what_holds_at_every_look() {
        let said = |challenger, control| {
            let report = MetricReport::new(Metric::LikeRate, Some(control), Some(challenger));
            report.verdict()
        };
        let control = estimate(0.2, 0.005, 1000);
        // Two and a half standard errors: p = 0.012 for who looks once.
        let near = said(estimate(0.217_677_7, 0.005, 1000), control);
        assert!(
            near.starts_with("no difference can be told yet (a difference of 5 % needs about 8"),
            "{near}"
        );
        let far = 6.0 * 0.005;
        assert_eq!(
            said(estimate(0.2 + far, 0.005, 1000), control),
            "higher with the challenger"
        );
        assert_eq!(
            said(estimate(0.2 - far, 0.005, 1000), control),
            "lower with the challenger"
        );
        // Five users who all did the same, and a hundred others.
        let few = estimate(0.2, 0.0, 5);
        assert_eq!(
            said(estimate(0.3, 0.01, 100), few),
            "too little to tell anything yet"
        );
        // Twice as much, with sixty users in an arm: 0.1387 ± 0.0323 and 0.2879 ± 0.0401.
        let doubled = said(
            estimate(0.2879, 0.020_46, 58),
            estimate(0.1387, 0.016_48, 62),
        );
        assert_eq!(doubled, "higher with the challenger");
        // Nobody liked anything, or it is told elsewhere.
        let none = estimate(0.0, 0.0, 1000);
        assert_eq!(said(none, none), "none in either arm yet");
        assert_eq!(
            said(estimate(0.0, 0.0, 29), none),
            "too little to tell anything yet"
        );
        let unrecorded = MetricReport {
            unrecorded: true,
            ..MetricReport::new(Metric::LikeRate, Some(none), Some(none))
        };
        assert!(unrecorded.verdict().starts_with("not recorded: "));
    }

    #[test]
    fn diversity_does_not_fall_with_what_is_shown() {
        let of = |with_maker, same_maker| {
            Metric::Diversity.of(&ExperimentUser {
                with_maker,
                same_maker,
                ..ExperimentUser::default()
            })
        };
        // Three videos of one maker, two of another, one of a third: 11 of 15 pairs are of two makers, and so it is on average over all that
        // may be shown of them, however many.
        let makers = [0, 0, 0, 1, 1, 2];
        for shown in 2..=6_u32 {
            let lists = (0..64_u32).filter(|list| list.count_ones() == shown);
            let each: Vec<f64> = lists
                .map(|list| {
                    let of_maker = |maker| {
                        let own = (0..6).filter(|&n| makers[n] == maker && list >> n & 1 == 1);
                        own.count() as u64
                    };
                    let same = [0, 1, 2]
                        .map(|maker| of_maker(maker) * of_maker(maker).saturating_sub(1) / 2);
                    of(shown.into(), same.iter().sum()).0
                })
                .collect();
            let mean = each.iter().sum::<f64>() / each.len() as f64;
            assert!((mean - 11.0 / 15.0).abs() < 1e-12, "{shown}: {mean}");
        }
        assert_eq!(of(3, 0), (1.0, 1.0));
        assert_eq!(of(3, 3), (0.0, 1.0));
        // One video is of no other maker than itself.
        assert_eq!(of(1, 0), (0.0, 0.0));
    }

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
