"""Checks a step of the model for a CUDA device, on any device, against the one for a CPU in pytorch_model.py.

Both take the same windows, negatives and weights in float64, without dropout: loss, gradients, and tables after row-wise
Adagrad must agree.
"""

import numpy as np
import torch
import torch.nn.functional as F
from gpu_batches import Epochs
from gpu_model import GpuTwoTower, Trainer
from pytorch_model import HistoryTables, TwoTower
from pytorch_optimizer import TABLE_LEARNING_RATE, RowAdagrad
from pytorch_self_check import LIKES_OF_USERS, VIDEOS, close, dense, tiny_data
from windows import Batches

SIZE = 10_000
NEGATIVES = 80


def run(device, compiled):
    """Raises AssertionError with what differs; says so if nothing does."""
    torch.manual_seed(1)
    data = tiny_data()
    source = TwoTower(data, id_only=False, dropout=False).double()
    source.history = HistoryTables(max(LIKES_OF_USERS), torch.float64)
    with torch.no_grad():
        for parameter in source.layers():
            parameter.add_(0.1 * torch.randn_like(parameter))
    epochs = Epochs(data, SIZE, 1, device, torch.float64, NEGATIVES)
    trainer = Trainer(GpuTwoTower(source, data, epochs, dropout=False), compiled=compiled)
    for seed in (5, 6):
        compare(source, trainer, data, np.random.default_rng(seed).integers(0, VIDEOS, NEGATIVES))
    assert epochs.overflow.item() == 0, "a batch had more videos than room"
    print("self-check passed")


def compare(source, trainer, data, drawn):
    """One step of all windows with these negatives, on both sides; `source` gets the device's weights first."""
    model, epochs = trainer.model, trainer.epochs
    copy_weights(model, source)
    before = [table.clone() for table in source.tables()]
    batches = Batches(data, SIZE, seed=1)
    windows = np.arange(len(batches.user))[::-1].copy()
    source.freeze()
    expected = source(batches.batch(windows, drawn))
    expected.backward()
    epochs.arrange(windows)
    model.freeze()
    squares = [squares[:-1].cpu().clone() for squares in (trainer.id_squares, trainer.term_squares)]
    trainer.step_with(torch.from_numpy(drawn).to(epochs.device))
    close("loss", trainer.losses[:1].cpu(), expected.detach()[None])
    for name, tower, head in towers(model, source):
        check_tower(name, tower, head)
    adagrad = RowAdagrad(source.tables(), TABLE_LEARNING_RATE)
    adagrad.accumulators = squares
    close("sums of terms", trainer.term_sums[:-1].cpu(), dense(source.terms.grad))
    adagrad.step()
    for name, table, old, own in zip(("ids", "terms"), source.tables(), before, (model.ids, model.terms)):
        close(f"change of {name}", own[:-1].cpu() - old, table.detach() - old)
    source.zero_grad()


def towers(model, source):
    """Name, tower on the device, head on the CPU."""
    return (("items", model.item_tower, source.item_head), ("users", model.user_tower, source.user_head))


def copy_weights(model, source):
    """Weights of the device's model to the one on the CPU."""
    with torch.no_grad():
        source.ids.copy_(model.ids[:-1]), source.terms.copy_(model.terms[:-1])
        for _, tower, head in towers(model, source):
            hidden, residual = tower.inner[: len(head.hidden)].split([head.hidden.shape[1], head.residual.shape[1]], 1)
            head.hidden.copy_(hidden), head.residual.copy_(residual)
            for name in ("hidden_bias", "output", "output_bias"):
                getattr(head, name).copy_(getattr(tower, name))


def check_tower(name, tower, head):
    """Gradients of one tower."""
    inner = torch.cat([head.hidden.grad, head.residual.grad], dim=1)
    inner = F.pad(inner, (0, 0, 0, len(tower.inner) - len(inner)))
    close(f"gradient of the inner weights of {name}", tower.inner.grad.cpu(), inner)
    for part in ("hidden_bias", "output", "output_bias"):
        close(f"gradient of {part} of {name}", getattr(tower, part).grad.cpu(), getattr(head, part).grad)
