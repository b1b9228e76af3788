//! Compares the data that were read with those that a model was trained on.

use super::Data;
use twotower_core::split::SplitKind;
use twotower_store::model_files::{Origin, TrainedOn};
use twotower_store::snapshot_sha256;

/// Description of the data to judge a model with.
pub(super) struct Read {
    split: SplitKind,
    max_age_days: Option<u32>,
    origin: Origin,
    /// SHA-256 of the rows, and of the manifest if they come from shards.
    sha256: [Option<String>; 2],
}

impl Read {
    pub(super) fn of(data: &Data, split: SplitKind, max_age_days: Option<u32>) -> Self {
        Self {
            split,
            max_age_days,
            origin: if data.shards_sha256.is_some() {
                Origin::Shards
            } else {
                Origin::Database
            },
            sha256: [
                Some(snapshot_sha256(&data.dataset)),
                data.shards_sha256.clone(),
            ],
        }
    }

    /// The difference from the data that a model was `trained_on`, if there is one.
    pub(super) fn other_than(&self, trained_on: &TrainedOn) -> Option<String> {
        if self.split != trained_on.split {
            return Some("the model was trained on another split".to_owned());
        }
        if (self.sha256.iter().flatten()).any(|sha256| *sha256 == trained_on.snapshot_sha256) {
            return None;
        }
        let age = |days: Option<u32>| {
            days.map_or_else(
                || "without --max-age-days".to_owned(),
                |days| format!("with --max-age-days {days}"),
            )
        };
        if self.origin == Origin::Shards {
            let reason = "the model was not trained from these shards, nor from a database \
                          with the same rows";
            return Some(reason.to_owned());
        }
        let reason = match trained_on.origin {
            Some(Origin::Shards) => {
                "the model was trained from shards (--data), and what is in them cannot be compared with the database, which is read here \
                 (`twotower evaluate --data` with the same shards judges the model itself)"
                    .to_owned()
            }
            Some(Origin::Database) if trained_on.max_age_days != self.max_age_days => format!(
                "the model was trained {}, and is judged {} (or max_age_days of [training]): with the same it is judged itself, \
                 unless the data have changed since",
                age(trained_on.max_age_days),
                age(self.max_age_days)
            ),
            Some(Origin::Database) => "the data have changed since the model was trained".to_owned(),
            None => "the data have changed since the model was trained, or it was trained with another \
                     --max-age-days or from shards"
                .to_owned(),
        };
        Some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_the_data_of_a_model_is_named() {
        let trained_on = |origin: Option<Origin>, max_age_days| TrainedOn {
            cut_off_us: None,
            learned_until_us: None,
            learned_since_us: None,
            fine_tuned_from: None,
            snapshot_sha256: "ab".into(),
            likes: 3,
            skips: 4,
            users: 5,
            videos: 6,
            split: SplitKind::Temporal,
            erasures_seen: None,
            origin,
            max_age_days,
        };
        let (database, shards) = (Some(Origin::Database), Some(Origin::Shards));
        let read = |sha256: &str, max_age_days| Read {
            split: SplitKind::Temporal,
            max_age_days,
            origin: Origin::Database,
            sha256: [Some(sha256.into()), None],
        };
        let other = |read: &Read, trained_on| read.other_than(&trained_on).unwrap();
        for origin in [None, database, shards] {
            let same = read("ab", Some(9)).other_than(&trained_on(origin, None));
            assert_eq!(same, None);
        }
        let llo = Read {
            split: SplitKind::Llo,
            ..read("ab", None)
        };
        assert!(other(&llo, trained_on(None, None)).ends_with("another split"));
        let later = read("cd", Some(9));
        assert!(other(&later, trained_on(shards, None)).contains("from shards"));
        let of_shards = |manifest: &str| Read {
            origin: Origin::Shards,
            sha256: [Some("cd".into()), Some(manifest.into())],
            ..read("", None)
        };
        assert_eq!(of_shards("ab").other_than(&trained_on(shards, None)), None);
        assert!(other(&of_shards("ef"), trained_on(database, None)).contains("these shards"));
        assert_eq!(
            other(&later, trained_on(database, Some(9))),
            "the data have changed since the model was trained"
        );
        let aged = other(&later, trained_on(database, Some(30)));
        assert!(
            aged.contains("trained with --max-age-days 30, and is judged with --max-age-days 9"),
            "{aged}"
        );
        let whole = other(&later, trained_on(database, None));
        assert!(whole.contains("trained without --max-age-days"), "{whole}");
        assert!(other(&later, trained_on(None, None)).contains("or from shards"));
    }
}
