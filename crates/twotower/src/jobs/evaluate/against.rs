//! Compares two models as they are, on likes that neither has learned.

use super::read::Read;
use super::{Data, EvaluateOptions, Evaluated, Judged, Loaded, load, write_report};
use crate::jobs::gate::learned_until;
use crate::time::rfc3339_us;
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use twotower_core::evaluate::{BaselineOptions, Comparison, FEWEST_USERS, compare_models};
use twotower_core::interaction::Dataset;
use twotower_core::model::TwoTower;
use twotower_core::recommend::Recommender;
use twotower_core::split::{HeldOut, Phase, Split};
use twotower_core::time::SECOND_US;

/// Name of the report. All comparisons of a model share it, because each is read once.
const REPORT: &str = "report-against.html";

/// The model that another one was compared with.
#[derive(Debug, Clone)]
pub(crate) struct Against {
    /// Version of the other model.
    pub(crate) version: i64,
    /// Folder of the other model.
    pub(crate) folder: PathBuf,
    /// The likes that were to be found, in words.
    pub(crate) hold_out: String,
}

/// Reads the other model, from a folder, or from the version with this number beside the first
/// model.
pub(super) async fn load_other(named: &Path, model: &Loaded) -> anyhow::Result<Loaded> {
    let other = load(&beside(named, &model.folder)).await?;
    ensure!(
        other.manifest.checksum != model.manifest.checksum,
        "{} and {} are the same model: name another one with --model-path or --against",
        model.folder.display(),
        other.folder.display()
    );
    Ok(other)
}

/// The folder of a model that is named by its version alone.
fn beside(named: &Path, folder: &Path) -> PathBuf {
    let name = named.to_str().unwrap_or_default();
    let is_number = !name.is_empty() && name.bytes().all(|digit| digit.is_ascii_digit());
    match folder.parent() {
        Some(models) if is_number && !named.exists() => models.join(named),
        _ => named.to_owned(),
    }
}

/// Ranks the likes that are held out of both models, with the two models and every baseline. Writes
/// `report-against.html` into the folder of the first.
pub(super) fn judge(
    model: Loaded,
    other: Loaded,
    data: Data,
    options: &EvaluateOptions,
) -> anyhow::Result<Evaluated> {
    let hold_out = HoldOut::of_both([&model, &other], &data, options)?;
    let names = names(&model, &other);
    let Data { dataset, users, .. } = data;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.max(1))
        .build()?;
    let comparison =
        pool.install(|| compare([&model, &other], names, &dataset, &hold_out.split))?;
    let split = model.manifest.trained_on.split;
    let judged = Judged::as_trained(model);
    let [ours, theirs] = [0, 1].map(|n: usize| comparison.evaluations[n].name.clone());
    let title = format!(
        "{}{} against {theirs}",
        ours[..1].to_uppercase(),
        &ours[1..]
    );
    let html = judged.report(
        (title, hold_out.words.clone()),
        &comparison,
        &dataset,
        &hold_out.users,
    )?;
    Ok(Evaluated {
        version: judged.manifest.version,
        split,
        retrained: None,
        against: Some(Against {
            version: other.manifest.version,
            folder: other.folder,
            hold_out: hold_out.words,
        }),
        comparison,
        report: write_report(&judged.folder, REPORT, &html)?,
        dataset,
        users,
    })
}

/// Names of the two models. Folders that number versions on their own may have the same version.
fn names(model: &Loaded, other: &Loaded) -> [String; 2] {
    let models = [model, other];
    if model.manifest.version == other.manifest.version {
        models.map(|model| format!("model {}", model.folder.display()))
    } else {
        models.map(|model| format!("model {}", model.manifest.version))
    }
}

fn compare(
    models: [&Loaded; 2],
    names: [String; 2],
    dataset: &Dataset,
    split: &Split,
) -> anyhow::Result<Comparison> {
    let catalogue = &dataset.catalogue;
    let embed = |model: &Loaded| model.model.embed_videos(catalogue.videos());
    let [ours, theirs] = models.map(embed);
    let videos = [ours, theirs].into_iter().collect::<Result<Vec<_>, _>>();
    let videos = videos.context("embed the videos")?;
    let towers: Vec<TwoTower<'_>> = models
        .iter()
        .zip(&videos)
        .map(|(model, videos)| TwoTower {
            user_tower: &model.model.user_tower,
            videos,
        })
        .collect();
    let recommenders: Vec<&dyn Recommender> = towers
        .iter()
        .map(|towers| towers as &dyn Recommender)
        .collect();
    let mut comparison = compare_models(
        catalogue.len(),
        split,
        Phase::Test,
        &recommenders,
        &BaselineOptions::default(),
    )?;
    for (evaluation, name) in comparison.evaluations.iter_mut().zip(names) {
        evaluation.name = name;
    }
    Ok(comparison)
}

/// Likes that neither of two models has learned.
struct HoldOut {
    split: Split,
    users: HeldOut,
    /// The description in a report.
    words: String,
}

impl HoldOut {
    /// If both were trained on exactly the rows that were read, with the same split: the likes held
    /// out of them. Otherwise the likes after all that they have learned, as for the quality gate.
    fn of_both(
        models: [&Loaded; 2],
        data: &Data,
        options: &EvaluateOptions,
    ) -> anyhow::Result<Self> {
        let kind = models[0].manifest.trained_on.split;
        let read = Read::of(data, kind, options.max_age_days);
        // The base of a fine-tuned model may have learned the likes that would be held out.
        let is_of_these = |model: &&Loaded| {
            let trained_on = &model.manifest.trained_on;
            trained_on.fine_tuned_from.is_none() && read.other_than(trained_on).is_none()
        };
        if models.iter().all(is_of_these) {
            let split = Split::new(&data.dataset, kind);
            return Ok(Self {
                users: split.held_out_users(Phase::Test),
                words: format!("{} split, test, which is held out of both", kind.name()),
                split,
            });
        }
        let until = |model: &Loaded| {
            learned_until(&model.manifest).with_context(|| {
                format!(
                    "{} does not say until when it has learned, so that nothing is known to be new to it: train it afresh",
                    model.folder.display()
                )
            })
        };
        let [ours, theirs] = [until(models[0])?, until(models[1])?];
        let split = Split::after(&data.dataset, ours.max(theirs));
        let users = split.held_out_users(Phase::Test);
        ensure!(
            users.users.len() >= FEWEST_USERS,
            "the two cannot be compared, since they were not trained on the data that are read here, cut in the same way, and too few likes are \
             new to both: {} has learned likes until {}, {} until {}, and {} users have likes after that, where {FEWEST_USERS} are the least. \
             Train both on the same data and with the same --split, or compare them once likes have come in",
            models[0].folder.display(),
            time(ours),
            models[1].folder.display(),
            time(theirs),
            users.users.len()
        );
        Ok(Self {
            users,
            words: format!(
                "likes after {}, of which neither has learned any",
                time(ours.max(theirs))
            ),
            split,
        })
    }
}

/// `2026-11-24T17:30:00Z`, of seconds since 1970.
fn time(at: u32) -> String {
    rfc3339_us(i64::from(at) * SECOND_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_version_beside_the_model() {
        let models = tempfile::tempdir().unwrap();
        let folder = models.path().join("2");
        assert_eq!(beside(Path::new("1"), &folder), models.path().join("1"));
        for path in ["models/1", "one", "", "-1"] {
            assert_eq!(beside(Path::new(path), &folder), Path::new(path));
        }
    }
}
