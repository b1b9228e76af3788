//! Word from the database that a user has changed, so that what was made of them before is forgotten in every process.

use super::cache::Subject;
use crate::serve::router::App;
use arc_swap::ArcSwapOption;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use twotower_store::{InteractionKind, StoreKind, UserChange, UserChangeHasher, UserChanges};
use uuid::Uuid;

/// Between tries to listen while the database does not answer.
const RETRY: Duration = Duration::from_secs(10);

/// Names users as notifications do, once it is known how, and knows whether any would be heard.
#[derive(Debug, Default)]
pub(in crate::serve) struct Subjects {
    hasher: ArcSwapOption<UserChangeHasher>,
    heard: AtomicBool,
}

impl Subjects {
    /// What answers of `user` are kept under.
    pub(in crate::serve) fn of(&self, user: Uuid) -> Subject {
        match &*self.hasher.load() {
            Some(hasher) => Subject::Key(hasher.key(user)),
            None => Subject::User(user),
        }
    }

    /// Whether word of a change, an erasure before all, would come now, and has come of all that was before. Without it nobody knows
    /// whether a user of whom something is kept is still one.
    pub(in crate::serve) fn are_heard(&self) -> bool {
        self.heard.load(Ordering::Acquire)
    }

    fn hear(&self, heard: bool) {
        self.heard.store(heard, Ordering::Release);
    }
}

/// Forgets the answers of users as word of their changes comes, for ever.
///
/// No answer depends on it: whether one may be given again is decided by what the database says at the moment of the request. It bounds
/// what a stale answer may not know, and how long what was made of somebody stays in memory. So none is given while no word comes
/// ([`Subjects::are_heard`]).
///
/// Where users' states are read from a replica, word of a change has that user's read from the primary, until the replica has the change.
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
    // Who hears of some changes alone must not take the others for none, so that the replica stays what it is without word of any.
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
            // What changes meanwhile is told as `All`.
            UserChange::Lost => {
                subjects.hear(false);
                sources.unheard();
            }
        }
    }
}

/// Listens as soon as that can be done; `None` where it never can.
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
                // The database may just have been too busy to tell in time, or get its triggers, or another server comes behind its address.
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

/// Whether the application writes likes or skips into tables of its own, of which nobody tells.
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
