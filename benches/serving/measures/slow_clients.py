"""Whether a thousand clients that send slowly hurt the others."""

import contextlib
import statistics
import subprocess

import subjects
import table
from load import ms, rate_of, refused, unanswered
from measures import capacity
from places import PATH, SLOW_CLIENTS
from processes import cpu_seconds, on_core

SLOW = 1000
# The p99 of one round may be ten times that of another on a virtual machine.
ROUNDS = 9
# Less than `capacity` takes: where 70 % is nearly all that a virtual machine can do by now, anything beside it makes a queue.
SHARE = 0.5


@contextlib.contextmanager
def slow_clients(bench, server):
    command = [SLOW_CLIENTS, server.address, PATH, str(SLOW)]
    process = subprocess.Popen(on_core(bench.load_core, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline() != "ready\n":
            raise SystemExit("the slow clients could not connect")
        yield
    finally:
        process.stdin.close()
        process.wait()


def run(bench):
    reports = {"alone": [], f"beside {SLOW} slow sockets": []}
    cpu_us = {name: [] for name in reports}
    with subjects.twotower(bench) as server:
        rate = SHARE * capacity.measure(bench, server)
        # In turn, so that what else the machine does meets both.
        for _ in range(ROUNDS):
            for name, found in reports.items():
                with slow_clients(bench, server) if name != "alone" else contextlib.nullcontext():
                    before = cpu_seconds(server.pid)
                    report = bench.load.run(server, seconds=bench.options.seconds, rate=rate)
                    cpu_us[name].append(1e6 * (cpu_seconds(server.pid) - before) / report["sent"])
                    found.append(report)
    rows = []
    for name, found in reports.items():
        middle = lambda quantile: statistics.median(report["latency_us"][quantile] for report in found)
        rows.append([
            name, round(statistics.mean(map(rate_of, found))), ms(middle("p50")), ms(middle("p99")),
            " ".join(ms(report["latency_us"]["p99"]) for report in found), sum(map(refused, found)), sum(map(unanswered, found)),
            round(statistics.median(cpu_us[name])),
        ])
    table.show(
        f"Slow clients: the others, at {SHARE:.0%} of capacity, medians of {ROUNDS} rounds in turn",
        ["", "answered/s", "p50, ms", "p99, ms", "p99 of each round", "refused", "failed", "CPU of the server, µs"],
        rows,
    )
