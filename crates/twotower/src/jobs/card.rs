//! The model card: the data of a model, its quality for different users, and its limits. After
//! Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.

use super::cohorts::Cohort;
use crate::time::minute;
use std::fmt::Write;
use twotower_core::model::Model;
use twotower_store::model_files::TrainedOn;

/// Contents of the card.
#[derive(Debug)]
pub(super) struct Card<'a> {
    pub(super) version: i64,
    pub(super) created_at_us: i64,
    pub(super) model: &'a Model,
    pub(super) trained_on: &'a TrainedOn,
    /// Time of the earliest like, microseconds since 1970.
    pub(super) since_us: Option<i64>,
    pub(super) cohorts: &'a [Cohort],
}

impl Card<'_> {
    /// As Markdown.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let (data, hyper) = (self.trained_on, &self.model.hyperparameters);
        let known = &self.model.preprocessing;
        let terms = known.term_rows() - known.ngram_buckets as usize;
        writeln!(
            text,
            "# Model {}\n\nTwo-tower recommender of twotower {}, {} dimensions, made {}.\n\n## Data\n",
            self.version,
            env!("CARGO_PKG_VERSION"),
            hyper.embedding_dim,
            time(Some(self.created_at_us))
        )?;
        writeln!(text, "| | |\n|---|---|")?;
        writeln!(
            text,
            "| likes, skips | {}, {} |\n| users, videos | {}, {} |",
            data.likes, data.skips, data.users, data.videos
        )?;
        writeln!(
            text,
            "| period | {} to {} |\n| learned until | {} |",
            time(self.since_us),
            time(data.cut_off_us),
            time(data.learned_until_us)
        )?;
        if let Some(version) = data.fine_tuned_from {
            writeln!(text, "| fine-tuned from | version {version} |")?;
        }
        writeln!(
            text,
            "| split | {} |\n| SHA-256 of the data | `{}` |",
            data.split.name(),
            data.snapshot_sha256
        )?;
        writeln!(
            text,
            "\n{} videos and {terms} genres, makers, tags and performers have weights of their own: those that at least {} users have \
             liked or skipped. All others are recommended by what they share with them.\n\n## How good it is\n",
            known.videos.len(),
            hyper.min_users
        )?;
        if self.cohorts.is_empty() {
            writeln!(text, "Not measured: the split has held no like out.")?;
        } else {
            writeln!(
                text,
                "On likes that it has not learned, each user ranked against the whole catalogue. `twotower evaluate` compares it with \
                 the baselines.\n\n| users with | users | NDCG@10 | Recall@10 | AUC |\n|---|---|---|---|---|"
            )?;
        }
        for cohort in self.cohorts {
            writeln!(
                text,
                "| {} | {} | {:.4} | {:.4} | {:.3} |",
                cohort.name, cohort.users, cohort.ndcg_at_10, cohort.recall_at_10, cohort.auc
            )?;
        }
        writeln!(
            text,
            "\n## Limits\n\n\
             - It says which videos a person may like next, from likes and skips alone. It says nothing else about people, and is not made to.\n\
             - It repeats what its data hold: videos that were shown more were liked more. Coverage and popularity of what it shows stand in \
             the report of `twotower evaluate`.\n\
             - Figures over few users are guesses, and likes of after {} may be of another kind.\n\
             - No user has weights of their own, and no file here holds a user's id. A user's vector is computed from their likes and says \
             what they like: it belongs where likes belong.\n\
             - Its vectors mean nothing beside those of another version.",
            time(data.learned_until_us.or(data.cut_off_us))
        )
    }
}

fn time(at_us: Option<i64>) -> String {
    let at_us = at_us.filter(|at_us| *at_us >= 0);
    at_us.map_or("unknown".into(), |at_us| minute(at_us) + " UTC")
}
