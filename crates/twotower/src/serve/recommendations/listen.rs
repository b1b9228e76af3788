//! Word from the database that a user has changed, so that what was made of them before is forgotten in every process.

use super::cache::{AnswerCache, Subject};
use crate::serve::replica::Sources;
use arc_swap::ArcSwapOption;
use std::time::Duration;
use twotower_store::{Store, UserChange, UserChangeHasher};
use uuid::Uuid;

/// Between tries to listen while the database does not answer.
const RETRY: Duration = Duration::from_secs(10);

/// Names users as notifications do, once it is known how.
#[derive(Debug, Default)]
pub(in crate::serve) struct Subjects(ArcSwapOption<UserChangeHasher>);

impl Subjects {
    /// What answers of `user` are kept under.
    pub(in crate::serve) fn of(&self, user: Uuid) -> Subject {
        match &*self.0.load() {
            Some(hasher) => Subject::Key(hasher.key(user)),
            None => Subject::User(user),
        }
    }
}

/// Forgets the answers of users as word of their changes comes, for ever.
///
/// No answer depends on it: whether one may be given again is decided by what the database says at the moment of the request. It bounds
/// what a stale answer may not know, and how long what was made of somebody stays in memory.
///
/// Where users' states are read from a replica, word of a change has that user's read from the primary, until the replica has the change.
pub(in crate::serve) async fn listen(
    store: &Store,
    subjects: &Subjects,
    answers: &AnswerCache,
    sources: &Sources,
) {
    let mut changes = loop {
        match store.listen_user_changes().await {
            Ok(Some(changes)) => break changes,
            Ok(None) => {
                tracing::info!(
                    "this database passes on no word of changes; answers are forgotten when they are asked for or grow old"
                );
                if sources.has_replica() {
                    tracing::warn!(
                        "without word of changes the replica is read only while the primary is away: connect to the server itself, or to its \
                         pooler in session mode"
                    );
                }
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot listen for changes yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    subjects.0.store(Some(changes.hasher().into()));
    sources.all_changed();
    answers.drop_all();
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = sources.switched() => {
                changes.hang_up();
                continue;
            }
        };
        match change {
            UserChange::User(key) => {
                sources.changed(Subject::Key(key));
                answers.drop_user(&Subject::Key(key));
            }
            UserChange::All => {
                sources.all_changed();
                answers.drop_all();
            }
            // The database is away: what is kept is all there is, and what changes meanwhile is told as `All`.
            UserChange::Lost => sources.unheard(),
        }
    }
}
