use super::shard::{Packed, Row, ShardWriter};
use crate::function::read_event;
use anyhow::{Context, ensure};
use std::collections::HashMap;
use twotower_core::feature::Catalogue;

type Id = [u8; 16];

/// Takes the sorted stream and keeps of each (user, kind, video) the earliest row, videos and users being numbered.
pub(super) struct Packer {
    positions: HashMap<Id, u32>,
    shards: ShardWriter,
    /// For each video the last group (of one user and one kind) that it was seen in.
    seen: Vec<u64>,
    group: u64,
    current: Option<(Id, i8)>,
    /// The number of the current user, once a row of theirs is kept.
    number: Option<u32>,
    users: u32,
    orphans: u64,
}

impl Packer {
    pub(super) fn new(catalogue: &Catalogue, shards: ShardWriter) -> Self {
        let ids = catalogue.videos().map(|video| video.id.into_bytes());
        Self {
            positions: ids.zip(0..).collect(),
            shards,
            seen: vec![0; catalogue.len()],
            group: 0,
            current: None,
            number: None,
            users: 0,
            orphans: 0,
        }
    }

    /// Takes a row that comes after all those before in the order (user, kind, at, video).
    pub(super) fn push(&mut self, row: &[u8]) -> anyhow::Result<()> {
        let (user, (kind, at_us, video)) = row
            .split_first_chunk()
            .and_then(|(user, event)| Some((*user, read_event(event)?)))
            .context("the engine gave back rows of another length")?;
        if self.current != Some((user, kind)) {
            self.enter(user, kind)?;
        }
        let Some(&video) = self.positions.get(video) else {
            self.orphans += 1;
            return Ok(());
        };
        let seen = &mut self.seen[video as usize];
        if std::mem::replace(seen, self.group) == self.group {
            return Ok(());
        }
        let user = if let Some(number) = self.number {
            number
        } else {
            let number = self.users;
            self.users = number
                .checked_add(1)
                .context("more users than 32 bits can number")?;
            *self.number.insert(number)
        };
        self.shards.push(Row {
            user,
            kind,
            video,
            at_us,
        })
    }

    /// Begins the rows of one user and kind.
    fn enter(&mut self, user: Id, kind: i8) -> anyhow::Result<()> {
        ensure!(
            self.current.is_none_or(|current| current < (user, kind)),
            "the engine gave the rows back out of order"
        );
        if self.current.is_none_or(|(current, _)| current != user) {
            self.number = None;
        }
        self.current = Some((user, kind));
        self.group += 1;
        Ok(())
    }

    /// What was written, and the number of rows that name no video of the catalogue.
    pub(super) fn finish(self) -> anyhow::Result<(Packed, u64)> {
        Ok((self.shards.finish()?, self.orphans))
    }
}
