"""A two-tower model of the same size in TensorFlow Recommenders, written as its users write them.

    python tfrs_two_tower.py --batch-size 512
    python tfrs_two_tower.py --self-check

Same as the Rust trainer: item tower [id row ‖ weighted sum of term rows ‖ numeric] → 128 hidden units, GELU by its
sigmoid approximation, a linear residual, unit norm of 64 dimensions; a user tower with the same form of head, dropout
.3 and .3; temperature .1; logQ correction; sparse updates of tables; one example for each like with a like before it.

Different:

* History: the mean of rows of a table of its own over the last 31 likes, gathered for each example. Ours averages the
  item tower's vectors over all earlier likes at five recency scales by running sums, and has no second table. The user
  tower's input is 64 wide here, and 386 in ours.
* Negatives: the batch's other targets alone, as tfrs.tasks.Retrieval has them. Ours adds 512 uniformly drawn ones.
* Every example's video goes through the item tower, repeats too; ours embeds each distinct video once.
* Masking: remove_accidental_hits takes a row's own target out of its negatives. Ours takes out all that the user likes.
* logQ: the batch size is left out of the expected count, which moves all logits alike and so changes nothing.
* Examples are shuffled one by one; ours come in windows of up to 64 likes of a user.
* Ids are never hidden; ours hides one in ten. Learning rates stay as they are; ours fall to 0. There are no skips.
* Optimiser: one Adagrad (element-wise) for tables and layers; ours is row-wise Adagrad for tables, Adam for layers.
"""

import os

import measure
from data import generate

OPTIMIZERS = ("adagrad", "adam")
ARGUMENTS = measure.parser(__doc__.split("\n\n")[0], OPTIMIZERS).parse_args()
measure.limit_threads(ARGUMENTS)
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_recommenders as tfrs  # noqa: E402

DIM = 64
HIDDEN = 128
HISTORY = 31
TEMPERATURE = 0.1
DROPOUT = 0.3
ADAGRAD_RATE = 0.05
ADAM_RATE = 2e-3
GELU_SLOPE = 1.702


class Head(tf.keras.layers.Layer):
    """z = GELU(x W₁ + b₁) W₂ + b₂ + x W₃, and the output is z at unit norm."""

    def __init__(self, dropout):
        super().__init__()
        self.input_dropout = tf.keras.layers.Dropout(dropout)
        self.hidden = tf.keras.layers.Dense(HIDDEN, activation=lambda a: tf.nn.silu(a, beta=GELU_SLOPE))
        self.hidden_dropout = tf.keras.layers.Dropout(dropout)
        self.output_layer = tf.keras.layers.Dense(DIM)
        self.residual = tf.keras.layers.Dense(DIM, use_bias=False)

    def call(self, x):
        x = self.input_dropout(x)
        y = self.hidden_dropout(self.hidden(x))
        return tf.math.l2_normalize(self.output_layer(y) + self.residual(x), axis=1)


def table(rows, **options):
    """An embedding table of this many rows."""
    limit = (3 / DIM) ** 0.5
    initializer = tf.keras.initializers.RandomUniform(-limit, limit)
    return tf.keras.layers.Embedding(rows, DIM, embeddings_initializer=initializer, **options)


class ItemTower(tf.keras.Model):
    """Videos [B] → [B, d]. The features of all videos are constants that a batch gathers from."""

    def __init__(self, data, id_only):
        super().__init__()
        self.ids = table(data.videos)
        self.head = Head(dropout=0.0)
        self.terms = None if id_only else table(data.term_rows)
        if not id_only:
            self.term_rows = tf.constant(data.terms)
            self.term_weights = tf.constant(data.term_weights)
            self.numeric = tf.constant(data.numeric)

    def call(self, videos):
        x = self.ids(videos)
        if self.terms is not None:
            terms = self.terms(tf.gather(self.term_rows, videos))
            content = tf.reduce_sum(terms * self.term_weights[:, None], axis=1)
            x = tf.concat([x, content, tf.gather(self.numeric, videos)], axis=1)
        return self.head(x)


class TwoTower(tfrs.Model):
    """Both towers and the task."""

    def __init__(self, data, id_only):
        super().__init__()
        self.user_tower = tf.keras.Sequential(
            [
                table(data.videos + 1, mask_zero=True),
                tf.keras.layers.GlobalAveragePooling1D(),
                Head(DROPOUT),
            ]
        )
        self.item_tower = ItemTower(data, id_only)
        self.share = tf.constant(data.target_share(), tf.float32)
        self.task = retrieval_task()

    def compute_loss(self, inputs, training=False):
        return self.task(
            self.user_tower(inputs["history"], training=training),
            self.item_tower(inputs["video"], training=training),
            candidate_sampling_probability=tf.gather(self.share, inputs["video"]),
            candidate_ids=inputs["video"],
            compute_metrics=False,
        )


def retrieval_task():
    """Sampled softmax over the batch, mean over its rows."""
    return tfrs.tasks.Retrieval(
        loss=tf.keras.losses.CategoricalCrossentropy(
            from_logits=True, reduction=tf.keras.losses.Reduction.SUM_OVER_BATCH_SIZE
        ),
        temperature=TEMPERATURE,
        remove_accidental_hits=True,
    )


class Batches:
    """Endless batches of `size` shuffled examples: the last HISTORY likes, padded with 0 and otherwise video + 1, and
    the video liked next."""

    def __init__(self, data, size, seed):
        self.offsets, self.items, self.size = data.offsets, data.items, size
        self.random = np.random.default_rng(seed)
        first = np.zeros(len(data.items), bool)
        first[data.offsets[:-1]] = True
        self.examples = np.flatnonzero(~first).astype(np.int32)
        self.next = len(self.examples)

    def __next__(self):
        if self.next + self.size > len(self.examples):
            self.random.shuffle(self.examples)
            self.next = 0
        positions = self.examples[self.next : self.next + self.size]
        self.next += self.size
        begins = self.offsets[np.searchsorted(self.offsets, positions, side="right") - 1]
        places = positions[:, None] + np.arange(-HISTORY, 0, dtype=np.int32)
        history = np.where(places >= begins[:, None], self.items[places] + 1, 0)
        return {"history": history.astype(np.int32), "video": self.items[positions]}


def optimizer(name):
    """The optimiser of all weights."""
    if name == "adam":
        return tf.keras.optimizers.Adam(ADAM_RATE)
    return tf.keras.optimizers.Adagrad(ADAGRAD_RATE, initial_accumulator_value=0.0, epsilon=1e-7)


def self_check():
    """The task's loss against its definition, row by row, with a video that stands twice in the batch."""
    random = np.random.default_rng(1)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    users, videos = (unit(random.standard_normal((6, 4))).astype(np.float32) for _ in range(2))
    ids, share = np.array([3, 1, 3, 0, 2, 4], np.int32), np.float32([0.1, 0.2, 0.3, 0.25, 0.15])
    losses = []
    for row, target in enumerate(ids):
        columns = [c for c in range(6) if c == row or ids[c] != target]
        logits = [users[row] @ videos[c] / TEMPERATURE - np.log(share[ids[c]]) for c in columns]
        losses.append(np.log(np.exp(logits).sum()) - logits[columns.index(row)])
    loss = retrieval_task()(users, videos, candidate_sampling_probability=tf.constant(share[ids]), candidate_ids=ids)
    assert abs(float(loss) - np.mean(losses)) < 1e-4, f"{float(loss)} against {np.mean(losses)}"
    print("self-check passed")


def main():
    tf.config.threading.set_intra_op_parallelism_threads(ARGUMENTS.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(ARGUMENTS.seed)
    if ARGUMENTS.self_check:
        return self_check()
    data = generate(measure.sizes(ARGUMENTS))
    model = TwoTower(data, ARGUMENTS.id_only)
    model.compile(optimizer=optimizer(ARGUMENTS.optimizer))
    train_step = tf.function(model.train_step)
    batches = Batches(data, ARGUMENTS.batch_size, ARGUMENTS.seed)

    def step():
        batch = {name: tf.constant(values) for name, values in next(batches).items()}
        return train_step(batch)["loss"], len(batch["video"])

    measure.run(ARGUMENTS, step, "tensorflow-recommenders", f"{tfrs.__version__} on tensorflow {tf.__version__}")


if __name__ == "__main__":
    main()
