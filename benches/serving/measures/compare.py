"""CPU and memory of a request, beside services that do the same in Python."""

import contextlib
import json
import urllib.request

import subjects
import table
from load import ms, rate_of, refused, unanswered
from places import EXACT_BINARY, PATH
from prepare import MOST_INDEXED
from processes import family_cpu_seconds, cpu_seconds, resident_mb

# Whose lists are compared with the exact ones.
SAMPLED_USERS = 300
# As many as our server works on at once at the least, or has waiting: none is refused.
CONNECTIONS = 16
# Before the clock starts: pages are read, code is warm.
WARM_SECONDS = 2


def run(bench):
    rows, lists, notes = [], {}, []
    database = bench.prepared.database.pid
    for name, start in contestants(bench):
        if bench.options.only and name not in bench.options.only:
            continue
        with start as server:
            bench.load.run(server, seconds=WARM_SECONDS, connections=CONNECTIONS)
            bench.pin_database()
            before = cpu_seconds(server.pid), family_cpu_seconds(database)
            report = bench.load.run(server, seconds=bench.options.seconds, connections=CONNECTIONS)
            after = cpu_seconds(server.pid), family_cpu_seconds(database)
            lists[name] = sample(bench, server)
            if server.metrics_port is not None:
                notes.append(f"{name}: {stages(server)}; an address that does not exist, {nothing_us(bench, server):.0f} µs of CPU")
            answers = max(1, report["sent"] - unanswered(report))
            server_us, database_us = (1e6 * (end - begin) / answers for begin, end in zip(before, after))
            rows.append([
                name, round(server_us), round(database_us), round(rate_of(report)), ms(report["service_us"]["p50"]),
                ms(report["service_us"]["p99"]), refused(report), unanswered(report), round(resident_mb(server.pid)),
            ])
    ours = next((row[1] for row in rows if row[0] == "twotower"), None)
    truth = lists.get("faiss-flat") or lists.get("twotower, exact")
    for row in rows:
        row.insert(2, f"{row[1] / ours:.1f}" if ours else "")
        row.append(f"{recall(lists[row[0]], truth):.4f}" if truth else "")
    table.show(
        f"One request of 50 likes, k = 10, {CONNECTIONS} connections, each as fast as it is answered ({bench.options.seconds:g} s)",
        ["server", "its CPU, µs", "times ours", "PostgreSQL's CPU, µs", "requests/s", "p50, ms", "p99, ms", "refused", "failed",
         "resident, MB", "recall@10"],
        rows,
    )
    print("\n".join(notes), flush=True)


def stages(server):
    """Mean time of each stage, waiting included, since the server was started."""
    samples = server.metrics()
    name = "twotower_http_stage_duration_seconds"
    found = []
    for sample, count in samples.items():
        if sample.startswith(f"{name}_count") and count:
            label = sample.removeprefix(f"{name}_count")
            found.append(f"{label.split(chr(34))[1]} {1e6 * samples[f'{name}_sum{label}'] / count:.0f} µs")
    return "stages: " + ", ".join(found)


def nothing_us(bench, server):
    """CPU of the least that can be answered: HTTP, the layers that every request passes, and the log's line."""
    before = cpu_seconds(server.pid)
    report = bench.load.run(server, seconds=WARM_SECONDS, connections=CONNECTIONS, path="/nothing")
    return 1e6 * (cpu_seconds(server.pid) - before) / report["sent"]


def contestants(bench):
    yield "twotower", subjects.twotower(bench)
    if EXACT_BINARY.exists():
        yield "twotower, exact", subjects.twotower(bench, exact=True)
    yield "faiss-hnsw", subjects.fastapi(bench, "faiss-hnsw")
    yield "faiss-flat", subjects.fastapi(bench, "faiss-flat")
    if bench.prepared.videos <= MOST_INDEXED:
        yield "pgvector", subjects.fastapi(bench, "pgvector")


def sample(bench, server):
    """The lists of some users."""
    lists = []
    with open(bench.prepared.tokens) as tokens:
        for _, token in zip(range(SAMPLED_USERS), tokens):
            headers = {"Authorization": f"Bearer {token.strip()}", "Content-Type": "application/json"}
            request = urllib.request.Request(f"http://{server.address}{PATH}", b'{"limit": 10}', headers)
            with contextlib.closing(urllib.request.urlopen(request, timeout=10)) as answer:
                body = json.load(answer)
            lists.append({entry["video_id"] for entry in body["recommendations"]})
    return lists


def recall(lists, truth):
    return sum(len(found & wanted) for found, wanted in zip(lists, truth)) / sum(map(len, truth))
