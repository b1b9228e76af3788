"""Options, clocks and the line of JSON that both comparisons share."""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

from data import Sizes

LOSSES_SHOWN = 10


def parser(description, optimizers):
    """Options of both scripts; the first of `optimizers` is the default."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--batch-size", type=int, default=512, help="examples of a step (default: 512)")
    options.add_argument("--optimizer", choices=optimizers, default=optimizers[0])
    options.add_argument(
        "--id-only", action="store_true", help="the item tower reads the id alone: no terms, no numbers"
    )
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--steps", type=int, default=100, help="timed steps (default: 100)")
    options.add_argument("--warmup-steps", type=int, default=20, help="steps before them (default: 20)")
    add_sizes(options)
    options.add_argument("--self-check", action="store_true", help="check the arithmetic on a tiny case and stop")
    return options


def add_sizes(options):
    """Options for the size of the data."""
    for name in ("likes", "users", "videos", "seed"):
        default = getattr(Sizes, name)
        options.add_argument(f"--{name}", type=int, default=default, help=f"default: {default:,}")


def sizes(arguments):
    """The sizes that `arguments` ask for."""
    return Sizes(arguments.likes, arguments.users, arguments.videos, arguments.seed)


def limit_threads(arguments):
    """Before a framework is imported: so many threads, which sleep while they wait instead of spinning."""
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["GOMP_SPINCOUNT"] = "0"


def run(arguments, step, framework, version):
    """Calls `step()` → (loss, examples) for the warm-up and the timed steps, and prints what the timed ones cost."""
    losses = [step() for _ in range(arguments.warmup_steps)]
    cpu, wall = time.process_time(), time.perf_counter()
    timed = [step() for _ in range(arguments.steps)]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    examples = sum(count for _, count in timed)
    show_losses([float(loss) for loss, _ in losses + timed])
    report = {
        "framework": framework,
        "version": version,
        "optimizer": arguments.optimizer,
        "batch_size": arguments.batch_size,
        "id_only": arguments.id_only,
        "threads": arguments.threads,
        "examples": examples,
        "cpu_us_per_example": round(1e6 * cpu / examples, 2),
        "wall_us_per_example": round(1e6 * wall / examples, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "rss_mb": current_rss_mb(),
    }
    print(json.dumps(report), flush=True)


def show_losses(losses):
    """Means of the losses, in nats, over up to LOSSES_SHOWN equal parts of the run, to standard error."""
    parts = min(LOSSES_SHOWN, len(losses))
    bounds = [len(losses) * part // parts for part in range(parts + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in zip(bounds, bounds[1:])]
    print("loss " + " ".join(f"{mean:.3f}" for mean in means), file=sys.stderr)


def current_rss_mb():
    """Resident memory now; None where there is no /proc."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return None
    return round(int(status.read_text().split()[1]) * resource.getpagesize() / 2**20, 1)
