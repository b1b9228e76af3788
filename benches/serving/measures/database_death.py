"""The database server killed under load, and started again three seconds later."""

import time

import subjects
import table
from load import ms, refused, unanswered
from measures import capacity

SHARE = 0.4
KILL_AFTER, AWAY, AFTERWARDS = 4, 3, 8


def run(bench):
    database = bench.prepared.database
    # As shipped: what is answered meanwhile comes from kept answers, too.
    with subjects.twotower(bench, settings=subjects.AS_SHIPPED) as server:
        rate = SHARE * capacity.measure(bench, server)
        load = bench.load.start(server, seconds=KILL_AFTER + AWAY + AFTERWARDS, rate=rate)
        time.sleep(KILL_AFTER)
        database.kill()
        killed = time.monotonic()
        time.sleep(AWAY)
        database.restart()
        away = time.monotonic() - killed
        report = bench.load.finish(load)
        bench.pin_database()
    table.show(
        f"The database killed after {KILL_AFTER} s and back {away:.1f} s later, at {SHARE:.0%} of capacity; by the second of sending",
        ["second", "answered", "of these partial", "refused", "another status", "failed", "slowest, ms"],
        [[n, *(second[key] for key in ("ok", "partial", "refused", "other", "failed")), ms(second["slowest_us"])]
         for n, second in enumerate(report["timeline"])],
    )
    print(f"statuses {report['statuses']}, failures {report['failures']}, refused {refused(report)}, "
          f"neither answered nor refused {unanswered(report)}, slowest {ms(report['service_us']['max'])} ms", flush=True)
