"""Checks the fast PyTorch model against its definition, written out in loops over likes, windows and draws.

Both run in float64 on a tiny case without dropout: loss and the gradient of every weight must agree. The loss is also
checked against the golden numbers that the Rust trainer is tested with, and dropout against finite differences.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytorch_model
import torch
from data import Data, Sizes, generate
from pytorch_model import MIN_NORM, TEMPERATURE, Dropout, HeadFunction, SampledSoftmax, TwoTower, bag_gradient
from pytorch_optimizer import RowAdagrad
from windows import COUNT_SCALE, DECAYS, WINDOW, Batches

GOLDEN = Path(__file__).parents[2] / "fixtures" / "golden" / "sampled_softmax.json"
TOLERANCE = 1e-5
LIKES_OF_USERS = (3, 150, 1, 64, 70, 2)
VIDEOS = 300


def run():
    """Raises AssertionError with what differs; says so if nothing does."""
    check_bag_gradient()
    check_row_adagrad()
    check_dropout()
    check_golden_loss()
    for id_only in (False, True):
        check_model(id_only)
    print("self-check passed")


def close(name, actual, expected, tolerance=TOLERANCE):
    """Asserts that two tensors agree to `tolerance` of the largest number expected."""
    scale = max(1e-6, expected.abs().max().item())
    error = (actual - expected).abs().max().item() / scale
    assert error < tolerance, f"{name}: off by {error:.1e} of its largest number"


def check_bag_gradient():
    """Keys beyond 16 bits too."""
    terms = np.array([[3, 70_000, 3], [70_000, 65_539, 0]])
    weights, gradient = torch.tensor([[1.0, 0.5, 0.25]] * 2), torch.tensor([[1.0, 2.0], [10.0, 20.0]])
    rows, sums = bag_gradient(terms, weights, gradient)
    assert rows.tolist() == [0, 3, 65_539, 70_000]
    close("bag gradient", sums[:, 0], torch.tensor([2.5, 1.25, 5.0, 10.5]))


def check_row_adagrad():
    """Two steps of a row, none of another."""
    table = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = RowAdagrad([table], lr=0.1)
    for _ in range(2):
        table.grad = torch.sparse_coo_tensor([[0, 2]], [[1.0, 1.0], [2.0, 0.0]], (3, 2)).coalesce()
        optimizer.step()
    first = 1 + 1 / math.sqrt(2)
    expected = -0.1 * first * torch.tensor([[1, 1], [0, 0], [math.sqrt(2), 0]])
    close("row-adagrad", table.detach(), expected)


def check_dropout():
    """Gradients of the head with hidden units dropped, against finite differences; and the share of what is dropped."""
    shapes = (7, 5), (5, 6), (6,), (6, 3), (3,), (5, 3)
    x, *weights = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    drop = Dropout()
    drop.x_scale, drop.hidden, drop.hidden_scale = 1.25, (torch.rand(7, 6) < 0.6).double(), 1.5
    assert torch.autograd.gradcheck(lambda *inputs: HeadFunction.apply(*inputs, drop), (x, *weights))
    scaled = Dropout(400, 500, 0.3)
    close("share kept", scaled.x.mean() * scaled.x_scale, torch.tensor(1.0), tolerance=0.01)


def check_golden_loss():
    """The numbers of fixtures/golden."""
    case = json.loads(GOLDEN.read_text(encoding="utf-8"))
    column = {item: position for position, item in enumerate(case["items"])}
    users, vectors, counts, expected = (
        torch.tensor(case[name], dtype=torch.float64) for name in ("users", "vectors", "counts", "expected")
    )
    users.requires_grad_(), vectors.requires_grad_()
    # Here each row is a window of its own.
    bias = (counts.log() - expected.log()).repeat(len(users), 1)
    for row, known in enumerate(case["known"]):
        bias[row, known] = -math.inf
    targets = torch.tensor([column[item] for item in case["targets"]])
    rows = torch.arange(len(users))
    loss = SampledSoftmax.apply(users, vectors, bias, -expected.log(), rows, targets, case["temperature"])
    loss.backward()
    for name, actual in (("loss", loss), ("user_gradients", users.grad), ("vector_gradients", vectors.grad)):
        close(f"golden {name}", actual, torch.tensor(case[name], dtype=torch.float64))


def tiny_data():
    """A few users, with and without windows before the last."""
    random = np.random.default_rng(3)
    features = generate(Sizes(likes=10, users=2, videos=VIDEOS, seed=3))
    likes = [random.choice(VIDEOS, count, replace=False) for count in LIKES_OF_USERS]
    offsets = np.concatenate([[0], np.cumsum(LIKES_OF_USERS)])
    items = np.concatenate(likes).astype(np.int32)
    return Data(offsets, items, features.terms, features.term_weights, features.numeric)


def check_model(id_only):
    """One step of all windows with negatives that repeat."""
    torch.manual_seed(1)
    data = tiny_data()
    model = TwoTower(data, id_only, dropout=False).double()
    model.history = pytorch_model.HistoryTables(max(LIKES_OF_USERS), torch.float64)
    with torch.no_grad():
        for parameter in model.layers():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.freeze()
    batches = Batches(data, 10_000, seed=1)
    windows = list(reversed(range(len(batches.user))))
    drawn = np.random.default_rng(5).integers(0, VIDEOS, 80)
    loss = model(batches.batch(np.array(windows), drawn))
    loss.backward()
    fast = {name: dense(parameter.grad) for name, parameter in model.named_parameters()}
    model.zero_grad()
    reference = reference_loss(model, data, [(batches.user[w], batches.start[w]) for w in windows], drawn)
    reference.backward()
    close("loss", loss.detach(), reference.detach())
    for name, parameter in model.named_parameters():
        close(f"gradient of {name}", fast[name], parameter.grad)


def dense(gradient):
    """A copy without sparsity."""
    return gradient.to_dense().clone() if gradient.is_sparse else gradient.clone()


# ---- the definition --------------------------------------------------------------------------------------------------


def reference_loss(model, data, windows, drawn):
    """Mean over all examples of -log softmax, every draw scored on its own."""
    vectors = [reference_head(model.item_head, item_input(model, data, item)) for item in range(data.videos)]
    matrix, frozen = torch.stack(vectors), [vector.detach() for vector in vectors]
    rows = []
    for user, start in windows:
        likes = data.items[data.offsets[user] : data.offsets[user + 1]].tolist()
        for position in range(max(start, 1), min(start + WINDOW, len(likes))):
            before = [frozen[item] for item in likes[:start]] + [vectors[item] for item in likes[start:position]]
            rows.append((likes, likes[position], before))
    draws = [target for _, target, _ in rows] + drawn.tolist()
    share = data.target_share()
    expected = {item: len(rows) * share[item] + len(drawn) / data.videos for item in draws}
    losses = []
    for likes, target, before in rows:
        scored = [target] + [item for item in draws if item not in likes]
        log_q = torch.tensor([math.log(expected[item]) for item in scored])
        user = reference_head(model.user_head, user_input(before))
        logits = matrix[scored] @ user / TEMPERATURE - log_q
        losses.append(logits.logsumexp(0) - logits[0])
    return torch.stack(losses).mean()


def item_input(model, data, item):
    """[id ‖ weighted terms ‖ numeric] of one video."""
    if model.terms is None:
        return model.ids[item]
    content = sum(float(w) * model.terms[t] for t, w in zip(data.terms[item], data.term_weights))
    return torch.cat([model.ids[item], content, torch.from_numpy(data.numeric[item]).double()])


def user_input(before):
    """[mean at each decay ‖ mean of skips ‖ ln counts] after the likes `before`, oldest first."""
    means = []
    for decay in DECAYS:
        weights = [decay**age for age in reversed(range(len(before)))]
        means.append(sum(w * v for w, v in zip(weights, before)) / sum(weights))
    counts = torch.tensor([COUNT_SCALE * math.log1p(len(before)), 0.0], dtype=torch.float64)
    return torch.cat([*means, torch.zeros_like(before[0]), counts])


def reference_head(head, x):
    """The head of one row."""
    a = x @ head.hidden + head.hidden_bias
    z = (a * torch.sigmoid(1.702 * a)) @ head.output + head.output_bias + x @ head.residual
    return z / z.norm().clamp(min=MIN_NORM)
