//! Timelines that are kept elsewhere, read batch by batch while the batches before are learned.

use super::window::{Excerpt, Window};
use crate::timeline::{Timeline, Timelines};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// Batches that wait, at most; one more is being read, one planned, and one learned.
const AHEAD: usize = 3;

/// Most batches that are in memory at once.
pub(super) const BATCHES_HELD: usize = AHEAD + 3;

/// Where a timeline is among the numbers of a batch.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    likes: usize,
    skips: usize,
}

/// Timelines of the windows of one batch. That of a user with several windows is read once: whoever has liked a thousand times what
/// others like in all comes up in most batches, and several times in each.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    numbers: Vec<u32>,
    /// Of each window's user.
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

    /// The windows that it was read for, each with its timeline.
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

#[cfg(test)]
mod tests {
    use super::super::window::windows;
    use super::*;
    use crate::interaction::Interaction;
    use crate::timeline::HeldTimelines;
    use std::sync::Mutex;

    /// Timelines that have to be read, and who was.
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
        // As they lie in a batch: a user's windows are not side by side.
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
