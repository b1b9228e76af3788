"""Steps of the two-tower trainer as index arrays: windows of likes, candidates, what a user likes anyway.

Letters: W windows of a batch, L likes of the longest of them, E examples, C candidates, n videos of a step (candidates
first, then videos that only stand in a history), S scales. All of it is numpy without a loop over windows.
"""

from dataclasses import dataclass

import numpy as np

DECAYS = (0.0, 0.5, 0.8, 0.95, 1.0)
WINDOW = 64
NEGATIVES = 512
COUNT_SCALE = 0.2
FORGOTTEN = 1e-8
"""A like whose weight in an average is below this would change no bit of a float32 sum."""


@dataclass(frozen=True)
class Carry:
    """What came before the windows that do not begin their sequence: a bag of likes for each such window and scale."""

    windows: np.ndarray
    """[w]: positions of those windows in the batch."""
    items: np.ndarray
    """[N]: videos of all bags."""
    offsets: np.ndarray
    """[w S]: where each bag begins."""
    weights: np.ndarray
    """[N] float32: decay ** age."""


@dataclass(frozen=True)
class Batch:
    """One step."""

    items: np.ndarray
    """[n]: distinct videos."""
    negative_bias: np.ndarray
    """[C] float32: ln(times drawn) - ln(times expected)."""
    positive_bias: np.ndarray
    """[C] float32: -ln(times expected)."""
    columns: np.ndarray
    """[L, W]: position in `items` of each like of each window, padded with 0 at the end."""
    positions: np.ndarray
    """[E]: where in the padded [L, W] each example stands."""
    targets: np.ndarray
    """[E]: its candidate."""
    liked: np.ndarray
    """[E]: how many likes came before it."""
    known: tuple
    """Windows and candidates [K] of all pairs in which the window's user likes the candidate."""
    carry: Carry

    @property
    def window_of(self):
        """[E]: the window of each example."""
        return self.positions % self.columns.shape[1]


class Batches:
    """Endless batches of shuffled windows of at most WINDOW likes, at most `size` examples each."""

    def __init__(self, data, size, seed, negatives=NEGATIVES):
        self.data, self.size, self.negatives = data, size, negatives
        self.random = np.random.default_rng(seed)
        self.share = data.target_share()
        self.user, self.start, self.length = cut(np.diff(data.offsets))
        self.examples = self.length - (self.start == 0)
        self.column_of = np.full(data.videos, -1)
        longest = int(np.diff(data.offsets).max())
        self.remembered = np.array([remembered(decay, longest) for decay in DECAYS])
        self.powers = np.float64(DECAYS)[:, None] ** np.arange(longest + 1)
        self.order, self.next = None, 0

    def __iter__(self):
        return self

    def begins_epoch(self):
        """Whether the next batch is the first of an epoch."""
        return self.order is None or self.next == len(self.order)

    def __next__(self):
        if self.begins_epoch():
            self.order, self.next = self.random.permutation(len(self.user)), 0
            self.examples_until = np.concatenate([[0], np.cumsum(self.examples[self.order])])
        reach = self.examples_until[self.next] + self.size
        end = np.searchsorted(self.examples_until, reach, side="right") - 1
        end = max(end, self.next + 1)
        windows, self.next = self.order[self.next : end], end
        return self.batch(windows, self.random.integers(0, self.data.videos, self.negatives))

    def batch(self, windows, drawn):
        """The batch of these windows with these `drawn` negatives."""
        offsets, likes = self.data.offsets, self.data.items
        user, start, length = self.user[windows], self.start[windows], self.length[windows]
        first = offsets[user] + start
        time = np.arange(length.max())[:, None]
        inside = time < length
        items = likes[np.where(inside, first + time, first)]
        positions = np.flatnonzero(inside & (time + start > 0))
        targets = items.ravel()[positions]
        candidates, counts = self.candidates(targets, drawn)
        # The first like of a sequence is in a history without being a target.
        history = items[0, self.column_of[items[0]] < 0]
        videos = np.concatenate([candidates, np.unique(history)])
        self.column_of[videos] = np.arange(len(videos))
        expected = len(targets) * self.share[candidates] + len(drawn) / self.data.videos
        batch = Batch(
            items=videos,
            negative_bias=(np.log(counts) - np.log(expected)).astype(np.float32),
            positive_bias=-np.log(expected).astype(np.float32),
            columns=np.where(inside, self.column_of[items], 0),
            positions=positions,
            targets=self.column_of[targets],
            liked=(time + start).ravel()[positions],
            known=self.known(user, len(candidates)),
            carry=self.carry(first, start),
        )
        self.column_of[videos] = -1
        return batch

    def candidates(self, targets, drawn):
        """Distinct videos of targets and negatives, whose places go to `column_of`, and how often each was drawn."""
        draws = np.concatenate([targets, drawn])
        # Of the positions written to one place one stays: without a sort each video has one draw that stands for it.
        self.column_of[draws] = np.arange(len(draws))
        candidates = draws[self.column_of[draws] == np.arange(len(draws))]
        self.column_of[candidates] = np.arange(len(candidates))
        return candidates, np.bincount(self.column_of[draws])

    def known(self, user, candidates):
        """See [`Batch.known`]."""
        begin, end = self.data.offsets[user], self.data.offsets[user + 1]
        window, place = ragged(end - begin)
        column = self.column_of[self.data.items[begin[window] + place]]
        kept = (column >= 0) & (column < candidates)
        return window[kept], column[kept]

    def carry(self, first, start):
        """See [`Carry`]. `first`: like at which each window begins, `start`: how many of its user's come before it."""
        windows = np.flatnonzero(start)
        lengths = np.minimum(start[windows, None], self.remembered).ravel()
        bag, age = ragged(lengths)
        scales = len(DECAYS)
        return Carry(
            windows=windows,
            items=self.data.items[first[windows][bag // scales] - 1 - age].astype(np.int64),
            offsets=np.cumsum(lengths) - lengths,
            weights=self.powers[bag % scales, age].astype(np.float32),
        )


def cut(lengths):
    """User, start and length of all windows with an example, of sequences of these `lengths`."""
    user, number = ragged(-(-lengths // WINDOW))
    start = number * WINDOW
    length = np.minimum(lengths[user] - start, WINDOW)
    kept = (length > 1) | (start > 0)
    return user[kept], start[kept], length[kept]


def ragged(lengths):
    """(i, 0), (i, 1), … (i, lengths[i] - 1) for each i, as two arrays."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    begins = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) - begins[owner]


def remembered(decay, longest):
    """How many likes back an average with this decay reaches."""
    if decay in (0.0, 1.0):
        return 1 if decay == 0.0 else longest
    return int(np.ceil(np.log(FORGOTTEN) / np.log(decay)))


def mean_factors(longest):
    """[longest + 1, S] float32: 1 / (sum of the weights of n likes); 0 over nothing."""
    count = np.arange(longest + 1)[:, None]
    decay = np.float64(DECAYS)[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = np.where(decay == 1, count, (1 - decay**count) / (1 - decay))
        return np.where(count == 0, 0, 1 / sums).astype(np.float32)


def decay_matrix():
    """[WINDOW S, WINDOW + S] float32, row (t, s): weight at position t and scale s of each like before t, then of the
    carry of each scale."""
    time, scales = np.arange(WINDOW), len(DECAYS)
    matrix = np.zeros((WINDOW, scales, WINDOW + scales))
    age = time[:, None] - 1 - time[None, :]
    for scale, decay in enumerate(DECAYS):
        matrix[:, scale, :WINDOW] = np.where(age >= 0, np.float64(decay) ** np.maximum(age, 0), 0)
        matrix[:, scale, WINDOW + scale] = np.float64(decay) ** time
    return matrix.reshape(WINDOW * scales, WINDOW + scales).astype(np.float32)
