"""Measures two_tower_recommendations under Deno, on the database that benches/serving has prepared. Called by `run`."""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "serving"))

import asyncpg  # noqa: E402

import prepare  # noqa: E402
import table  # noqa: E402
from bench import Bench, core  # noqa: E402
from load import ms, rate_of  # noqa: E402
from places import ROOT, SECRET  # noqa: E402
from processes import cpu_seconds, on_core, resident_mb, share_priority  # noqa: E402

PUBLISHABLE, SECRET_KEY = "sb_publishable_bench", "sb_secret_bench"
NAME = "two_tower_recommendations"
SHARE = 0.7


class Deno:
    """A program of the repository that serves and prints its address."""

    def __init__(self, core, program, permissions, environment):
        command = [ROOT / "scripts" / "deno", "run", "--frozen", "--cached-only", "--allow-net=127.0.0.1", "--allow-env",
                   *permissions, ROOT / program]
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [str(part) for part in on_core(core, command)], env={**environment, "DENO_SERVE_ADDRESS": "tcp:127.0.0.1:0", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for line in self.process.stdout:
            if found := re.search(r"http://([\d.:]+\d)", line):
                self.address = found[1]
                break
        else:
            raise SystemExit(f"{program} ended while starting")
        self.log = open(prepare.TARGET / f"{pathlib.Path(program).parent.name}.log", "w")
        # What it goes on to print must be read by somebody.
        self.drain = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=self.log)

    @property
    def pid(self):
        return self.process.pid

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.drain.wait()
        self.log.close()


@contextlib.contextmanager
def running(*arguments):
    server = Deno(*arguments)
    try:
        yield server
    finally:
        server.end()


def project(bench):
    """The stand-ins, with the active model's files in the bucket."""
    storage = bench.prepared.folder / "storage"
    bucket = storage / "models" / "models"
    bucket.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        version = str(bench.prepared.versions[0])
        (bucket / version).symlink_to(bench.prepared.models / version)
    return running(bench.load_core, "tests/stand-ins/project/main.ts", ["--allow-read", "--allow-write"], {
        "STAND_IN_DATABASE": bench.prepared.database.address,
        "STAND_IN_SECRET": SECRET,
        "STAND_IN_API_KEYS": json.dumps({PUBLISHABLE: "anon", SECRET_KEY: "service_role"}),
        "STAND_IN_STORAGE": str(storage),
        "PATH": "/usr/bin:/bin",
    })


def function(bench, services):
    return running(bench.server_core, f"supabase/functions/{NAME}/index.ts", [], {
        "SUPABASE_URL": f"http://{services.address}",
        "SUPABASE_PUBLISHABLE_KEYS": json.dumps({"default": PUBLISHABLE}),
        "SUPABASE_SECRET_KEYS": json.dumps({"default": SECRET_KEY}),
        "TWOTOWER_JWT_SECRET": SECRET,
        "PATH": "/usr/bin:/bin",
        **({"DENO_V8_FLAGS": bench.options.v8_flags} if bench.options.v8_flags else {}),
    })


def forget(bench):
    """Empties the table of answers."""

    async def truncate():
        connection = await asyncpg.connect(bench.prepared.database.address)
        await connection.execute("TRUNCATE recommendation_cache")
        await connection.close()

    asyncio.run(truncate())


def ask(server, token):
    """Sends one request; its `Server-Timing` as milliseconds by stage."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(f"http://{server.address}/", b"{}", headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
        return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"])}


def first_answer_ms(bench, server):
    ask(server, bench.prepared.tokens.read_text().splitlines()[-1])
    return 1000 * (time.monotonic() - server.begun)


def stages(bench, services):
    """Requests one after the other: where the time of one goes, without queues."""
    forget(bench)
    with function(bench, services) as server:
        tokens = bench.prepared.tokens.read_text().splitlines()
        timings = [ask(server, token) for token in tokens[:300]][100:]
    names = ["auth", "db", "model", "tower", "rank", "total"]
    medians = [f"{statistics.median(timing.get(name, 0) for timing in timings):.2f}" for name in names]
    table.show("Median of each stage in ms, one request at a time", names, [medians])


def measure(bench, services):
    seconds = bench.options.seconds
    rows = []
    capacity = 0
    # The same users in the same order: in the second row they have answers in the table.
    for name in ["each answer made", "answers kept"]:
        for rate in [0, None]:
            if name == "each answer made":
                forget(bench)
            with function(bench, services) as server:
                cold = first_answer_ms(bench, server)
                bench.pin_database()
                before, apart = cpu_seconds(server.pid), cpu_seconds(services.pid)
                wanted = SHARE * capacity if rate is None else rate
                report = bench.load.run(server, seconds=seconds, rate=wanted, connections=bench.options.connections, path="/")
                sent = max(1, report["sent"])
                capacity = rate_of(report) if rate == 0 else capacity
                latency = report["latency_us"]
                rows.append([
                    name, "as fast as answered" if rate == 0 else f"{wanted:.0f}/s", f"{rate_of(report):.0f}", ms(latency["p50"]),
                    ms(latency["p99"]), report["sent"] - report["ok"], f"{100 * report['cached'] / max(1, report['ok']):.0f} %",
                    f"{1000 * (cpu_seconds(server.pid) - before) / sent:.2f}", f"{1000 * (cpu_seconds(services.pid) - apart) / sent:.2f}",
                    f"{resident_mb(server.pid):.0f}", f"{cold:.0f}",
                ])
    table.show(
        f"{NAME}, {bench.options.connections} connections, {seconds:.0f} s",
        ["", "load", "answered/s", "p50, ms", "p99, ms", "failed", "from the cache", "CPU, ms", "CPU of the stand-ins, ms", "resident, MB",
         "start to first answer, ms"],
        rows,
    )


def main():
    parser = argparse.ArgumentParser(prog="benches/edge/run", description="Measures the edge function.")
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--v8-flags", default="", help="of the function's process, such as --max-old-space-size=64")
    parser.add_argument("--server-core", type=core, default=0, help="core of the function, or `any`")
    parser.add_argument("--load-core", type=core, default=1, help="core of load generator and stand-ins, or `any`")
    bench = Bench(parser.parse_args())
    bench.prepared.load()
    share_priority(os.getpid())
    print(f"{table.machine()}; {bench.options.videos} videos, {prepare.USERS} users with {prepare.LIKES_PER_USER} likes each")
    with project(bench) as services:
        stages(bench, services)
        measure(bench, services)


if __name__ == "__main__":
    main()
