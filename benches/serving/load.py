"""Calls the load generator."""

import json
import subprocess

from places import LOAD, PATH
from processes import on_core


class Load:
    def __init__(self, bench):
        self.bench = bench

    def command(self, server, *, seconds, rate, connections, path):
        return on_core(self.bench.load_core, [
            LOAD, "--address", server.address, "--path", path, "--tokens", self.bench.prepared.tokens,
            "--seconds", str(seconds), "--rate", str(rate), "--connections", str(connections),
        ])

    def run(self, server, **options):
        """Until it is over; what it tells."""
        return self.finish(self.start(server, **options))

    def start(self, server, *, seconds, rate=0, connections=50, path=PATH, yielding=False):
        """`yielding`: the database, which has the same core, goes first."""
        command = self.command(server, seconds=seconds, rate=rate, connections=connections, path=path)
        if yielding:
            command = ["nice", "-n", "10", *command]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def finish(process):
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"the load generator ended with {process.returncode}")
        return json.loads(output)


def rate_of(report):
    """Answers of status 200 a second, while requests are sent."""
    return report["ok_in_time"] / report["seconds"]


def unanswered(report):
    """Requests that got no answer or one that is neither 200 nor a refusal."""
    expected = sum(report["statuses"].get(status, 0) for status in ("200", "429", "503"))
    return report["sent"] - expected


def refused(report):
    return sum(report["statuses"].get(status, 0) for status in ("429", "503"))


def ms(microseconds):
    return f"{microseconds / 1000:.2f}"
