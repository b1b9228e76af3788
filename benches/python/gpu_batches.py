"""Batches of windows drawn on the device, in shapes that never change, so that a captured graph can draw them.

Letters: those of windows.py, and V videos, E examples and W windows that a batch has room for, K likes that the users of
its windows have room for, n distinct videos that a step has room for. Places without use point at a row too many: video V,
column n.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from windows import COUNT_SCALE, DECAYS, NEGATIVES, WINDOW, cut, decay_matrix, mean_factors

ROOM = 1.1
"""Room of a batch over the most that sampled batches needed."""
SAMPLED_BATCHES = 64
ALIGNMENT = 8
"""Inner sides of products are filled up with zeros to a multiple of this, as matrix units want them."""
CARRY_CHUNK = 1 << 12


@dataclass(frozen=True)
class Room:
    """Sizes of the arrays of a step."""

    windows: int
    examples: int
    known: int
    videos: int


@dataclass(frozen=True)
class Batch:
    """One step."""

    items: torch.Tensor
    """[n]: distinct videos, V where there are fewer."""
    bias: torch.Tensor
    """[W, n]: ln(times drawn) - ln(times expected), -inf for what is no candidate or is liked by the window's user."""
    positive_bias: torch.Tensor
    """[n]: -ln(times expected)."""
    columns: torch.Tensor
    """[W, WINDOW]: position in `items` of each like."""
    carry: torch.Tensor
    """[W]: row of the carried sums of each window."""
    positions: torch.Tensor
    """[E]: where in [W, WINDOW] each example stands."""
    targets: torch.Tensor
    """[E]: its column."""
    liked: torch.Tensor
    """[E]: how many likes came before it."""
    used: torch.Tensor
    """[E]: whether there is such an example."""

    def fields(self):
        """All tensors, for functions that take nothing else."""
        return tuple(vars(self).values())


class Epochs:
    """Likes and windows on the device, an order of the windows for each epoch, and the next batch of it.

    The order is arranged on the host, once an epoch; a step reads its number from the device and waits for nothing.
    """

    def __init__(self, data, size, seed, device, dtype=torch.float32, negatives=NEGATIVES):
        self.device, self.size, self.negatives, self.videos = device, size, negatives, data.videos
        self.random = np.random.default_rng(seed)
        lengths = np.diff(data.offsets)
        user, start, length = cut(lengths)
        self.examples, self.user_likes = length - (start == 0), lengths[user]
        on_device = lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device)  # noqa: E731
        self.likes = on_device(data.items)
        self.first_like, self.known_likes = on_device(data.offsets[user]), on_device(self.user_likes)
        self.start, self.length = on_device(start), on_device(length)
        # Row 0 of what is carried is that of windows with nothing before them.
        self.carry_row = on_device(np.where(start > 0, np.cumsum(start > 0), 0))
        self.continued = on_device(np.flatnonzero(start))
        self.share = on_device(np.append(data.target_share(), 0)).to(dtype)
        self.factors = on_device(mean_factors(int(lengths.max()))).to(dtype)
        self.log_counts = on_device(COUNT_SCALE * np.log1p(np.arange(lengths.max() + 1))).to(dtype)
        matrix = torch.from_numpy(decay_matrix())
        self.matrix = F.pad(matrix, (0, -matrix.shape[1] % ALIGNMENT)).to(device, dtype)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.overflow = torch.zeros(1, dtype=torch.int64, device=device)
        order = self.random.permutation(len(user))
        self.room = self.measure(data, order)
        self.column_of = torch.full((data.videos + 1,), self.room.videos, device=device)
        self.order = torch.zeros(len(order), dtype=torch.int64, device=device)
        self.bounds = torch.zeros(len(self.cut_batches(order)) * 2, dtype=torch.int64, device=device)
        self.arrange(order)

    def measure(self, data, order):
        """Room for any batch of `order`, and for as many distinct videos as a sample of them needs."""
        self.room = Room(len(order), self.size, int(self.user_likes.sum()), 0)
        bounds = self.cut_batches(order)
        windows = int(ROOM * np.diff(bounds).max()) + 1
        known = int(ROOM * np.add.reduceat(self.user_likes[order], bounds[:-1]).max()) + 1
        first, length = self.first_like.cpu().numpy(), self.length.cpu().numpy()
        begins = first + self.start.cpu().numpy()
        distinct = 0
        for batch in self.random.integers(0, len(bounds) - 1, SAMPLED_BATCHES):
            chosen = order[bounds[batch] : bounds[batch + 1]]
            liked = [data.items[begins[w] : begins[w] + length[w]] for w in chosen]
            drawn = self.random.integers(0, self.videos, self.negatives)
            distinct = max(distinct, len(np.unique(np.concatenate([*liked, drawn]))))
        most = self.size + self.negatives + windows
        return Room(windows, self.size, known, min(round_up(ROOM * distinct, 128), round_up(most, 8)))

    def cut_batches(self, order):
        """Bounds of the batches of `order`: as many windows as there is room for."""
        examples, known = (np.cumsum(np.append(0, each[order])) for each in (self.examples, self.user_likes))
        bounds = [0]
        while bounds[-1] < len(order):
            begin = bounds[-1]
            ends = [
                np.searchsorted(examples, examples[begin] + self.room.examples, side="right") - 1,
                np.searchsorted(known, known[begin] + self.room.known, side="right") - 1,
                begin + self.room.windows,
            ]
            assert min(ends) > begin, "a batch has no room for a window"
            bounds.append(int(min(ends)))
        return np.array(bounds)

    def begin(self):
        """Arranges the next epoch."""
        self.arrange(self.random.permutation(len(self.order)))

    def arrange(self, order):
        """Begins an epoch with its windows in this `order`."""
        bounds = self.cut_batches(order)
        self.steps = len(bounds) - 1
        self.examples_until = np.cumsum(np.append(0, self.examples[order]))[bounds]
        self.order.copy_(torch.from_numpy(order))
        self.bounds[: len(bounds)].copy_(torch.from_numpy(bounds))
        self.step.zero_()

    @torch.no_grad()
    def carried(self, frozen):
        """[1 + continued windows, S and filling, d]: decayed sums of the `frozen` vectors of what came before each, zeros in
        row 0."""
        scales, width = len(DECAYS), self.matrix.shape[1] - WINDOW
        decays = torch.tensor(DECAYS, dtype=frozen.dtype, device=self.device)[:, None]
        age = torch.arange(WINDOW - 1, -1, -1, device=self.device)
        sums = frozen.new_zeros(len(self.continued) + 1, width, frozen.shape[1])
        for windows in self.continued.split(CARRY_CHUNK):
            before = self.first_like[windows] + self.start[windows] - WINDOW
            items = self.likes[before[:, None] + torch.arange(WINDOW, device=self.device)]
            sums[self.carry_row[windows], :scales] = (decays**age) @ frozen[items.long()]
        # A user's windows stand in a row, so that what each adds to is the row before its own.
        number = self.start[self.continued] // WINDOW
        for current in range(2, int(number.max()) + 1 if len(number) else 0):
            rows = self.carry_row[self.continued[number == current]]
            sums[rows, :scales] += decays**WINDOW * sums[rows - 1, :scales]
        return sums

    def draw(self, drawn):
        """The [`Batch`] of the step that [`Epochs.step`] names, with these negatives; leaves `column_of` to [`Epochs.forget`]."""
        room, device = self.room, self.device
        begin, end = self.bounds[self.step], self.bounds[self.step + 1]
        place = begin + torch.arange(room.windows, device=device)
        windows = self.order[place.clamp(max=len(self.order) - 1)]
        present = place < end
        start, first = self.start[windows], self.first_like[windows]
        length = torch.where(present, self.length[windows], 0)
        time = torch.arange(WINDOW, device=device)
        inside = time < length[:, None]
        items = self.likes[torch.where(inside, (first + start)[:, None] + time, 0)].long()
        is_example = inside & (time + start[:, None] > 0)
        positions, used = compacted(is_example.view(-1), room.examples)
        window = positions // WINDOW
        target_items = torch.where(used, items.view(-1)[positions], self.videos)
        begins = torch.where(present, items[:, 0], self.videos)
        draws = torch.cat([target_items, drawn, begins])
        distinct = self.distinct(draws)
        candidates = self.column_of[draws[: room.examples + self.negatives]]
        counts = torch.zeros(room.videos + 1, dtype=self.share.dtype, device=device)
        counts.index_add_(0, candidates, torch.ones_like(candidates, dtype=counts.dtype))
        expected = used.sum() * self.share[distinct] + self.negatives / self.videos
        bias = (counts[:-1].log() - expected.log()).expand(room.windows, -1)
        known = self.known(first, torch.where(present, self.known_likes[windows], 0))
        # Padding of windows is spread over all columns: its gradient is 0, but adding it to one row would take turns.
        spread = (torch.arange(room.windows, device=device)[:, None] * WINDOW + time) % room.videos
        return Batch(
            items=distinct,
            bias=bias.masked_fill(known, -torch.inf),
            positive_bias=-expected.log(),
            columns=torch.where(inside, self.column_of[items], spread).clamp(max=room.videos - 1),
            carry=torch.where(present, self.carry_row[windows], 0),
            positions=positions,
            targets=torch.where(used, candidates[: room.examples], 0).clamp(max=room.videos - 1),
            liked=torch.where(used, start[window] + positions % WINDOW, 0),
            used=used,
        )

    def distinct(self, draws):
        """[n]: the distinct videos of `draws`, and their places to `column_of`, without a sort."""
        room, number = self.room.videos, torch.arange(len(draws), device=self.device)
        # Of the numbers written to one place one stays: each video has one draw that stands for it.
        self.column_of.index_copy_(0, draws, number)
        standing = self.column_of[draws]
        stands = (standing == number) & (draws < self.videos)
        rank = torch.cumsum(stands, 0) - 1
        self.overflow.add_((rank[-1:] + 1 - room).clamp(min=0))
        column = torch.where(draws < self.videos, rank[standing].clamp(max=room), room)
        self.column_of.index_copy_(0, draws, column)
        items = torch.full((room + 1,), self.videos, device=self.device)
        return items.index_copy_(0, column, draws)[:room]

    def known(self, first, likes):
        """[W, n]: whether a window's user, whose `likes` likes begin at `first`, likes a candidate anyway."""
        room, ends = self.room, torch.cumsum(likes, 0)
        number = torch.arange(room.known, device=self.device)
        window = torch.searchsorted(ends, number, right=True).clamp(max=room.windows - 1)
        like = first[window] + number - (ends - likes)[window]
        items = self.likes[torch.where(number < ends[-1], like, 0)].long()
        column = torch.where(number < ends[-1], self.column_of[items], room.videos)
        known = torch.zeros(room.windows * (room.videos + 1), dtype=torch.bool, device=self.device)
        known.index_fill_(0, window * (room.videos + 1) + column, True)
        return known.view(room.windows, -1)[:, :-1]

    def forget(self, items):
        """Clears `column_of` of a batch's `items`, and goes on to the next step."""
        self.column_of.index_fill_(0, items, self.room.videos)
        self.step.add_(1)


def compacted(chosen, room):
    """[room]: places of what is chosen, in order, then 0; and [room]: which of them are used."""
    rank = torch.cumsum(chosen, 0)
    slot = torch.where(chosen, rank - 1, room).clamp(max=room)
    places = torch.zeros(room + 1, dtype=torch.int64, device=chosen.device)
    places.index_copy_(0, slot, torch.arange(len(chosen), device=chosen.device))
    used = torch.arange(room, device=chosen.device) < rank[-1]
    return torch.where(used, places[:room], 0), used


def round_up(number, multiple):
    """The next multiple."""
    return -int(-number // multiple) * multiple
