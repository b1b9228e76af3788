//! Deduplicates errors that recur at every poll, twice a second, so that each is logged once.

use crate::operations::Job;
use std::collections::HashMap;
use std::fmt::Display;

/// The last error logged for each job, while it lasts.
#[derive(Debug, Default)]
pub(super) struct LoggedErrors(HashMap<Job, String>);

impl LoggedErrors {
    /// What to log of the error `met` by a poll of `job`: `None` if it was logged already, or there
    /// is none.
    pub(super) fn news(&mut self, job: Job, met: Option<&impl Display>) -> Option<String> {
        let Some(met) = met.map(ToString::to_string) else {
            self.0.remove(&job);
            return None;
        };
        let told = self.0.insert(job, met.clone());
        (told.as_ref() != Some(&met)).then_some(met)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_until_it_changes() {
        let mut errors = LoggedErrors::default();
        let mut told = |met: Option<&str>| errors.news(Job::Update, met.as_ref());
        assert_eq!(told(None), None);
        assert_eq!(told(Some("no lock")), Some("no lock".into()));
        assert_eq!(told(Some("no lock")), None);
        assert_eq!(told(Some("no file")), Some("no file".into()));
        assert_eq!(told(None), None);
        assert_eq!(told(Some("no file")), Some("no file".into()));
        assert_eq!(
            errors.news(Job::Backup, Some(&"no file")),
            Some("no file".into())
        );
    }
}
