//! Listens for notifications of the database that a user has changed, so that every process forgets
//! what it keeps of that user.

use super::cache::Subject;
use crate::serve::router::App;
use arc_swap::ArcSwapOption;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use twotower_store::{InteractionKind, StoreKind, UserChange, UserChangeHasher, UserChanges};
use uuid::Uuid;

/// Time between tries to listen while the database does not answer.
const RETRY: Duration = Duration::from_secs(10);

/// Names users as notifications do, once the naming is known, and knows whether notifications would
/// arrive.
#[derive(Debug, Default)]
pub(in crate::serve) struct Subjects {
    hasher: ArcSwapOption<UserChangeHasher>,
    heard: AtomicBool,
}

impl Subjects {
    /// The subject under which answers of `user` are kept.
    pub(in crate::serve) fn of(&self, user: Uuid) -> Subject {
        match &*self.hasher.load() {
            Some(hasher) => Subject::Key(hasher.key(user)),
            None => Subject::User(user),
        }
    }

    /// Whether a notification of a change, above all of an erasure, would arrive now, and all
    /// earlier ones have arrived. Otherwise a user of whom something is kept may have been erased.
    pub(in crate::serve) fn are_heard(&self) -> bool {
        self.heard.load(Ordering::Acquire)
    }

    fn hear(&self, heard: bool) {
        self.heard.store(heard, Ordering::Release);
    }
}

/// Forgets the answers of users when notifications of their changes arrive, for ever.
///
/// No current answer depends on it: whether a kept answer may be given again depends on the state
/// that the database returns for the request. Notifications limit what a stale answer may miss, and
/// how long the data of a user stays in memory. So no stale answer is given while notifications do
/// not arrive ([`Subjects::are_heard`]).
///
/// If users' states are read from a replica, a notification has that user's state read from the
/// primary until the replica has the change.
pub(in crate::serve) async fn listen(app: &App) {
    let App {
        subjects,
        answers,
        sources,
        ..
    } = app;
    let Some(mut changes) = begin(app).await else {
        return;
    };
    subjects.hasher.store(Some(changes.hasher().into()));
    // A table of the application sends no notifications. Missing ones must not be taken for a lack
    // of changes, so the replica stays unverified.
    let of_all = !keeps_its_own(app);
    if of_all {
        sources.all_changed();
    } else {
        tell_of_silence(app);
    }
    answers.drop_all();
    subjects.hear(true);
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = sources.switched() => {
                subjects.hear(false);
                changes.hang_up();
                continue;
            }
        };
        match change {
            UserChange::User(key) => {
                if of_all {
                    sources.changed(Subject::Key(key));
                }
                answers.drop_user(&Subject::Key(key));
            }
            UserChange::All => {
                subjects.hasher.store(Some(changes.hasher().into()));
                if of_all {
                    sources.all_changed();
                }
                answers.drop_all();
                subjects.hear(true);
            }
            // Changes made meanwhile are reported as `All`.
            UserChange::Lost => {
                subjects.hear(false);
                sources.unheard();
            }
        }
    }
}

/// Listens as soon as that is possible; `None` if it never is.
async fn begin(app: &App) -> Option<UserChanges> {
    let mut told = false;
    loop {
        let again = match app.store.listen_user_changes().await {
            Ok(Some(changes)) => return Some(changes),
            Ok(None) => {
                if !std::mem::replace(&mut told, true) {
                    tell_of_silence(app);
                }
                if app.store.kind() == StoreKind::Sqlite {
                    return None;
                }
                // The database may have been too busy to tell in time, or may get its triggers
                // later, or another server may appear behind its address.
                app.limits.listen_again
            }
            Err(error) => {
                tracing::debug!(%error, "cannot listen for changes yet");
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(again) => {}
            () = app.sources.switched() => {}
        }
    }
}

/// Whether the application writes likes or skips to tables of its own, which send no notifications.
fn keeps_its_own(app: &App) -> bool {
    app.store.reads_elsewhere(InteractionKind::Like)
        || app.store.reads_elsewhere(InteractionKind::Skip)
}

fn tell_of_silence(app: &App) {
    if keeps_its_own(app) {
        if app.sources.has_replica() {
            tracing::warn!(
                "section [source] reads likes or skips from the application's own tables, which pass on no word of changes: the replica is \
                 read only while the primary is away"
            );
        }
        return;
    }
    tracing::info!(
        "this database passes on no word of changes; answers are forgotten when they are asked for or grow old"
    );
    if app.sources.has_replica() {
        tracing::warn!(
            "without word of changes the replica is read only while the primary is away: connect to the server itself, or to its \
             pooler in session mode"
        );
    }
}
