"""How much one core answers, and how fast at 70 % of that."""

import subjects
import table
from load import ms, rate_of, refused, unanswered
from processes import cpu_seconds, resident_mb

SHARE = 0.7
# More than the server works on at once are refused, which costs as well: what is best is found by trying.
CONNECTIONS = [8, 16, 50]


def measure(bench, server):
    """The most answers a second while connections ask as fast as they are answered."""
    bench.load.run(server, seconds=2)
    bench.pin_database()
    seconds = bench.options.seconds / 2
    return max(rate_of(bench.load.run(server, seconds=seconds, connections=connections)) for connections in CONNECTIONS)


def run(bench):
    rows = []
    for name, settings in [("each answer made", subjects.EVERY_ANSWER_MADE), ("answers kept, as shipped", subjects.AS_SHIPPED)]:
        with subjects.twotower(bench, settings=settings) as server:
            capacity = measure(bench, server)
            before = cpu_seconds(server.pid)
            report = bench.load.run(server, seconds=bench.options.seconds, rate=SHARE * capacity)
            cpu_us = 1e6 * (cpu_seconds(server.pid) - before) / report["sent"]
            latency = report["latency_us"]
            resident = resident_mb(server.pid)
            # A virtual machine may be a third slower than a moment ago, and 70 % of what it could do then is all that it can do now.
            after = measure(bench, server)
            rows.append([
                name, round(capacity), round(after), round(rate_of(report)), ms(latency["p50"]), ms(latency["p99"]), ms(latency["p999"]),
                refused(report), unanswered(report), f"{100 * report['cached'] / max(1, report['ok']):.0f} %", round(cpu_us),
                round(resident),
            ])
    table.show(
        f"Capacity, and latency from the moment a request was due at {SHARE:.0%} of it, 50 connections",
        ["", "capacity, requests/s", "afterwards", "answered/s", "p50, ms", "p99, ms", "p99.9, ms", "refused", "failed", "from the cache",
         "CPU, µs", "resident, MB"],
        rows,
    )
