use super::identity::describe_holder;
use thiserror::Error;
use twotower_core::gate::Verdict;
use twotower_store::LeaseHolder;

/// Failures that a caller may want to tell apart; each has an exit code of its own.
#[derive(Debug, Error)]
pub enum JobError {
    /// Too little to learn from.
    #[error(
        "{likes} likes are too few to learn from, {minimum} are the least: import more with `twotower import`"
    )]
    TooFewLikes {
        /// What there is.
        likes: u64,
        /// What is needed.
        minimum: u64,
    },
    /// A model knows all likes that it could be fine-tuned with.
    #[error(
        "no like that may be learned is later than those that model {version} has learned: fine-tune again when more have come in"
    )]
    NothingNew {
        /// Version of the model.
        version: i64,
    },
    /// Another process publishes.
    #[error("nothing was done: {holder}. Try again when it is through")]
    Held {
        /// Which, and since when.
        holder: String,
    },
    /// The quality gate says no.
    #[error(
        "version {version} was {verdict}\nreaders keep what they see. Its vectors are loaded: `twotower models promote {version} --force` \
         makes it active all the same, and says so in the history"
    )]
    Refused {
        /// The version that was not made active.
        version: i64,
        /// What was asked and what was found.
        verdict: Verdict,
    },
    /// The quality gate has said something that cannot be understood.
    #[error(
        "what the quality gate said of version {version} cannot be read ({reason}), so that it counts as refused: readers keep what they see. \
         `twotower models show {version}` prints it; `twotower models promote {version} --force` makes the version active all the same, and says so \
         in the history"
    )]
    UnreadableVerdict {
        /// The version that was not made active.
        version: i64,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
    /// A version that should not be served any more is.
    #[error(
        "version {version}, which is served, may have learned from somebody who was erased, and should have been replaced by {by}: train a \
         new one with `twotower train --update-db`"
    )]
    Overdue {
        /// The active version.
        version: i64,
        /// The last day, UTC.
        by: String,
    },
    /// An erased user is still somewhere.
    #[error(
        "the id was found in {places} places, listed above: {}",
        if *is_video {
            "a video has the same id, so look whose it is in each of them, delete there what is of the user alone, and run again"
        } else {
            "delete it there, and run again"
        }
    )]
    Found {
        /// Columns and files.
        places: usize,
        /// Whether a video has this id, too.
        is_video: bool,
    },
    /// Ctrl-C or SIGTERM.
    #[error(
        "interrupted; nothing is half-written, and starting it again is safe (`train --resume` and `tune --resume` go on where it was)"
    )]
    Interrupted,
}

impl JobError {
    /// See [`JobError::Held`].
    pub(super) fn held(holder: &LeaseHolder) -> Self {
        Self::Held {
            holder: describe_holder(holder),
        }
    }
}
