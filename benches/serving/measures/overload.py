"""Twice and ten times as many requests as the server can answer."""

import subjects
import table
from load import ms, rate_of, refused, unanswered
from measures import capacity

FACTORS = [1, 2, 10]
# Enough that requests come when they are due although others wait.
CONNECTIONS = 500


def run(bench):
    rows = []
    with subjects.twotower(bench) as server:
        most = capacity.measure(bench, server)
        for factor in FACTORS:
            # Its own work at such a rate would take the database's core.
            report = bench.load.run(
                server, seconds=bench.options.seconds, rate=factor * most, connections=CONNECTIONS, yielding=True
            )
            service, refusal = report["service_us"], report["refusal_us"]
            rows.append([
                f"{factor}×", round(factor * most), round(report["sent"] / report["seconds"]), round(rate_of(report)),
                f"{100 * rate_of(report) / most:.0f} %", ms(service["p50"]), ms(service["p99"]), ms(refusal["p99"]),
                f"{100 * refused(report) / report['sent']:.0f} %", report["without_retry_after"], report["partial"],
                unanswered(report),
            ])
    table.show(
        f"Overload, open loop, {CONNECTIONS} connections; capacity {most:.0f} requests/s; times from sending",
        ["load", "due/s", "sent/s", "answered/s", "goodput of capacity", "admitted p50, ms", "admitted p99, ms", "refused p99, ms", "refused",
         "without Retry-After", "partial", "failed"],
        rows,
    )
