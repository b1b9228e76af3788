use super::identity::describe_holder;
use thiserror::Error;
use twotower_core::gate::Verdict;
use twotower_store::LeaseHolder;

/// Failures that callers distinguish. They have exit codes of their own.
#[derive(Debug, Error)]
pub enum JobError {
    /// Too few likes to train.
    #[error(
        "{likes} likes are too few to learn from, {minimum} are the least: import more with `twotower import`"
    )]
    TooFewLikes {
        /// Number of likes.
        likes: u64,
        /// Minimum number of likes.
        minimum: u64,
    },
    /// The model has already learned all likes that it could be fine-tuned with.
    #[error(
        "{nothing_new} {version} has learned: fine-tune again when more have come in",
        nothing_new = JobError::NOTHING_NEW
    )]
    NothingNew {
        /// Version of the model.
        version: i64,
    },
    /// Another process publishes.
    #[error("nothing was done: {holder}. Try again when it is through")]
    Held {
        /// The process, and since when it publishes.
        holder: String,
    },
    /// The quality gate refused a version.
    #[error(
        "version {version} was {verdict}\nreaders keep what they see. Its vectors are loaded: `twotower models promote {version} --force` \
         makes it active all the same, and says so in the history"
    )]
    Refused {
        /// The version that was not made active.
        version: i64,
        /// The checks and their results.
        verdict: Verdict,
    },
    /// The recorded verdict of the quality gate cannot be read.
    #[error(
        "what the quality gate said of version {version} cannot be read ({reason}), so that it counts as refused: readers keep what they see. \
         `twotower models show {version}` prints it; `twotower models promote {version} --force` makes the version active all the same, and says so \
         in the history"
    )]
    UnreadableVerdict {
        /// The version that was not made active.
        version: i64,
        /// The parse error.
        reason: serde_json::Error,
    },
    /// A version is served although it should have been replaced.
    #[error(
        "version {version}, which is served, may have learned from somebody who was erased, and should have been replaced by {by}: train a \
         new one with `twotower train --update-db`"
    )]
    Overdue {
        /// The active version.
        version: i64,
        /// The last day on which it should have been served, UTC.
        by: String,
    },
    /// The id of an erased user was found.
    #[error(
        "the id was found in {places} places, listed above: {}",
        if *is_video {
            "a video has the same id, so look whose it is in each of them, delete there what is of the user alone, and run again"
        } else {
            "delete it there, and run again"
        }
    )]
    Found {
        /// Number of columns and files.
        places: usize,
        /// Whether a video has the same id.
        is_video: bool,
    },
    /// The user asked to stop, by Ctrl-C or SIGTERM.
    #[error(
        "interrupted; nothing is half-written, and starting it again is safe (`train --resume` and `tune --resume` go on where it was)"
    )]
    Interrupted,
}

impl JobError {
    /// How [`JobError::NothingNew`] begins. `twotower run` tells it from too few likes by that.
    pub(crate) const NOTHING_NEW: &str =
        "no like that may be learned is later than those that model";

    /// See [`JobError::Held`].
    pub(super) fn held(holder: &LeaseHolder) -> Self {
        Self::Held {
            holder: describe_holder(holder),
        }
    }
}
