"""The model of pytorch_two_tower.py written for a CUDA device: likes, features, tables and the order of an epoch lie in its
memory, and a step neither waits for the host nor gives it anything.

    python gpu_two_tower.py --batch-size 512 4096 16384
    python gpu_two_tower.py --self-check --device cpu

What makes it fast there:

* Shapes never change (gpu_batches.py), so that a step is captured once as a graph of kernels and replayed: at batch 512 it
  is some hundred kernels of microseconds, and starting them one by one would take longer than they do (`--mode eager`).
* `--mode compiled`, the default, has torch.compile fuse what lies between the products, within that graph.
* Distinct videos are found by scatters, not by a sort. Of the table of ids a step reads and writes its own rows; the terms'
  table is small, so that their gradients are summed into one as large.
* What came before a window is summed over for all windows at the beginning of an epoch, by running sums.
* `--precision`: products in float32, in tf32 (its exponent, 10 bits of fraction), or towers and logits in bfloat16.

A sample of batches decides how much room a step has; a step that needs more for its videos ends the run with an error.
"""

import argparse
import gc
import json
import sys
import time

import measure
import torch
from data import generate
from gpu_batches import Epochs
from gpu_model import GpuTwoTower, Trainer
from pytorch_model import TwoTower

MODES = ("compiled", "graph", "eager")
PRECISIONS = ("tf32", "float32", "bfloat16")
WARM_UP = 5
"""Steps before a graph is captured."""


def arguments():
    """What the command line says."""
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--batch-size", type=int, nargs="+", default=[512], help="examples of a step (default: 512)")
    options.add_argument("--mode", choices=MODES, nargs="+", default=["compiled"])
    options.add_argument("--precision", choices=PRECISIONS, nargs="+", default=["tf32"])
    options.add_argument("--steps", type=int, default=500, help="timed steps (default: 500)")
    options.add_argument("--epoch", action="store_true", help="time a whole epoch instead")
    options.add_argument("--device", default="cuda")
    options.add_argument("--self-check", action="store_true", help="check a step against pytorch_model.py and stop")
    measure.add_sizes(options)
    return options.parse_args()


class Steps:
    """Steps of a trainer on a CUDA device, replayed from a graph unless `eager`."""

    def __init__(self, trainer, eager):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                trainer.step()
        torch.cuda.current_stream().wait_stream(stream)
        self.run = trainer.step
        if not eager:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                trainer.step()
            self.run = graph.replay


def timed(function):
    """Seconds until the device has done what `function` asks for."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def run(options, data, source, batch_size, mode, precision):
    """Prints one line of JSON for one setting."""
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    begun = time.perf_counter()
    epochs = Epochs(data, batch_size, options.seed, options.device)
    trainer = Trainer(GpuTwoTower(source, data, epochs), precision, mode == "compiled")
    trainer.model.freeze()
    steps = Steps(trainer, mode == "eager")
    prepared = time.perf_counter() - begun
    renewal = timed(trainer.begin_epoch)
    count = epochs.steps if options.epoch else min(options.steps, epochs.steps)

    def all_steps():
        for _ in range(count):
            steps.run()

    seconds = timed(all_steps)
    assert epochs.overflow.item() == 0, f"room for {epochs.room.videos} videos was too little: raise ROOM"
    losses = trainer.losses[:count].tolist()
    measure.show_losses(losses)
    examples = int(epochs.examples_until[count])
    report = {
        "framework": "pytorch-cuda",
        "version": torch.__version__,
        "device": torch.cuda.get_device_name(),
        "mode": mode,
        "precision": precision,
        "videos": epochs.videos,
        "batch_size": batch_size,
        "steps": count,
        "examples_per_s": round(examples / seconds),
        "wall_us_per_example": round(1e6 * seconds / examples, 4),
        "us_per_step": round(1e6 * seconds / count, 1),
        "epoch_begin_s": round(renewal, 3),
        "preparation_s": round(prepared, 1),
        "peak_allocated_mb": round(torch.cuda.max_memory_allocated() / 2**20),
        "peak_reserved_mb": round(torch.cuda.max_memory_reserved() / 2**20),
    }
    print(json.dumps(report), flush=True)


def main():
    options = arguments()
    torch.manual_seed(options.seed)
    if options.self_check:
        import gpu_self_check

        return gpu_self_check.run(torch.device(options.device), compiled="compiled" in options.mode)
    data = generate(measure.sizes(options))
    source = TwoTower(data, id_only=False)
    for batch_size in options.batch_size:
        for precision in options.precision:
            for mode in options.mode:
                try:
                    run(options, data, source, batch_size, mode, precision)
                except RuntimeError as error:
                    print(f"{mode}, {precision}, batch {batch_size}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
