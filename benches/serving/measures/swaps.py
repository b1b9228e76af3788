"""The active model swapped again and again under load."""

import itertools
import threading
import time

import subjects
import table
from load import ms, refused, unanswered
from measures import capacity

SHARE = 0.5
TAKEN_SECONDS = 120


def swap(bench, server, version):
    """Promotes a version, and waits until the server answers with it."""
    began = time.monotonic()
    bench.prepared.twotower("models", "promote", str(version), "--force")
    while server.metrics().get("twotower_model_version") != version:
        if time.monotonic() - began > TAKEN_SECONDS:
            raise SystemExit(f"version {version} is active and not served after {TAKEN_SECONDS} s")
        time.sleep(0.05)
    return time.monotonic() - began


def swap_all(bench, server, count, times):
    versions = itertools.cycle(reversed(bench.prepared.versions))
    for version in itertools.islice(versions, count):
        times.append(swap(bench, server, version))


def least_capacity(bench, server):
    """Of the version that answers fewest: how its vectors lie decides what a search costs. The first one is served again afterwards."""
    capacities = []
    for version in reversed(bench.prepared.versions):
        swap(bench, server, version)
        capacities.append(capacity.measure(bench, server))
    return min(capacities)


def run(bench):
    times, reports = [], []
    with subjects.twotower(bench) as server:
        rate = SHARE * least_capacity(bench, server)
        quiet = bench.load.run(server, seconds=bench.options.seconds, rate=rate)
        swapping = threading.Thread(target=swap_all, args=(bench, server, bench.options.swaps, times))
        swapping.start()
        while swapping.is_alive():
            reports.append(bench.load.run(server, seconds=bench.options.seconds, rate=rate))
    bench.prepared.twotower("models", "promote", str(bench.prepared.versions[0]), "--force")
    worst = max(report["latency_us"]["p99"] for report in reports)
    table.show(
        f"{len(times)} swaps under load, at {SHARE:.0%} of the capacity of the slower version",
        ["requests", "refused", "failed", "p99 without swaps, ms", "p99, worst interval, ms", "from promotion to answers, mean and longest, s"],
        [[sum(report["sent"] for report in reports), sum(map(refused, reports)), sum(map(unanswered, reports)),
          ms(quiet["latency_us"]["p99"]), ms(worst), f"{sum(times) / len(times):.1f}, {max(times):.1f}"]],
    )
