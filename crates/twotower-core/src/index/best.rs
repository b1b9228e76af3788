use crate::recommend::Scored;

/// The best of a stream of videos in any order.
#[derive(Debug, Default)]
pub(super) struct Best {
    wanted: usize,
    kept: Vec<Scored>,
    /// Lower scores are not among the best.
    threshold: f32,
}

impl Best {
    /// Starts again, with room for the `wanted` best.
    pub(super) fn begin(&mut self, wanted: usize) {
        self.wanted = wanted;
        self.kept.clear();
        self.threshold = if wanted == 0 {
            f32::INFINITY
        } else {
            f32::NEG_INFINITY
        };
    }

    /// Scores below this one can no longer be among the best.
    pub(super) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Adds a video, unless its score is below the threshold.
    #[inline]
    pub(super) fn offer(&mut self, scored: Scored) {
        if scored.score >= self.threshold && self.wanted > 0 {
            self.kept.push(scored);
            if self.kept.len() >= 2 * self.wanted + 32 {
                self.settle();
            }
        }
    }

    /// Drops all but the best, so that [`Best::threshold`] is as high as possible.
    pub(super) fn settle(&mut self) {
        if self.kept.len() >= self.wanted && self.wanted > 0 {
            self.kept
                .select_nth_unstable_by(self.wanted - 1, Scored::best_first);
            self.kept.truncate(self.wanted);
            self.threshold = self.kept[self.wanted - 1].score;
        }
    }

    /// Takes the best, best first; ties to the smaller position.
    pub(super) fn take(&mut self) -> Vec<Scored> {
        self.settle();
        self.kept.sort_unstable_by(Scored::best_first);
        // A copy, so that the next search finds the room.
        self.kept.clone()
    }
}
