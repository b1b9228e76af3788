//! Classes of errors, for callers that retry and for exit codes.

use super::StoreError;

/// What an error means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The address of the database or a query of the configuration is wrong, so that a retry is
    /// useless.
    Usage,
    /// The database is out of reach, busy, or takes no writes for now. The same call may succeed
    /// later.
    Unavailable,
    /// The database cancelled the statement, mostly at its time limit. The same call may succeed in
    /// another hour, but a job that repeats it at once is likely to be cancelled again.
    Cancelled,
    /// The server's certificate is refused, until somebody changes the address or the server.
    Certificate,
    /// Another process has become the publisher.
    Superseded,
    /// Any other failure.
    Failure,
}

impl StoreError {
    /// The class of the error. The match is exhaustive, so that nobody adds a variant without
    /// choosing its class.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Url(_)
            | Self::ReplicaUrl(_)
            | Self::Insecure { .. }
            | Self::NoFile(_)
            | Self::NoCertificateFile { .. }
            | Self::Source { .. }
            | Self::Unmapped { .. }
            | Self::Statement { .. }
            | Self::Connect {
                cause: sqlx::Error::Configuration(_),
                ..
            } => ErrorClass::Usage,
            Self::Connect { .. }
            | Self::Connection(_)
            | Self::Busy(_)
            | Self::Deadline { .. }
            | Self::MigrationLocked { .. }
            | Self::EraseLocked { .. }
            | Self::ReadOnly(_)
            | Self::Standby => ErrorClass::Unavailable,
            Self::Cancelled(_) => ErrorClass::Cancelled,
            Self::Certificate { .. } => ErrorClass::Certificate,
            Self::LeaseLost => ErrorClass::Superseded,
            Self::MissingTables { .. }
            | Self::OtherVectors { .. }
            | Self::LostSalt(_)
            | Self::Schema(_)
            | Self::Permission(_)
            | Self::Constraint { .. }
            | Self::Value { .. }
            | Self::Database(_)
            | Self::UnknownVideo(_)
            | Self::Video { .. }
            | Self::Block { .. }
            | Self::Time { .. }
            | Self::Row { .. }
            | Self::ReadElsewhere(_)
            | Self::Catalogue(_)
            | Self::ErasedUser
            | Self::UnknownModel(_)
            | Self::OtherModel { .. }
            | Self::ActiveModel(_)
            | Self::SetActive(_)
            | Self::NotActivatable { .. }
            | Self::ExperimentRuns
            | Self::Settings { .. }
            | Self::DamagedFile { .. }
            | Self::Vector { .. } => ErrorClass::Failure,
        }
    }

    /// Whether the address of the database or a query of the configuration is wrong, so that a
    /// retry is useless.
    pub fn is_usage(&self) -> bool {
        self.class() == ErrorClass::Usage
    }

    /// Whether the same call may succeed later although nothing is changed here: the database is
    /// busy or out of reach, it cancelled the statement, or its certificate has to be renewed.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.class(),
            ErrorClass::Unavailable | ErrorClass::Cancelled | ErrorClass::Certificate
        )
    }
}
