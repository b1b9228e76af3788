//! The whole pipeline on generated data, and the distance of the towers from the model that
//! generated it.

use super::{
    EvaluateOptions, Evaluated, Gate, JobError, LeftAlone, Published, Resume, TrainOptions,
    UpdateMode, UpdateOptions, UpdateReport, evaluate, train, update,
};
use crate::config::Config;
use crate::demo::{Generated, GeneratorOptions, Oracle, generate, write};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use anyhow::{Context, ensure};
use serde::Serialize;
use std::fmt;
use std::sync::Mutex;
use twotower_core::evaluate::Metric;
use twotower_core::metric::{auc, ndcg_at_k, precision_at_k};
use twotower_core::recommend::top_k;
use twotower_core::split::{Phase, Split};
use twotower_core::time::SECOND_US;
use twotower_store::{Source, Store};
use uuid::Uuid;

/// Results of the demo.
#[derive(Debug, Clone)]
pub(crate) struct DemoOutcome {
    /// Metrics of the towers and the baselines.
    pub(crate) evaluated: Evaluated,
    /// Distance of the towers from the generating model.
    pub(crate) oracle: OracleDistance,
    /// Vectors written for serving.
    pub(crate) update: UpdateReport,
}

/// Mean metrics over the warm test users: of the generating model (the oracle), of the towers, and
/// of popularity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct OracleDistance {
    /// Metrics of the generating model.
    pub(crate) oracle: DemoMetrics,
    /// Metrics of the towers.
    pub(crate) two_tower: DemoMetrics,
    /// Metrics of popularity.
    pub(crate) popularity: DemoMetrics,
}

/// Three metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct DemoMetrics {
    /// Precision@10.
    pub(crate) precision_at_10: f64,
    /// NDCG@10.
    pub(crate) ndcg_at_10: f64,
    /// Area under the ROC curve.
    pub(crate) auc: f64,
}

impl fmt::Display for OracleDistance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |name: &str, m: DemoMetrics| {
            format!(
                "{name:<12} P@10 {:.3}  NDCG@10 {:.3}  AUC {:.3}",
                m.precision_at_10, m.ndcg_at_10, m.auc
            )
        };
        writeln!(
            formatter,
            "how close the towers come to the truth that generated the data:"
        )?;
        writeln!(formatter, "  {}", row("oracle", self.oracle))?;
        writeln!(formatter, "  {}", row("two-tower", self.two_tower))?;
        writeln!(formatter, "  {}", row("popularity", self.popularity))?;
        let share =
            |of: fn(DemoMetrics) -> f64| 100.0 * of(self.two_tower) / of(self.oracle).max(1e-9);
        write!(
            formatter,
            "  the towers reach {:.0} % of the oracle's P@10, {:.0} % of its NDCG@10 and {:.0} % of its AUC",
            share(|m| m.precision_at_10),
            share(|m| m.ndcg_at_10),
            share(|m| m.auc)
        )
    }
}

/// Generates, trains, evaluates and updates.
///
/// # Errors
/// Those of the single jobs.
pub(crate) async fn demo(
    store: &Store,
    config: &Config,
    generator: &GeneratorOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<DemoOutcome> {
    let options = generator.clone();
    let generated = tokio::task::spawn_blocking(move || generate(&options)).await?;
    refuse_foreign_videos(store, &generated).await?;
    let total = generated.videos.len() + generated.likes.len() + generated.skips.len();
    let progress = Mutex::new(Progress::start("generate", total as u64));
    write(store, &generated, &|rows, what| {
        if let Ok(mut progress) = progress.lock() {
            progress.set(rows, what);
        }
    })
    .await
    .context("write the generated data")?;
    if let Ok(progress) = progress.into_inner() {
        progress.finish(&format!(
            "{} videos, {} likes, {} skips",
            generated.videos.len(),
            generated.likes.len(),
            generated.skips.len()
        ));
    }
    let source = Source::default();
    let options = TrainOptions {
        hyperparameters: config.hyperparameters.clone(),
        split: config.training.split,
        max_age_days: None,
        threads: config.training.threads,
        output_dir: config.training.output_dir.clone(),
        checkpoint_minutes: config.training.checkpoint_minutes,
        resume: Resume::No,
        from: None,
        shards: None,
    };
    let trained = train(store, &source, &options, interrupt).await?;
    let options = EvaluateOptions {
        model_path: trained.path.clone(),
        against: None,
        split: Some(options.split),
        max_age_days: None,
        threads: options.threads,
    };
    let evaluated = evaluate(store, &source, &options, interrupt).await?;
    let oracle = distance(&evaluated, &generated.oracle)?;
    let options = UpdateOptions {
        model_path: trained.path,
        left_alone: LeftAlone::Nothing,
        mode: UpdateMode::Activate,
        full: false,
        // The gate reports, but does not hold back a model of generated data.
        gate: Gate::of(config),
        force: true,
        reason: "demo".into(),
        user_vector_days: config.prune.user_vector_days,
        settings: config.update.clone(),
    };
    let update = match update(store, &source, &options, interrupt).await? {
        Published::Done(report) => report,
        Published::Held(holder) => return Err(JobError::held(&holder).into()),
    };
    Ok(DemoOutcome {
        evaluated,
        oracle,
        update,
    })
}

/// Refuses a database with other videos, so that generated likes never mix with real ones.
async fn refuse_foreign_videos(store: &Store, generated: &Generated) -> anyhow::Result<()> {
    let stored = store
        .video_titles()
        .await
        .context("look into the database")?;
    let made_up = |id: &Uuid| {
        generated
            .videos
            .binary_search_by_key(id, |video| video.id)
            .is_ok()
    };
    let foreign = stored.iter().filter(|(id, _)| !made_up(id)).count();
    ensure!(
        foreign == 0,
        "the database holds {foreign} videos that this demo does not make, and made-up likes must not come among real ones: name another \
         database, as in --db-url sqlite://demo.db"
    );
    Ok(())
}

fn distance(evaluated: &Evaluated, oracle: &Oracle) -> anyhow::Result<OracleDistance> {
    let of = |name: &str| {
        let evaluation = evaluated
            .comparison
            .evaluations
            .iter()
            .find(|evaluation| evaluation.name == name);
        let warm = evaluation
            .and_then(|evaluation| evaluation.summary.warm.as_ref())
            .context("no user to evaluate on")?;
        anyhow::Ok(DemoMetrics {
            precision_at_10: warm.metric(Metric::PrecisionAt10).mean,
            ndcg_at_10: warm.metric(Metric::NdcgAt10).mean,
            auc: warm.metric(Metric::Auc).mean,
        })
    };
    Ok(OracleDistance {
        oracle: oracle_metrics(evaluated, oracle),
        two_tower: of("two-tower")?,
        popularity: of("popularity")?,
    })
}

/// Metrics of the generating model at the time when the test begins, over the warm test users.
fn oracle_metrics(evaluated: &Evaluated, oracle: &Oracle) -> DemoMetrics {
    let split = Split::new(&evaluated.dataset, evaluated.split);
    let begin_us = split
        .test
        .first()
        .map_or(0, |like| i64::from(like.at) * SECOND_US);
    let mut sums = DemoMetrics::default();
    let mut users = 0;
    for user in split
        .held_out_users(Phase::Test)
        .users
        .iter()
        .filter(|user| !user.likes.is_empty())
    {
        let Some(scores) = oracle.scores(evaluated.users[user.user as usize], begin_us) else {
            continue;
        };
        let mut seen = vec![false; scores.len()];
        for &item in &user.likes {
            seen[item as usize] = true;
        }
        let hits: Vec<bool> = top_k(&scores, &seen, 10)
            .iter()
            .map(|scored| user.targets.contains(&scored.item))
            .collect();
        sums.precision_at_10 += precision_at_k(&hits, 10);
        sums.ndcg_at_10 += ndcg_at_k(&hits, user.targets.len(), 10);
        sums.auc += auc(&scores, &seen, &user.targets).unwrap_or(0.5);
        users += 1;
    }
    let n = f64::from(users.max(1));
    DemoMetrics {
        precision_at_10: sums.precision_at_10 / n,
        ndcg_at_10: sums.ndcg_at_10 / n,
        auc: sums.auc / n,
    }
}
