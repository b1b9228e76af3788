"""How much one core answers, and how fast at 70 % of that."""

import subjects
import table
from load import ms, rate_of, refused, unanswered
from processes import cpu_seconds, resident_mb

SHARE = 0.7
# As many as the targets name. One number of them and one run: the best of several would be the luckiest of several.
CONNECTIONS = 50


def measure(bench, server):
    """Answers a second while connections ask as fast as they are answered."""
    bench.load.run(server, seconds=2, connections=CONNECTIONS)
    bench.pin_database()
    return rate_of(bench.load.run(server, seconds=bench.options.seconds, connections=CONNECTIONS))


def run(bench):
    rows = []
    for name, settings in [("each answer made", subjects.EVERY_ANSWER_MADE), ("answers kept, as shipped", subjects.AS_SHIPPED)]:
        with subjects.twotower(bench, settings=settings) as server:
            capacity = measure(bench, server)
            before = cpu_seconds(server.pid)
            report = bench.load.run(server, seconds=bench.options.seconds, rate=SHARE * capacity, connections=CONNECTIONS)
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
        f"Capacity, and latency from the moment a request was due at {SHARE:.0%} of it, {CONNECTIONS} connections",
        ["", "capacity, requests/s", "afterwards", "answered/s", "p50, ms", "p99, ms", "p99.9, ms", "refused", "failed", "from the cache",
         "CPU, µs", "resident, MB"],
        rows,
    )
