use anyhow::Context;
use serde::Serialize;
use std::fmt;
use twotower_core::ab_test::{
    AtAnyTime, Difference, Estimate, FEWEST_USERS, RatioSums, SampleRatio,
};
use twotower_store::{
    Arm, ArmCoverage, ArmOrigins, ExperimentRecord, ExperimentUser, InteractionKind, Store,
};

/// Significance level, for any number of looks at the experiment.
const SIGNIFICANT: f64 = 0.05;

/// The relative difference from the control for which the required number of users is computed.
const RELATIVE: f64 = 0.05;

/// At most this share of the impressions may name another version than that of the arm: lists made
/// before the experiment began are shown a little longer.
const STRAY_PERCENT: u64 = 1;

/// Minimum number of impressions that name another version before that is reported: in the first
/// hour, a single list from before the experiment may exceed the share, and says nothing about the
/// servers.
const FEWEST_STRAYS: u64 = 20;

/// The metrics that are compared. Each is a ratio of sums over users, of the videos that they were
/// shown at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Share of the videos shown to a user that the user viewed (for longer than nothing) or liked.
    ClickThroughRate,
    /// Share of the videos shown to a user that the user liked.
    LikeRate,
    /// Mean watched fraction, over views of shown videos that report it.
    WatchFraction,
    /// Mean over users of the probability that two of the videos shown to the user are of different
    /// makers, among videos with a maker: 1 if no maker occurs twice. The number of distinct makers
    /// per video would instead fall with every list that a user looks at.
    Diversity,
    /// Mean age of the videos when first shown to a user, days since publication (or arrival in the
    /// catalogue).
    AgeDays,
}

/// One metric in both arms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct MetricReport {
    /// Which.
    pub(crate) metric: Metric,
    /// Value for the active version.
    pub(crate) control: Option<Estimate>,
    /// Value for the challenger.
    pub(crate) challenger: Option<Estimate>,
    /// Challenger minus control. The p-value holds for a single look, at a time fixed in advance.
    pub(crate) difference: Option<Difference>,
    /// The same difference, valid for any number of looks. The verdict in words is based on it.
    pub(crate) at_any_time: Option<AtAnyTime>,
    /// Number of users per arm with which a look finds a difference of 5 % of the control in 80 of
    /// 100 experiments, by `at_any_time`.
    pub(crate) users_needed: Option<u64>,
    /// Whether the events do not contain what the metric counts: `[source]` reads likes from the
    /// table of the application, which does not name lists.
    pub(crate) unrecorded: bool,
}

/// One arm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct ArmReport {
    /// Which.
    pub(crate) arm: Arm,
    /// Version that the arm is served.
    pub(crate) version: i64,
    /// Number of users with at least one event.
    pub(crate) users: u64,
    /// Number of pairs of a user and a video shown to the user.
    pub(crate) shown: u64,
    /// Number of distinct videos shown, and of videos in the catalogue.
    pub(crate) coverage: ArmCoverage,
    /// Number of impressions that name a version, and of those that name another version than that
    /// of the arm.
    pub(crate) origins: ArmOrigins,
}

/// The results of an experiment until now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// The experiment, with its begin and end.
    pub(crate) experiment: ExperimentRecord,
    /// Control, then challenger.
    pub(crate) arms: [ArmReport; 2],
    /// Check of the sample ratio: whether users fell into the arms as planned. `None` without
    /// users.
    pub(crate) sample_ratio: Option<SampleRatio>,
    /// The comparisons.
    pub(crate) metrics: Vec<MetricReport>,
}

/// The report of the experiment with this number, or of the latest one.
///
/// # Errors
/// If there is no such experiment, or the store fails.
pub(crate) async fn report(store: &Store, id: Option<i64>) -> anyhow::Result<Report> {
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
    /// All metrics.
    pub(crate) const ALL: [Self; 5] = [
        Self::ClickThroughRate,
        Self::LikeRate,
        Self::WatchFraction,
        Self::Diversity,
        Self::AgeDays,
    ];

    /// Numerator and denominator for one user.
    fn of(self, user: &ExperimentUser) -> (f64, f64) {
        let counts = |numerator: u64, denominator: u64| (numerator as f64, denominator as f64);
        match self {
            Self::ClickThroughRate => counts(user.clicked, user.shown),
            Self::LikeRate => counts(user.liked, user.shown),
            Self::WatchFraction => (user.watched, user.measured as f64),
            // An unbiased estimate for each user, for any number of videos shown.
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

    /// The verdict in words.
    pub(crate) fn verdict(&self) -> String {
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

    /// Whether enough users were shown videos, but nothing that the metric counts happened.
    fn found_nothing(&self) -> bool {
        let counts = matches!(self.metric, Metric::ClickThroughRate | Metric::LikeRate);
        let nothing = |arm: Estimate| arm.value.abs() <= 0.0 && arm.users >= FEWEST_USERS;
        self.control
            .zip(self.challenger)
            .is_some_and(|(control, challenger)| counts && nothing(control) && nothing(challenger))
    }
}

impl ArmReport {
    /// Whether so many impressions of the arm came from another version that it does not represent
    /// its own.
    fn is_mixed(&self) -> bool {
        let ArmOrigins { named, others } = self.origins;
        others >= FEWEST_STRAYS && others * 100 > named * STRAY_PERCENT
    }
}

impl Report {
    /// A fault in the arms, if there is one. Then none of the results can be trusted.
    pub(crate) fn warning(&self) -> Option<String> {
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
        // 2.5 standard errors: p = 0.012 for a single look.
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
        // Five users with the same behaviour, and a hundred others.
        let few = estimate(0.2, 0.0, 5);
        assert_eq!(
            said(estimate(0.3, 0.01, 100), few),
            "too little to tell anything yet"
        );
        // Twice the value, with sixty users per arm: 0.1387 ± 0.0323 and 0.2879 ± 0.0401.
        let doubled = said(
            estimate(0.2879, 0.020_46, 58),
            estimate(0.1387, 0.016_48, 62),
        );
        assert_eq!(doubled, "higher with the challenger");
        // Nobody liked anything, or likes are recorded elsewhere.
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
        // Three videos of one maker, two of another, one of a third: 11 of 15 pairs are of
        // different makers. The mean over all subsets of any size is the same.
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
        // A single video has no pair.
        assert_eq!(of(1, 0), (0.0, 0.0));
    }

    #[test]
    fn a_handful_of_strays_mixes_no_arm() {
        for (named, others, expected) in [
            (0, 0, false),
            // The first list of all.
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
