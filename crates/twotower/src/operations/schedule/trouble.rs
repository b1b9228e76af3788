//! Trouble that every look meets again, twice a second perhaps, and that is told once.

use crate::operations::Job;
use std::collections::HashMap;
use std::fmt::Display;

/// What was told of each job last, while it lasts.
#[derive(Debug, Default)]
pub(super) struct Trouble(HashMap<Job, String>);

impl Trouble {
    /// What is to be told of what a look at `job` met: nothing, if that was told already or there is none.
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
        let mut trouble = Trouble::default();
        let mut told = |met: Option<&str>| trouble.news(Job::Update, met.as_ref());
        assert_eq!(told(None), None);
        assert_eq!(told(Some("no lock")), Some("no lock".into()));
        assert_eq!(told(Some("no lock")), None);
        assert_eq!(told(Some("no file")), Some("no file".into()));
        assert_eq!(told(None), None);
        assert_eq!(told(Some("no file")), Some("no file".into()));
        assert_eq!(
            trouble.news(Job::Backup, Some(&"no file")),
            Some("no file".into())
        );
    }
}
