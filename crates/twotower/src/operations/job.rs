use clap::ValueEnum;
use std::fmt;

/// A scheduled job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Job {
    /// Bring the vectors of the active model up to date, and take up a new model
    Update,
    /// Train, evaluate, load, publish, promote, prune
    Retrain,
    /// Upkeep of the tables, prune
    Maintain,
    /// A copy of what is ours
    Backup,
}

impl Job {
    /// Every job, in the order of a night.
    pub const ALL: [Self; 4] = [Self::Backup, Self::Update, Self::Retrain, Self::Maintain];

    /// The spelling in commands, the configuration and the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Retrain => "retrain",
            Self::Maintain => "maintain",
            Self::Backup => "backup",
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
