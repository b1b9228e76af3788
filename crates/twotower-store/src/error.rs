use thiserror::Error;

/// Why an operation on the store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The address names no store we know.
    #[error(
        "`{0}` is no database address: use postgresql://user@host/database or sqlite://file.db"
    )]
    Url(String),
}
