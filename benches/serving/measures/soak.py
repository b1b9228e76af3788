"""Requests and swaps for a long time: whether memory or file descriptors grow."""

import itertools
import threading

import numpy as np

import subjects
import table
from load import refused, unanswered
from measures import swaps
from processes import open_files, resident_mb

SHARE = 0.5
SAMPLE_SECONDS = 2
SWAP_EVERY_SECONDS = 20
DAY_HOURS = 24


def watch(server, ended, samples):
    while not ended.wait(SAMPLE_SECONDS):
        samples.append((len(samples) * SAMPLE_SECONDS, resident_mb(server.pid), open_files(server.pid)))


def swap_now_and_then(bench, server, ended, count):
    for version in itertools.cycle(reversed(bench.prepared.versions)):
        if ended.wait(SWAP_EVERY_SECONDS):
            return
        swaps.swap(bench, server, version)
        count.append(version)


def run(bench):
    samples, count, ended = [], [], threading.Event()
    with subjects.twotower(bench, settings=subjects.AS_SHIPPED) as server:
        # Both versions have been in memory before the first sample.
        rate = SHARE * swaps.least_capacity(bench, server)
        threads = [
            threading.Thread(target=watch, args=(server, ended, samples)),
            threading.Thread(target=swap_now_and_then, args=(bench, server, ended, count)),
        ]
        for thread in threads:
            thread.start()
        report = bench.load.run(server, seconds=60 * bench.options.minutes, rate=rate)
        ended.set()
        for thread in threads:
            thread.join()
    bench.prepared.twotower("models", "promote", str(bench.prepared.versions[0]), "--force")
    times, memory, files = np.array(samples).T
    # The first half fills caches and the allocator's pools.
    later = times >= times[-1] / 2
    slope_mb_per_hour = 3600 * np.polyfit(times[later], memory[later], 1)[0]
    table.show(
        f"Soak of {bench.options.minutes:g} minutes at {SHARE:.0%} of capacity, {len(count)} swaps",
        ["requests", "refused", "failed", "resident at first, highest, at last, MB", "slope of the second half, MB/h", "file descriptors at first, highest, at last"],
        [[report["sent"], refused(report), unanswered(report), f"{memory[0]:.0f}, {memory.max():.0f}, {memory[-1]:.0f}",
          f"{slope_mb_per_hour:.0f} (a day: {DAY_HOURS * slope_mb_per_hour:.0f} MB)", f"{files[0]:.0f}, {files.max():.0f}, {files[-1]:.0f}"]],
    )
