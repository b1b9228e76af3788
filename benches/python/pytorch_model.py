"""Both towers and the loss in PyTorch, see pytorch_two_tower.py.

Letters in shapes: see windows.py; d is the dimension, x the inputs and h the hidden units of a tower.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from data import NUMERIC_FEATURES
from torch import nn
from windows import COUNT_SCALE, DECAYS, decay_matrix, mean_factors

DIM = 64
HIDDEN = 128
TEMPERATURE = 0.1
DROPOUT = 0.3
ID_DROPOUT = 0.1
GELU_SLOPE = 1.702
MIN_NORM = 1e-6
SOFTMAX_ROWS = 128


# ---- gradients of tables ---------------------------------------------------------------------------------------------


def stable_order(keys):
    """Positions of `keys` in ascending order. NumPy sorts 16-bit keys by radix, in linear time."""
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    if keys.max(initial=0) >= 1 << 16:
        high = (keys >> 16).astype(np.uint16)
        order = order[np.argsort(high[order], kind="stable")]
    return order


def bag_gradient(terms, weights, gradient):
    """Distinct rows, ascending, and the sum for each over its uses of weight · gradient of the bag.

    `terms` [n, k] numpy, `weights` [n, k], `gradient` [n, d].
    """
    uses = terms.ravel()
    order = stable_order(uses)
    sorted_uses = uses[order]
    begins = np.flatnonzero(np.diff(sorted_uses, prepend=-1))
    sums = F.embedding_bag(
        torch.from_numpy(order // terms.shape[1]),
        gradient,
        torch.from_numpy(begins),
        mode="sum",
        per_sample_weights=weights.view(-1).index_select(0, torch.from_numpy(order)),
    )
    return torch.from_numpy(sorted_uses[begins].astype(np.int64)), sums


def table_gradient(table, rows, sums, dense):
    """The gradient of `table` from those of its `rows`, distinct and ascending."""
    if dense:
        return torch.zeros_like(table).index_copy_(0, rows, sums)
    return torch.sparse_coo_tensor(rows[None], sums, table.shape, is_coalesced=True, check_invariants=False)


class ItemInputs(torch.autograd.Function):
    """x = [id row ‖ weighted sum of term rows ‖ numeric] of distinct videos, ids hidden where `with_id` is 0."""

    @staticmethod
    def forward(ctx, ids, terms, items, with_id, catalogue, dense):
        ctx.ids, ctx.terms, ctx.items, ctx.dense = ids, terms, items, dense
        ctx.with_id = torch.from_numpy(with_id)[:, None].to(ids.dtype)
        own = ids.index_select(0, torch.from_numpy(items)).mul_(ctx.with_id)
        if terms is None:
            return own
        ctx.item_terms = catalogue.terms[items]
        ctx.weights = catalogue.weights.to(terms.dtype).repeat(len(items), 1)
        content = F.embedding_bag(torch.from_numpy(ctx.item_terms), terms, mode="sum", per_sample_weights=ctx.weights)
        numeric = torch.from_numpy(catalogue.numeric[items]).to(terms.dtype)
        return torch.cat([own, content, numeric], dim=1)

    @staticmethod
    def backward(ctx, dx):
        dim = ctx.ids.shape[1]
        order = torch.from_numpy(np.argsort(ctx.items))
        own = (dx[:, :dim] * ctx.with_id).index_select(0, order)
        ids = table_gradient(ctx.ids, torch.from_numpy(ctx.items)[order], own, ctx.dense)
        if ctx.terms is None:
            return ids, None, None, None, None, None
        content = dx[:, dim : 2 * dim].contiguous()
        rows, sums = bag_gradient(ctx.item_terms, ctx.weights, content)
        return ids, table_gradient(ctx.terms, rows, sums, ctx.dense), None, None, None, None


class Catalogue:
    """Features of all videos, as the item tower gathers them."""

    def __init__(self, data):
        self.terms = data.terms
        self.weights = torch.from_numpy(data.term_weights)
        self.numeric = data.numeric


# ---- histories -------------------------------------------------------------------------------------------------------


class UserInputs(torch.autograd.Function):
    """x = [mean of the liked vectors at each decay ‖ mean of skips, zero ‖ ln counts] times a mask, [E, x]."""

    @staticmethod
    def forward(ctx, vectors, carried, batch, tables, mask):
        steps, windows = batch.columns.shape
        (count, dim), scales = vectors.shape, len(DECAYS)
        columns = torch.from_numpy(batch.columns.ravel())
        history = vectors.new_zeros(steps + scales, windows, dim)
        torch.index_select(vectors, 0, columns, out=history[:steps].view(-1, dim))
        if carried is not None:
            history[steps:, torch.from_numpy(batch.carry.windows)] = carried.view(-1, scales, dim).transpose(0, 1)
        matrix = tables.matrix(steps)
        sums = matrix @ history.view(steps + scales, windows * dim)
        liked = torch.from_numpy(batch.liked)
        factors = tables.factors.index_select(0, liked).unsqueeze(2)
        rows = example_rows(batch, scales)
        means = sums.view(-1, dim).index_select(0, rows).view(-1, scales, dim)
        x = vectors.new_empty(len(liked), (scales + 1) * dim + 2)
        torch.mul(means, factors, out=x[:, : scales * dim].view(-1, scales, dim))
        x[:, scales * dim :] = 0
        x[:, -2] = tables.log_counts.index_select(0, liked)
        if mask is not None:
            x.mul_(mask)
        ctx.columns, ctx.matrix, ctx.factors, ctx.rows, ctx.mask = columns, matrix, factors, rows, mask
        ctx.shape = steps, windows, count
        return x

    @staticmethod
    def backward(ctx, dx):
        (steps, windows, count), scales = ctx.shape, len(DECAYS)
        dim = (dx.shape[1] - 2) // (scales + 1)
        likes = slice(0, scales * dim)
        dmeans = dx[:, likes] if ctx.mask is None else dx[:, likes] * ctx.mask[:, likes]
        # Sums that no example reads take the gradient of one more row, which is 0.
        padded = dx.new_empty(len(ctx.rows) + 1, dim)
        torch.mul(dmeans.view(-1, scales, dim), ctx.factors, out=padded[:-1].view(-1, scales, dim))
        padded[-1] = 0
        reader = torch.full((steps * scales * windows,), len(ctx.rows))
        reader[ctx.rows] = torch.arange(len(ctx.rows))
        dsums = padded.index_select(0, reader).view(steps * scales, windows * dim)
        dhistory = ctx.matrix[:, :steps].t() @ dsums
        dvectors = dx.new_zeros(count, dim)
        dvectors.scatter_add_(0, ctx.columns[:, None].expand(-1, dim), dhistory.view(-1, dim))
        return dvectors, None, None, None, None


def example_rows(batch, scales):
    """[E S]: rows of the sums, [L S W, d], that make each example's means."""
    windows = batch.columns.shape[1]
    time, window = np.divmod(batch.positions, windows)
    rows = (time * scales)[:, None] + np.arange(scales)
    return torch.from_numpy((rows * windows + window[:, None]).ravel())


class HistoryTables:
    """Powers of the decays, factors and logarithms of counts, computed once."""

    def __init__(self, longest, dtype=torch.float32):
        self.powers = torch.from_numpy(decay_matrix()).to(dtype)
        self.factors = torch.from_numpy(mean_factors(longest)).to(dtype)
        self.log_counts = torch.from_numpy(COUNT_SCALE * np.log1p(np.arange(longest + 1))).to(dtype)
        self.cut = {}

    def matrix(self, steps):
        """[steps S, steps + S]: the part for windows of up to `steps` likes."""
        if steps not in self.cut:
            rows = self.powers[: steps * len(DECAYS)]
            carry = rows[:, -len(DECAYS) :]
            self.cut[steps] = torch.cat([rows[:, :steps], carry], dim=1)
        return self.cut[steps]


# ---- loss ------------------------------------------------------------------------------------------------------------


class SampledSoftmax(torch.autograd.Function):
    """Mean of -log softmax of the target. Gradients come with the forward pass, block by block of rows."""

    @staticmethod
    def forward(ctx, users, vectors, bias, positive_bias, window_of, targets, temperature):
        rows, columns = len(users), len(vectors)
        dusers, dvectors = torch.empty_like(users), torch.zeros_like(vectors)
        likelihoods = users.new_empty(rows)
        buffer = users.new_empty(min(rows, SOFTMAX_ROWS), columns)
        for first in range(0, rows, SOFTMAX_ROWS):
            block = slice(first, min(first + SOFTMAX_ROWS, rows))
            target = targets[block]
            logits = buffer[: len(target)]
            torch.index_select(bias, 0, window_of[block], out=logits)
            own = torch.arange(len(target)).mul_(columns).add_(target)
            logits.view(-1).index_copy_(0, own, positive_bias.index_select(0, target))
            logits.addmm_(users[block], vectors.t(), alpha=1 / temperature)
            torch.softmax(logits, dim=1, out=logits)
            likelihood = logits.view(-1).index_select(0, own)
            likelihoods[block] = likelihood
            logits.view(-1).index_copy_(0, own, likelihood - 1)
            torch.mm(logits, vectors, out=dusers[block])
            dvectors.addmm_(logits.t(), users[block])
        scale = 1 / (temperature * rows)
        ctx.save_for_backward(dusers.mul_(scale), dvectors.mul_(scale))
        return likelihoods.log_().mean().neg_()

    @staticmethod
    def backward(ctx, dloss):
        # The loss is where backward begins, so that its own gradient is 1.
        return *ctx.saved_tensors, None, None, None, None, None


def window_bias(batch, dtype):
    """[W, C]: bias of each candidate for the rows of each window, -inf where the window's user likes it anyway."""
    negative = torch.from_numpy(batch.negative_bias).to(dtype)
    bias = negative.repeat(batch.columns.shape[1], 1)
    window, candidate = batch.known
    known = torch.from_numpy(window * len(negative) + candidate)
    bias.view(-1).index_fill_(0, known, -math.inf)
    return bias


# ---- towers ----------------------------------------------------------------------------------------------------------


def dropout_mask(rows, columns, rate):
    """[rows, columns] float32 of 0 and 1, and what the kept ones are to be multiplied by. Eight decisions for each
    64 random bits."""
    threshold = round(rate * 256)
    words = torch.empty(-(-rows * columns // 8), dtype=torch.int64).random_(-(2**63), None)
    dropped = words.view(torch.uint8)[: rows * columns].view(rows, columns).ge(threshold)
    return dropped.float(), 256 / (256 - threshold)


class HeadFunction(torch.autograd.Function):
    """See [`Head`]; by hand, so that products take constants and sums along."""

    @staticmethod
    def forward(ctx, x, hidden, hidden_bias, output, output_bias, residual, drop):
        # silu(1.702 a) / 1.702 = a σ(1.702 a).
        ctx.scales = drop.x_scale, GELU_SLOPE * drop.x_scale, drop.hidden_scale / GELU_SLOPE
        x_scale, slope, y_scale = ctx.scales
        a = torch.addmm(hidden_bias, x, hidden, beta=GELU_SLOPE, alpha=slope)
        y = F.silu(a)
        if drop.hidden is not None:
            y.mul_(drop.hidden)
        z = torch.addmm(output_bias, x, residual, alpha=x_scale).addmm_(y, output, alpha=y_scale)
        norms = torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_(min=MIN_NORM)
        out = z.div_(norms)
        ctx.mask = drop.hidden
        ctx.save_for_backward(x, hidden, output, residual, a, y, norms, out)
        return out

    @staticmethod
    def backward(ctx, dout):
        x, hidden, output, residual, a, y, norms, out = ctx.saved_tensors
        x_scale, slope, y_scale = ctx.scales
        along = torch.linalg.vecdot(out, dout).unsqueeze(1)
        dz = torch.addcmul(dout, out, along, value=-1).div_(norms)
        dy = product(dz, output.t(), y_scale)
        if ctx.mask is not None:
            dy.mul_(ctx.mask)
        da = torch.ops.aten.silu_backward(dy, a)
        dx = product(da, hidden.t(), slope).addmm_(dz, residual.t(), alpha=x_scale)
        dhidden, dresidual = product(x.t(), da, slope), product(x.t(), dz, x_scale)
        doutput = product(y.t(), dz, y_scale)
        return dx, dhidden, da.sum(0).mul_(GELU_SLOPE), doutput, dz.sum(0), dresidual, None


def product(left, right, scale):
    """scale · left right"""
    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=scale)


class Dropout:
    """What is dropped of a tower's inputs and hidden units: masks of 0 and 1, and what the kept ones count."""

    def __init__(self, rows=0, inputs=0, rate=0.0):
        self.x = self.hidden = None
        self.x_scale = self.hidden_scale = 1.0
        if rate > 0:
            self.x, self.x_scale = dropout_mask(rows, inputs, rate)
            self.hidden, self.hidden_scale = dropout_mask(rows, HIDDEN, rate)


class Head(nn.Module):
    """z = GELU(x W₁ + b₁) W₂ + b₂ + x W₃ with GELU(a) = a σ(1.702 a), and the output is z / max(‖z‖, MIN_NORM)."""

    def __init__(self, inputs, blocks, gain):
        super().__init__()
        self.hidden = glorot(inputs, HIDDEN)
        self.hidden_bias = nn.Parameter(torch.zeros(HIDDEN))
        self.output = glorot(HIDDEN, DIM)
        self.output_bias = nn.Parameter(torch.zeros(DIM))
        residual = torch.zeros(inputs, DIM)
        residual[: blocks * DIM] = gain * torch.eye(DIM).repeat(blocks, 1)
        self.residual = nn.Parameter(residual)

    def forward(self, x, drop):
        """`x` with the mask of `drop` applied already."""
        weights = self.hidden, self.hidden_bias, self.output, self.output_bias, self.residual
        return HeadFunction.apply(x, *weights, drop)


def glorot(inputs, outputs):
    """Glorot-uniform weights [inputs, outputs]."""
    limit = math.sqrt(6 / (inputs + outputs))
    return nn.Parameter(torch.empty(inputs, outputs).uniform_(-limit, limit))


class TwoTower(nn.Module):
    """Both towers and the data they read."""

    def __init__(self, data, id_only, dropout=True):
        super().__init__()
        limit = math.sqrt(3 / DIM)
        table = lambda rows: nn.Parameter(torch.empty(rows, DIM).uniform_(-limit, limit))  # noqa: E731
        self.ids = table(data.videos)
        self.terms = None if id_only else table(data.term_rows)
        inputs = DIM if id_only else 2 * DIM + NUMERIC_FEATURES
        self.item_head = Head(inputs, blocks=1 if id_only else 2, gain=1.0)
        self.user_head = Head((len(DECAYS) + 1) * DIM + 2, blocks=len(DECAYS), gain=1 / len(DECAYS))
        self.catalogue = Catalogue(data)
        self.history = HistoryTables(int(np.diff(data.offsets).max()))
        self.dropout = dropout
        self.dense_gradients = False
        self.frozen = None
        self.random = np.random.default_rng(1)

    def tables(self):
        """Parameters of which a step touches few rows."""
        return [table for table in (self.ids, self.terms) if table is not None]

    def layers(self):
        """All other parameters."""
        return [*self.item_head.parameters(), *self.user_head.parameters()]

    def embed_items(self, items, with_id):
        """[n, d] of these videos."""
        x = ItemInputs.apply(self.ids, self.terms, items, with_id, self.catalogue, self.dense_gradients)
        return self.item_head(x, Dropout())

    @torch.no_grad()
    def freeze(self, chunk=4096):
        """Keeps the vectors of all videos as they are now, for what came before a window."""
        videos = np.arange(len(self.ids))
        chunks = np.split(videos, range(chunk, len(videos), chunk))
        self.frozen = torch.cat([self.embed_items(items, np.ones(len(items))) for items in chunks])

    def carried(self, carry):
        """[w S, d]: decayed sums of what came before."""
        if len(carry.windows) == 0:
            return None
        return F.embedding_bag(
            torch.from_numpy(carry.items),
            self.frozen,
            torch.from_numpy(carry.offsets),
            mode="sum",
            per_sample_weights=torch.from_numpy(carry.weights).to(self.frozen.dtype),
        )

    def forward(self, batch):
        """The mean loss of the batch, in nats."""
        rate = ID_DROPOUT if self.dropout else 0
        vectors = self.embed_items(batch.items, self.random.random(len(batch.items)) >= rate)
        examples, inputs = len(batch.positions), len(self.user_head.residual)
        drop = Dropout(examples, inputs, DROPOUT if self.dropout else 0)
        users = self.user_head(UserInputs.apply(vectors, self.carried(batch.carry), batch, self.history, drop.x), drop)
        return SampledSoftmax.apply(
            users,
            vectors[: len(batch.negative_bias)],
            window_bias(batch, vectors.dtype),
            torch.from_numpy(batch.positive_bias).to(vectors.dtype),
            torch.from_numpy(batch.window_of),
            torch.from_numpy(batch.targets),
            TEMPERATURE,
        )
