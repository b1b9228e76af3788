//! Timelines that are kept elsewhere, read batch by batch while the batches before are learned.

use super::window::{Excerpt, Window};
use crate::timeline::{Timeline, Timelines};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// Batches that wait, at most; one more is being read, one planned, and one learned.
const AHEAD: usize = 3;

/// Most batches that are in memory at once.
pub(super) const BATCHES_HELD: usize = AHEAD + 3;

/// Timelines of the windows of one batch.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    numbers: Vec<u32>,
    /// Of each window the likes and the skips of its user.
    lengths: Vec<(usize, usize)>,
}

impl Loaded {
    fn read(timelines: &dyn Timelines, windows: &[Window]) -> io::Result<Self> {
        let mut loaded = Self::default();
        for window in windows {
            let user = window.user as usize;
            timelines.read(user, &mut loaded.numbers)?;
            loaded.lengths.push(timelines.lengths(user));
        }
        Ok(loaded)
    }

    /// The windows that it was read for, each with its timeline.
    pub(super) fn excerpts<'t>(&'t self, windows: &[Window]) -> Vec<Excerpt<'t>> {
        let mut rest = &self.numbers[..];
        let with_lengths = windows.iter().zip(&self.lengths);
        with_lengths
            .map(|(window, &(likes, skips))| {
                let (own, others) = rest.split_at(Timeline::numbers(likes, skips));
                rest = others;
                window.of(Timeline::of_numbers(own, likes, skips))
            })
            .collect()
    }
}

/// The batches of an epoch, in order, from a thread that reads ahead and ends with this.
pub(super) struct ReadAhead {
    batches: Receiver<io::Result<Loaded>>,
}

impl ReadAhead {
    /// Begins to read `batches` of `windows`.
    pub(super) fn start(
        timelines: Arc<dyn Timelines>,
        windows: Arc<Vec<Window>>,
        batches: Vec<Range<usize>>,
    ) -> Self {
        let (sender, receiver) = sync_channel(AHEAD);
        thread::spawn(move || {
            for batch in batches {
                let loaded = Loaded::read(&*timelines, &windows[batch]);
                let failed = loaded.is_err();
                if sender.send(loaded).is_err() || failed {
                    break;
                }
            }
        });
        Self { batches: receiver }
    }

    /// The next batch.
    ///
    /// # Errors
    /// If it could not be read.
    pub(super) fn next(&mut self) -> io::Result<Loaded> {
        self.batches
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("no batch of the epoch is left")))
    }
}
