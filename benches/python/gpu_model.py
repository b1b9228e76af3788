"""Both towers, the loss and the optimisers for a CUDA device, see gpu_two_tower.py.

Letters in shapes: see gpu_batches.py and pytorch_model.py.
"""

import torch
import torch.nn.functional as F
from gpu_batches import ALIGNMENT
from pytorch_model import DIM, DROPOUT, GELU_SLOPE, HIDDEN, ID_DROPOUT, MIN_NORM, TEMPERATURE
from pytorch_optimizer import ADAGRAD_EPSILON, LEARNING_RATE, TABLE_LEARNING_RATE, WEIGHT_DECAY
from torch import nn
from windows import DECAYS, WINDOW

CHUNK = 1 << 16


class Tower(nn.Module):
    """A head of pytorch_model.py, with the matrices that read its input side by side: one product gives both."""

    def __init__(self, head, device):
        super().__init__()
        inner = torch.cat([head.hidden, head.residual], dim=1).detach()
        parameter = lambda tensor: nn.Parameter(tensor.detach().clone().to(device))  # noqa: E731
        self.inner = parameter(F.pad(inner, (0, 0, 0, -len(inner) % ALIGNMENT)))
        self.hidden_bias, self.output, self.output_bias = map(
            parameter, (head.hidden_bias, head.output, head.output_bias)
        )

    def forward(self, x, dropout):
        """[rows, d] of x [rows, inputs], at unit norm."""
        hidden, residual = (x @ self.inner).split([HIDDEN, DIM], dim=1)
        hidden = hidden + self.hidden_bias
        y = F.dropout(hidden * torch.sigmoid(GELU_SLOPE * hidden), dropout, dropout > 0)
        z = torch.addmm(self.output_bias, y, self.output) + residual
        return F.normalize(z.to(x.dtype), dim=1, eps=MIN_NORM)


class GpuTwoTower(nn.Module):
    """The model of `source`, a TwoTower, on a device, and the rows that stand for nothing at the end of its tables."""

    def __init__(self, source, data, epochs, dropout=True):
        super().__init__()
        device, dtype = epochs.device, source.ids.dtype
        row_too_many = lambda table: F.pad(table.detach(), (0, 0, 0, 1)).to(device)  # noqa: E731
        self.ids, self.terms = row_too_many(source.ids), row_too_many(source.terms)
        nothing = torch.full((1, data.terms.shape[1]), data.term_rows, dtype=torch.int32)
        self.item_terms = torch.cat([torch.from_numpy(data.terms), nothing]).to(device)
        self.numeric = row_too_many(torch.from_numpy(data.numeric).to(dtype))
        self.term_weights = torch.from_numpy(data.term_weights).to(device, dtype)
        self.item_tower, self.user_tower = Tower(source.item_head, device), Tower(source.user_head, device)
        self.dropout, self.id_dropout = (DROPOUT, ID_DROPOUT) if dropout else (0, 0)
        self.epochs = epochs
        self.carried = None

    def content(self, items):
        """[n, d]: weighted sums of the videos' terms."""
        weights = self.term_weights.expand(len(items), -1)
        return F.embedding_bag(self.item_terms[items], self.terms, mode="sum", per_sample_weights=weights)

    def item_vectors(self, ids, content, numeric):
        """[n, d] of rows of ids, content and numbers."""
        inputs = ids.shape[1] + content.shape[1] + numeric.shape[1]
        filling = ids.new_zeros(len(ids), -inputs % ALIGNMENT)
        return self.item_tower(torch.cat([ids, content, numeric, filling], dim=1), 0)

    @torch.no_grad()
    def freeze(self):
        """Renews what is carried into windows, from the vectors of all videos as they are now."""
        chunks = torch.arange(len(self.ids), device=self.ids.device).split(CHUNK)
        vectors = [self.item_vectors(self.ids[c], self.content(c), self.numeric[c]) for c in chunks]
        carried = self.epochs.carried(torch.cat(vectors))
        # A captured graph reads where the first ones were.
        self.carried = carried if self.carried is None else self.carried.copy_(carried)

    def loss(self, ids, content, numeric, kept, carried, *fields):
        """Mean over the examples of -log softmax of the target, in nats. `fields`: those of the batch."""
        items, bias, positive_bias, columns, carry, positions, targets, liked, used = fields
        vectors = self.item_vectors(ids * kept, content, numeric)
        x = self.user_inputs(vectors, carried[carry], columns, positions, liked)
        users = self.user_tower(F.dropout(x, self.dropout, self.dropout > 0), self.dropout)
        logits = ((users / TEMPERATURE) @ vectors.t()).to(ids.dtype)
        # The target is among what its user likes anyway, so that the sum is over the others alone.
        others = torch.logsumexp(logits + bias.index_select(0, positions // WINDOW), dim=1)
        own = torch.linalg.vecdot(users, vectors.index_select(0, targets)) / TEMPERATURE
        losses = F.softplus(others - own - positive_bias[targets])
        return torch.where(used, losses, 0).sum() / used.sum()

    def user_inputs(self, vectors, carried, columns, positions, liked):
        """[E, x]: means at all scales, a mean of skips that is zero, ln counts."""
        epochs, scales = self.epochs, len(DECAYS)
        history = vectors.index_select(0, columns.view(-1)).view(*columns.shape, DIM)
        sums = (epochs.matrix @ torch.cat([history, carried], dim=1)).to(vectors.dtype)
        sums = sums.view(columns.numel(), scales * DIM).index_select(0, positions)
        means = sums.view(-1, scales, DIM) * epochs.factors[liked].unsqueeze(2)
        skips = vectors.new_zeros(len(liked), DIM)
        filling = vectors.new_zeros(len(liked), 1 + (-(scales + 1) * DIM - 2) % ALIGNMENT)
        return torch.cat([means.view(len(liked), -1), skips, epochs.log_counts[liked].unsqueeze(1), filling], dim=1)


class Trainer:
    """A step that reads and writes nothing but the device: batch, loss, gradients, Adam and row-wise Adagrad."""

    def __init__(self, model, precision="float32", compiled=False):
        self.model, self.epochs = model, model.epochs
        self.precision = precision
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.loss, self.draw = wrap(model.loss), wrap(self.draw_batch)
        self.layers = list(model.parameters())
        fused = model.ids.is_cuda
        self.adam = torch.optim.AdamW(
            self.layers, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=fused, capturable=fused
        )
        self.id_squares, self.term_squares = (table.new_zeros(len(table)) for table in (model.ids, model.terms))
        self.term_sums = torch.zeros_like(model.terms)
        self.losses = model.ids.new_zeros(len(self.epochs.bounds))

    def draw_batch(self, drawn):
        """What the loss reads of a batch, as one tuple of tensors."""
        batch = self.epochs.draw(drawn)
        return batch.fields()

    def step(self):
        """One step."""
        drawn = torch.randint(self.epochs.videos, (self.epochs.negatives,), device=self.epochs.device)
        self.step_with(drawn)

    def step_with(self, drawn):
        """One step with these negatives; the gradients of all layers and of the rows of both tables stay."""
        model, epochs = self.model, self.epochs
        with torch.no_grad():
            fields = self.draw(drawn)
            items = fields[0]
            ids, content = model.ids[items], model.content(items)
            kept = torch.rand(len(items), 1, device=items.device).ge_(model.id_dropout).to(ids.dtype)
        ids.requires_grad_(), content.requires_grad_()
        bf16 = self.precision == "bfloat16"
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            loss = self.loss(ids, content, model.numeric[items], kept, model.carried, *fields)
        id_gradient, content_gradient, *gradients = torch.autograd.grad(loss, [ids, content, *self.layers])
        for layer, gradient in zip(self.layers, gradients):
            layer.grad = gradient
        self.losses.index_copy_(0, epochs.step, loss.detach().view(1))
        self.adam.step()
        self.update_ids(items, id_gradient)
        self.update_terms(items, content_gradient)
        epochs.forget(items)

    @torch.no_grad()
    def update_ids(self, items, gradient):
        """Row-wise Adagrad of the rows of distinct videos."""
        squares = self.id_squares[items] + gradient.square().mean(1)
        self.id_squares.index_copy_(0, items, squares)
        rate = (squares + ADAGRAD_EPSILON).rsqrt_().mul_(-TABLE_LEARNING_RATE)
        self.model.ids.index_add_(0, items, gradient * rate.unsqueeze(1))

    @torch.no_grad()
    def update_terms(self, items, gradient):
        """Row-wise Adagrad of all terms. The table is small beside a step's sums, and where they are 0 nothing changes."""
        model = self.model
        uses = (gradient.unsqueeze(1) * model.term_weights[:, None]).view(-1, DIM)
        self.term_sums.zero_().index_add_(0, model.item_terms[items].view(-1), uses)
        self.term_squares.add_(self.term_sums.square().mean(1))
        rate = (self.term_squares + ADAGRAD_EPSILON).rsqrt_().unsqueeze(1)
        model.terms.addcmul_(self.term_sums, rate, value=-TABLE_LEARNING_RATE)

    def begin_epoch(self):
        """Arranges the next epoch and renews what its windows begin with."""
        self.epochs.begin()
        self.model.freeze()
