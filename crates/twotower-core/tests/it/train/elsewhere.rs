//! Likes that are not in memory: the same model, and errors are reported.

use super::{Sample, hyperparameters};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::timeline::{HeldTimelines, Timeline, Timelines};
use twotower_core::train::{Goal, Run, TrainError, TrainingData};

/// Timelines that have to be read, and fail after a number of reads.
#[derive(Debug)]
struct Elsewhere {
    timelines: HeldTimelines,
    reads_left: AtomicUsize,
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
        let left = self.reads_left.fetch_sub(1, Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::other("the disk is gone"));
        }
        self.timelines.read(user, numbers)
    }

    fn bytes(&self) -> usize {
        0
    }
}

fn elsewhere(sample: &Sample, reads: usize) -> TrainingData<'_> {
    let dataset = &sample.dataset;
    let timelines = HeldTimelines::new(dataset.users, &sample.split.train[..], &sample.skips[..]);
    TrainingData {
        catalogue: &dataset.catalogue,
        timelines: Arc::new(Elsewhere {
            timelines,
            reads_left: AtomicUsize::new(reads),
        }),
        until: sample.data().until,
    }
}

#[test]
fn the_model_is_the_one_of_likes_in_memory() {
    let sample = Sample::new(12);
    let hyperparameters = Hyperparameters {
        epochs: 2,
        ..hyperparameters()
    };
    let goal = Goal::Best(&sample.held_out);
    let held = sample.train(&hyperparameters).unwrap();
    let bytes = held.model.to_safetensors().unwrap();
    for cut in [0, 5] {
        let mut run = Run::new(elsewhere(&sample, usize::MAX), &hyperparameters, goal).unwrap();
        for _ in 0..cut {
            run.advance().unwrap();
        }
        let checkpoint = run.checkpoint("elsewhere").unwrap();
        let again = Run::new(elsewhere(&sample, usize::MAX), &hyperparameters, goal).unwrap();
        let mut run = again.resume("elsewhere", &checkpoint).unwrap();
        while run.advance().unwrap().is_some() {}
        let read = run.finish();
        assert_eq!(read.epochs, held.epochs);
        assert!(read.model.to_safetensors().unwrap() == bytes, "cut {cut}");
    }
}

#[test]
fn likes_that_cannot_be_read_end_the_run() {
    let sample = Sample::new(12);
    let users = sample.dataset.users;
    let refused = |reads: usize| {
        let data = elsewhere(&sample, reads);
        let mut run = Run::new(data, &hyperparameters(), Goal::Epochs(1))?;
        while run.advance()?.is_some() {}
        Ok(())
    };
    // Before the first step, and in the middle of an epoch.
    for reads in [3, 5 * users / 2] {
        match refused(reads) {
            Err(TrainError::Read(error)) => assert_eq!(error.to_string(), "the disk is gone"),
            other => panic!("{reads} reads: {other:?}"),
        }
    }
}
