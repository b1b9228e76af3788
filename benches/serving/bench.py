"""Measures the server: see README.md. Called by `run`."""

import argparse
import contextlib
import os

import exact
import prepare
import table
from load import Load
from measures import capacity, compare, database_death, overload, slow_clients, soak, swaps
from processes import children, share_priority

MEASURES = {
    "compare": compare.run,
    "capacity": capacity.run,
    "overload": overload.run,
    "slow-clients": slow_clients.run,
    "database-death": database_death.run,
    "swaps": swaps.run,
    "soak": soak.run,
}


class Bench:
    """What measures share."""

    def __init__(self, options):
        self.options = options
        self.prepared = prepare.Prepared(options.videos)
        self.server_core, self.load_core = options.server_core, options.load_core
        self.load = Load(self)

    def pin_database(self):
        """The server has a core for itself; its database shares the other one with the load, at the priority of this process."""
        pid = self.prepared.database.pid
        for process in [pid, *children(pid)]:
            with contextlib.suppress(ProcessLookupError):
                share_priority(process)
                if self.load_core is not None:
                    os.sched_setaffinity(process, {self.load_core})


def core(text):
    return None if text == "any" else int(text)


def main():
    parser = argparse.ArgumentParser(prog="benches/serving/run", description="Measures the server.")
    parser.add_argument("commands", nargs="+", choices=["prepare", "exact", *MEASURES, "all", "clean"], metavar="COMMAND",
                        help=f"prepare, exact, {', '.join(MEASURES)}, all (every measure), clean")
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10, help="length of one measurement")
    parser.add_argument("--minutes", type=float, default=3, help="length of the soak")
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--only", nargs="*", help="of `compare`: these servers")
    parser.add_argument("--server-core", type=core, default=0, help="core of the server, or `any`")
    parser.add_argument("--load-core", type=core, default=1, help="core of load generator and database, or `any`")
    options = parser.parse_args()
    bench = Bench(options)
    for command in options.commands:
        if command == "prepare":
            prepare.prepare(bench.prepared)
        elif command == "exact":
            exact.build()
        elif command == "clean":
            prepare.clean(bench.prepared)
        else:
            bench.prepared.load()
            share_priority(os.getpid())
            bench.pin_database()
            print(f"{table.machine()}; {options.videos} videos, {prepare.USERS} users with {prepare.LIKES_PER_USER} likes each")
            for name, measure in MEASURES.items():
                if command in (name, "all"):
                    measure(bench)


if __name__ == "__main__":
    main()
