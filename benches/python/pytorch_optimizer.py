"""Optimisers of the PyTorch model, by name."""

import torch

LEARNING_RATE = 2e-3
TABLE_LEARNING_RATE = 0.05
WEIGHT_DECAY = 1e-2
ADAGRAD_EPSILON = 1e-8


class RowAdagrad:
    """Adagrad with one accumulator a row, the Rust trainer's rule."""

    def __init__(self, tables, lr):
        self.tables, self.lr = tables, lr
        self.accumulators = [torch.zeros(len(table)) for table in tables]

    @torch.no_grad()
    def step(self):
        """Takes the tables' gradients, which are coalesced, apart."""
        for table, accumulators in zip(self.tables, self.accumulators):
            rows, gradient = table.grad._indices()[0], table.grad._values()
            squares = torch.linalg.vector_norm(gradient, dim=1).square_()
            sums = accumulators.index_select(0, rows).add_(squares, alpha=1 / gradient.shape[1])
            accumulators.index_copy_(0, rows, sums)
            gradient.mul_(sums.add_(ADAGRAD_EPSILON).rsqrt_().mul_(-self.lr).unsqueeze(1))
            table.scatter_add_(0, rows[:, None].expand_as(gradient), gradient)


def optimizers(model, name):
    """AdamW (Adam with decoupled weight decay) for layers, and for tables what `name` says."""
    layers = torch.optim.AdamW(model.layers(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    tables = model.tables()
    if name == "adagrad":
        return [layers, torch.optim.Adagrad(tables, lr=TABLE_LEARNING_RATE, eps=1e-10)]
    if name == "row-adagrad":
        return [layers, RowAdagrad(tables, TABLE_LEARNING_RATE)]
    if name == "sparse-adam":
        return [layers, torch.optim.SparseAdam(tables, lr=LEARNING_RATE)]
    model.dense_gradients = True
    return [layers, torch.optim.AdamW(tables, lr=LEARNING_RATE, weight_decay=0, fused=True)]
