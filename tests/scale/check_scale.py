#!/usr/bin/env python3
"""Holds `twotower` and `twotower-scale` together, as a user runs them.

    scripts/test-postgres run tests/scale/check_scale.py TWOTOWER TWOTOWER_SCALE

1. A database's likes through `export`, `prepare` and `train --data` give the weights that `train` gives from the database, also with likes on disk.
   `prepare --from postgres` does the same from PostgreSQL by itself.
2. Vectors through `export --user-ids`, `embed --users` and `load` are those that `update` writes.
3. Shards say which erasures the database knew of.
4. Every flag of `twotower-scale` stands in docs/shards.md, and every flag there is one.
"""

import json
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/docs"))

from make_data import make_data

DOCUMENT = ROOT / "docs/shards.md"
TRAIN = "train --epochs 1 --embedding-dim 16 --seed 7"
# Kernels of one row and of many round apart.
TOLERANCE = 1e-5


class Place:
    """A folder with both programs in it."""

    def __init__(self, folder, twotower, scale):
        self.folder = Path(folder)
        for program, name in ((twotower, "twotower"), (scale, "twotower-scale")):
            shutil.copy(program, self.folder / name)

    def start(self, line, database="sqlite://a.db"):
        command = [self.folder / "twotower", *line.split()]
        return subprocess.run(command, cwd=self.folder, env=os.environ | {"DATABASE_URL": database}, capture_output=True, text=True)

    def run(self, line, database="sqlite://a.db"):
        done = self.start(line, database)
        if done.returncode != 0:
            sys.exit(f"check_scale: twotower {line}: {done.returncode}\n{done.stderr}{done.stdout}")
        return done.stdout

    def train(self, flags, database="sqlite://a.db"):
        path = json.loads(self.run(f"--json {TRAIN} {flags}", database))["train"]["path"]
        return (self.folder / path / "weights.safetensors").read_bytes()


def vectors(path, table, version):
    key = table.replace("embeddings", "id")
    rows = sqlite3.connect(path).execute(f"SELECT {key}, embedding FROM {table} WHERE model_version = ?", [version])
    return {key: struct.unpack(f"<{len(blob) // 4}f", blob) for key, blob in rows}


def check_training(place):
    place.run("demo --no-serve --videos 600 --users 400 --likes 24000 --epochs 1")
    erased = sqlite3.connect(place.folder / "a.db").execute("SELECT user_id FROM likes LIMIT 1").fetchone()[0]
    erased = erased.hex() if isinstance(erased, bytes) else erased
    place.run(f"erase --user {erased}")
    place.run("export --to exported")
    place.run("prepare --from exported --to shards --memory-limit 64MB")
    seen = json.loads((place.folder / "shards/shards.json").read_text())["erasures_seen"]
    if seen != 1:
        yield f"shards.json says that {seen} erasures were seen, and there was one"
    expected = place.train("")
    for flags in ("--data shards", "--data shards --memory-limit 200MB"):
        if place.train(flags) != expected:
            yield f"train {flags}: other weights than those of the database"


def check_postgres(place):
    server = os.environ.get("TWOTOWER_TEST_POSTGRES")
    if not server:
        sys.exit(__doc__.strip())
    make_data(place.folder)
    place.run("migrate", server)
    place.run("import videos.csv likes.csv skips.csv", server)
    place.run("prepare --from postgres --to of-postgres", server)
    if place.train("--output-dir of-shards --data of-postgres", server) != place.train("--output-dir of-database", server):
        yield "prepare --from postgres: other weights than those of the database"


def check_vectors(place):
    model = max((place.folder / "models").glob("[0-9]*"), key=lambda path: int(path.name))
    shutil.copy(place.folder / "a.db", place.folder / "b.db")
    refused = place.start(f"embed --model {model} --from exported --to vectors --users")
    if refused.returncode != 1 or "--user-ids" not in refused.stderr:
        yield f"embed --users takes pseudonyms for ids: {refused.stderr}"
    place.run("export --user-ids --to with-ids")
    place.run(f"embed --model {model} --from with-ids --to vectors --users")
    place.run(f"load --model {model} --from vectors --force --no-index")
    place.run(f"update --model-path {model} --force --no-index", "sqlite://b.db")
    for table in ("video_embeddings", "user_embeddings"):
        loaded, updated = (vectors(place.folder / name, table, int(model.name)) for name in ("a.db", "b.db"))
        if not updated or not updated.keys() <= loaded.keys():
            yield f"{table}: {len(loaded)} vectors were loaded, {len(updated)} updated"
            continue
        apart = max(abs(x - y) for key in updated for x, y in zip(loaded[key], updated[key]))
        if apart > TOLERANCE:
            yield f"{table}: vectors of embed and of update differ by {apart}"


def check_flags(place):
    document = DOCUMENT.read_text(encoding="utf-8")
    known = set(re.findall(r"--[a-z][a-z-]*", place.run("export --help")))
    for command in ("prepare", "embed", "scheduler", "executor"):
        text = place.run(f"{command} --help")
        flags = set(re.findall(r"^\s+(?:-\w, )?(--[a-z][a-z-]*)", text, re.M)) - {"--help"}
        known |= flags
        for flag in sorted(flags):
            if f"`{flag}`" not in document:
                yield f"{DOCUMENT.relative_to(ROOT)}: {flag} of {command} is missing"
    for flag in sorted(set(re.findall(r"`(--[a-z][a-z-]*)`", document)) - known):
        yield f"{DOCUMENT.relative_to(ROOT)}: no command has a flag {flag}"


def main(twotower, scale):
    with tempfile.TemporaryDirectory(prefix="check-scale-") as folder:
        place = Place(folder, twotower, scale)
        checks = (check_training, check_postgres, check_vectors, check_flags)
        problems = [problem for check in checks for problem in check(place)]
    for problem in problems:
        print(problem)
    print(f"check_scale: {len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    main(*sys.argv[1:])
