"""Synthetic likes and videos of a stated shape, for comparisons of speed.

A generator in another language that follows this description gives data that cost the same to train on, though not the
same bytes.

* Likes of a user: log-normal with sigma 1 and mean `likes / users`, rounded, at least 1 and at most a quarter of the
  videos.
* Video of a like: drawn with probability proportional to 1 / rank, ranks dealt to videos by a random permutation. A
  user likes a video once: repeats are drawn again, and what still repeats after REDRAWS rounds is left out. The order
  of the draws is the order of time. There are no skips.
* Terms of a video, uniform and distinct in each field: 1 of 20 genres, 1 of 500 makers, 3 of 1,000 tags, 2 of 5,000
  performers and 24 of 32,768 buckets of hashed character n-grams. A field's terms share a weight of 1.
* 3 numeric features of a video, standard normal.
"""

from dataclasses import dataclass

import numpy as np

FIELDS = ((20, 1), (500, 1), (1_000, 3), (5_000, 2), (32_768, 24))
"""(terms to choose from, terms of a video) of genre, maker, tags, performers and n-grams."""

NUMERIC_FEATURES = 3
USERS_PER_BLOCK = 10_000
REDRAWS = 20


@dataclass(frozen=True)
class Sizes:
    """What to generate."""

    likes: int = 10_000_000
    users: int = 200_000
    videos: int = 100_000
    seed: int = 42


@dataclass(frozen=True)
class Data:
    """Likes grouped by user, each user's in the order of time, and the features of the videos."""

    offsets: np.ndarray
    """[U + 1] int64: likes of user u are `items[offsets[u]:offsets[u + 1]]`."""
    items: np.ndarray
    """[likes] int32: the video of each like."""
    terms: np.ndarray
    """[V, 31] int32: rows of one table for the terms of all fields."""
    term_weights: np.ndarray
    """[31] float32: weight of each of those rows."""
    numeric: np.ndarray
    """[V, 3] float32."""

    @property
    def videos(self):
        """Number of videos V."""
        return len(self.terms)

    @property
    def term_rows(self):
        """Number of rows of the table of terms."""
        return sum(choices for choices, _ in FIELDS)

    def target_share(self):
        """[V] float64: share of each video among the likes."""
        return np.bincount(self.items, minlength=self.videos) / len(self.items)


def generate(sizes):
    """The data of `sizes`; the same for the same sizes and seed."""
    random = np.random.default_rng(sizes.seed)
    terms = video_terms(random, sizes.videos)
    weights = np.concatenate([np.full(count, 1 / count) for _, count in FIELDS])
    numeric = random.standard_normal((sizes.videos, NUMERIC_FEATURES), dtype=np.float32)
    offsets, items = user_likes(random, sizes)
    return Data(offsets, items, terms, weights.astype(np.float32), numeric)


def video_terms(random, videos):
    """[V, 31] int32: rows of the terms of each video."""
    columns, base = [], 0
    for choices, count in FIELDS:
        # Sorted draws spread by their position are distinct.
        draws = np.sort(random.integers(0, choices - count + 1, (videos, count)), axis=1)
        columns.append(base + draws + np.arange(count))
        base += choices
    return np.concatenate(columns, axis=1).astype(np.int32)


def user_likes(random, sizes):
    """`offsets` and `items` of [`Data`], generated in blocks of users to keep the peak of memory low."""
    popularity = 1 / np.arange(1, sizes.videos + 1)
    cumulative = np.cumsum(popularity / popularity.sum())
    video_of_rank = random.permutation(sizes.videos).astype(np.int32)
    mean = sizes.likes / sizes.users
    counts, items = [], []
    for first in range(0, sizes.users, USERS_PER_BLOCK):
        users = min(USERS_PER_BLOCK, sizes.users - first)
        wanted = np.rint(random.lognormal(np.log(mean) - 0.5, 1.0, users))
        wanted = np.clip(wanted, 1, max(1, sizes.videos // 4)).astype(np.int64)
        owners, ranks = distinct_draws(random, cumulative, wanted)
        counts.append(np.bincount(owners, minlength=users))
        items.append(video_of_rank[ranks])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return offsets.astype(np.int64), np.concatenate(items)


def distinct_draws(random, cumulative, wanted):
    """`wanted[u]` draws for each u, distinct within u: (u, rank) of each draw, in order."""
    last = len(cumulative) - 1
    draw = lambda n: np.minimum(np.searchsorted(cumulative, random.random(n), side="right"), last)  # noqa: E731
    owners = np.repeat(np.arange(len(wanted)), wanted)
    ranks = draw(len(owners))
    repeats = repeated(owners, ranks, len(cumulative))
    for _ in range(REDRAWS):
        if len(repeats) == 0:
            break
        ranks[repeats] = draw(len(repeats))
        repeats = repeated(owners, ranks, len(cumulative))
    return np.delete(owners, repeats), np.delete(ranks, repeats)


def repeated(owners, ranks, choices):
    """Positions whose (owner, rank) stands at an earlier position too."""
    n = len(owners)
    keys = np.sort((owners * choices + ranks) * n + np.arange(n))
    pairs = keys // n
    return keys[1:][pairs[1:] == pairs[:-1]] % n
