use thiserror::Error;

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
    /// Ctrl-C or SIGTERM.
    #[error(
        "interrupted; nothing is half-written, and starting it again is safe (`train --resume` and `tune --resume` go on where it was)"
    )]
    Interrupted,
}
