"""Twice and ten times as many requests as the server can answer."""

import statistics

import subjects
import table
from load import ms, rate_of, refused, unanswered
from measures import capacity

FACTORS = [1, 2, 10]
ROUNDS = 3
# Enough that requests come when they are due although others wait.
CONNECTIONS = 500


def run(bench):
    found = {factor: [] for factor in FACTORS}
    with subjects.twotower(bench) as server:
        before = capacity.measure(bench, server)
        # In turn, so that what else the machine does meets all.
        for _ in range(ROUNDS):
            for factor in FACTORS:
                # Its own work at such a rate would take the database's core.
                report = bench.load.run(
                    server, seconds=bench.options.seconds, rate=factor * before, connections=CONNECTIONS, yielding=True
                )
                # A virtual machine's speed changes within seconds: what it can do is measured on both sides.
                after = capacity.measure(bench, server)
                found[factor].append((report, (before + after) / 2))
                before = after
    rows = []
    for factor, rounds in found.items():
        reports = [report for report, _ in rounds]
        goodputs = [rate_of(report) / most for report, most in rounds]
        middle = lambda times, quantile: ms(statistics.median(report[times][quantile] for report in reports))
        rows.append([
            f"{factor}×", " ".join(f"{most:.0f}" for _, most in rounds), " ".join(f"{rate_of(report):.0f}" for report in reports),
            f"{statistics.median(goodputs):.0%}", " ".join(f"{goodput:.0%}" for goodput in goodputs),
            middle("service_us", "p50"), middle("service_us", "p99"), middle("refusal_us", "p99"),
            f"{sum(map(refused, reports)) / sum(report['sent'] for report in reports):.0%}",
            *(sum(report[key] for report in reports) for key in ("without_retry_after", "partial")), sum(map(unanswered, reports)),
        ])
    table.show(
        f"Overload, open loop, {CONNECTIONS} connections, medians of {ROUNDS} rounds in turn; times from sending",
        ["load", "capacity on both sides, requests/s", "answered/s", "goodput", "in each round", "admitted p50, ms", "admitted p99, ms",
         "refused p99, ms", "refused", "without Retry-After", "partial", "failed"],
        rows,
    )
