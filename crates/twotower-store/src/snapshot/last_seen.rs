use super::check_time;
use crate::erasure::Tombstones;
use crate::{InteractionKind, LastSeen, StoreError};
use std::collections::HashMap;
use uuid::Uuid;

/// Collects when each user was last seen, from rows in any order.
#[derive(Debug)]
pub(crate) struct LastSeenBuilder {
    tombstones: Tombstones,
    users: HashMap<Uuid, LastSeen>,
}

impl LastSeenBuilder {
    pub(crate) fn new(tombstones: Tombstones) -> Self {
        Self {
            tombstones,
            users: HashMap::new(),
        }
    }

    /// Adds one like or skip.
    pub(crate) fn push(
        &mut self,
        kind: InteractionKind,
        user: Uuid,
        at_us: i64,
    ) -> Result<(), StoreError> {
        check_time(kind, at_us)?;
        let seen = self.users.entry(user).or_insert(LastSeen {
            user,
            like_us: None,
            at_us,
        });
        seen.at_us = seen.at_us.max(at_us);
        if kind == InteractionKind::Like {
            seen.like_us = seen.like_us.max(Some(at_us));
        }
        Ok(())
    }

    /// Ascending by user, without erased ones.
    pub(crate) fn finish(self) -> Vec<LastSeen> {
        let mut seen: Vec<LastSeen> = self.users.into_values().collect();
        seen.retain(|seen| !self.tombstones.cover(seen.user));
        seen.sort_unstable_by_key(|seen| seen.user);
        seen
    }
}
