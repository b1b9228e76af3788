"""The two-tower trainer in PyTorch: the Rust trainer's model, loss, windows and optimisers, made fast on a CPU by
hand-written autograd functions, without compiled extensions.

    python pytorch_two_tower.py --batch-size 512
    python pytorch_two_tower.py --self-check

What a plain implementation would do, and what is done here instead:

* EmbeddingBag(sparse=True) leaves a gradient row for each use of a term, which the optimiser must sort and sum. Here a
  radix sort of 16-bit keys turns the bag round, and a second embedding_bag sums each row's gradient once.
* torch.optim.Adagrad walks over the touched rows several times. `row-adagrad`, the default, is the Rust trainer's own
  rule in a handful of calls; `adagrad` is torch.optim.Adagrad.
* Gradients of towers and loss are written out, so that products take constants and sums along.
* Averages at all scales and positions are one product with a matrix of powers of the decays, positions first, so that
  all windows of a batch stand side by side in it.
* The softmax runs over blocks of rows that stay in cache, its gradient included; the candidates a user likes anyway are
  struck out of the bias of the user's window, which the product is then added to.
* Dropout draws bytes instead of calling bernoulli, at the Rust trainer's rate of 77 in 256.
"""

import measure
from data import generate
from windows import Batches

OPTIMIZERS = ("row-adagrad", "adagrad", "sparse-adam", "dense-adam")
ARGUMENTS = measure.parser(__doc__.split("\n\n")[0], OPTIMIZERS).parse_args()
measure.limit_threads(ARGUMENTS)

import torch  # noqa: E402
from pytorch_model import TwoTower  # noqa: E402
from pytorch_optimizer import optimizers  # noqa: E402


class Trainer:
    """Steps over endless batches; the frozen vectors are renewed with each epoch."""

    def __init__(self, model, batches, optimizer):
        self.model, self.batches = model, batches
        self.optimizers = optimizers(model, optimizer)

    def step(self):
        """One step: (loss, examples)."""
        if self.batches.begins_epoch():
            self.model.freeze()
        batch = next(self.batches)
        for parameter in self.model.parameters():
            parameter.grad = None
        loss = self.model(batch)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach(), len(batch.positions)


def main():
    torch.set_num_threads(ARGUMENTS.threads)
    torch.manual_seed(ARGUMENTS.seed)
    torch.sparse.check_sparse_tensor_invariants.disable()
    if ARGUMENTS.self_check:
        import pytorch_self_check

        return pytorch_self_check.run()
    data = generate(measure.sizes(ARGUMENTS))
    model = TwoTower(data, ARGUMENTS.id_only)
    batches = Batches(data, ARGUMENTS.batch_size, ARGUMENTS.seed)
    trainer = Trainer(model, batches, ARGUMENTS.optimizer)
    measure.run(ARGUMENTS, trainer.step, "pytorch", torch.__version__)


if __name__ == "__main__":
    main()
