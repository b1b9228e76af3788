//! Reads timelines that are not in memory, batch by batch, while earlier batches are learned.

use super::window::{Excerpt, Window};
use crate::timeline::{Timeline, Timelines};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// At most this many batches wait; one more is being read, one planned, and one learned.
const AHEAD: usize = 3;

/// At most this many batches are in memory at once.
pub(super) const BATCHES_HELD: usize = AHEAD + 3;

/// Position of a timeline among the numbers of a batch.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    likes: usize,
    skips: usize,
}

/// Timelines of the windows of one batch. A user's timeline is read once even if the user has
/// several windows: very active users are in most batches, several times in each.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    numbers: Vec<u32>,
    /// For each window, the place of its user's timeline.
    places: Vec<Place>,
}

impl Loaded {
    fn read(timelines: &dyn Timelines, windows: &[Window]) -> io::Result<Self> {
        let mut loaded = Self::default();
        let mut read: HashMap<u32, Place> = HashMap::new();
        for window in windows {
            let place = if let Some(&place) = read.get(&window.user) {
                place
            } else {
                let user = window.user as usize;
                let start = loaded.numbers.len();
                timelines.read(user, &mut loaded.numbers)?;
                let (likes, skips) = timelines.lengths(user);
                let place = Place {
                    start,
                    likes,
                    skips,
                };
                read.insert(window.user, place);
                place
            };
            loaded.places.push(place);
        }
        Ok(loaded)
    }

    /// The windows that the timelines were read for, each with its timeline.
    pub(super) fn excerpts<'t>(&'t self, windows: &[Window]) -> Vec<Excerpt<'t>> {
        let with_places = windows.iter().zip(&self.places);
        with_places
            .map(|(window, place)| {
                let end = place.start + Timeline::numbers(place.likes, place.skips);
                let own = &self.numbers[place.start..end];
                window.of(Timeline::of_numbers(own, place.likes, place.skips))
            })
            .collect()
    }
}

/// Gives the batches of an epoch in order. A thread reads ahead, and ends when this is dropped.
pub(super) struct ReadAhead {
    batches: Receiver<io::Result<Loaded>>,
}

impl ReadAhead {
    /// Starts reading `batches` of `windows`.
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
    /// If it cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Loaded> {
        self.batches
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("no batch of the epoch is left")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::windows;
    use super::*;
    use crate::interaction::Interaction;
    use crate::timeline::HeldTimelines;
    use std::sync::Mutex;

    /// Timelines that have to be read, and a record of the users that were.
    #[derive(Debug)]
    struct Elsewhere {
        timelines: HeldTimelines,
        read: Mutex<Vec<usize>>,
    }

    impl Timelines for Elsewhere {
        fn users(&self) -> usize {
            self.timelines.users()
        }

        fn lengths(&self, user: usize) -> (usize, usize) {
            self.timelines.lengths(user)
        }

        fn held(&self, _: usize) -> Option<Timeline<'_>> {
            None
        }

        fn read(&self, user: usize, numbers: &mut Vec<u32>) -> io::Result<()> {
            self.read.lock().unwrap().push(user);
            self.timelines.read(user, numbers)
        }

        fn bytes(&self) -> usize {
            0
        }
    }

    #[test]
    fn a_user_of_several_windows_is_read_once_a_batch() {
        let row = |user: u32, at: u32| Interaction {
            user,
            item: 100 * user + at,
            at,
        };
        let likes = (0..9).flat_map(|at| (0..3).map(move |user| row(user, at)));
        let skips = (0..4).map(|at| row(1, 2 + at));
        let timelines = HeldTimelines::new(3, likes.collect::<Vec<_>>(), skips.collect::<Vec<_>>());
        let of_users = windows(&timelines, 2, false, |_, _| ()).unwrap();
        // In random order, as in a batch: the windows of a user are not adjacent.
        let mut batch = of_users.clone();
        batch.reverse();
        batch.extend(of_users);
        let elsewhere = Elsewhere {
            timelines,
            read: Mutex::default(),
        };
        let loaded = Loaded::read(&elsewhere, &batch).unwrap();
        assert_eq!(*elsewhere.read.lock().unwrap(), [2, 1, 0]);
        assert_eq!(loaded.numbers.len(), 3 * 9 + 2 * 4);
        let excerpts = loaded.excerpts(&batch);
        assert_eq!(excerpts.len(), batch.len());
        for (excerpt, window) in excerpts.into_iter().zip(&batch) {
            let held = window.of(elsewhere.timelines.of(window.user as usize));
            assert_eq!(
                excerpt.items().collect::<Vec<_>>(),
                held.items().collect::<Vec<_>>()
            );
            assert_eq!(
                excerpt.skipped().collect::<Vec<_>>(),
                held.skipped().collect::<Vec<_>>()
            );
        }
    }
}
