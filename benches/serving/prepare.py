"""A database with a catalogue, users and a trained model, and the users' tokens; kept until `clean`."""

import asyncio
import json
import os
import random
import shutil
import subprocess
import time

import asyncpg
import jwt

import catalogue
from database import Database
from places import BINARY, SECRET, TARGET

USERS = 20_000
LIKES_PER_USER = 50
SEED = 42
# Passes over the million likes: more would cost minutes and change how vectors lie but little.
EPOCHS = 1
# The second version is there to be swapped to, and learns from the latest likes alone.
LATEST_DAYS = 30
# An HNSW index of a million vectors costs PostgreSQL twenty minutes; pgvector is not compared there.
MOST_INDEXED = 200_000


class Prepared:
    """What `prepare` has left in its folder."""

    def __init__(self, videos):
        self.videos = videos
        self.folder = TARGET / str(videos)
        self.models = self.folder / "models"
        self.tokens = self.folder / "tokens"

    def load(self):
        state = self.folder / "state.json"
        if not state.exists():
            raise SystemExit(f"nothing is prepared for {self.videos} videos: run `prepare` first")
        state = json.loads(state.read_text())
        self.database = Database(state["address"], state["place"])
        self.versions = state["versions"]
        if not self.database.alive():
            raise SystemExit("the database of `prepare` is gone: run `clean` and `prepare` again")
        return self

    def environment(self):
        return {"DATABASE_URL": self.database.address, "TWOTOWER_JWT_SECRET": SECRET, "TWOTOWER_LOG_FORMAT": "human"}

    def twotower(self, *arguments):
        """Runs a command; gives its result."""
        command = [BINARY, "--json", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env={**os.environ, **self.environment()}, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise SystemExit(f"`twotower {' '.join(arguments)}` ended with {done.returncode}")
        return json.loads(done.stdout)


def prepare(prepared):
    if (prepared.folder / "state.json").exists():
        raise SystemExit(f"{prepared.folder} is prepared already: `clean` removes it")
    shutil.rmtree(prepared.folder, ignore_errors=True)
    prepared.folder.mkdir(parents=True)
    prepared.database = Database.start()
    try:
        fill(prepared)
    except BaseException:
        prepared.database.stop()
        raise
    database = prepared.database
    state = {"address": database.address, "place": str(database.place), "versions": prepared.versions}
    (prepared.folder / "state.json").write_text(json.dumps(state))


def fill(prepared):
    indexed = "true" if prepared.videos <= MOST_INDEXED else "false"
    (prepared.folder / "twotower.toml").write_text(f"[update]\nindex = {indexed}\n")
    prepared.twotower("migrate")
    step("generate and copy", lambda: asyncio.run(write_catalogue(prepared)))
    (prepared.tokens).write_text("\n".join(tokens()) + "\n")
    prepared.versions = []
    # Two versions, to swap between.
    for data in ([], [f"--max-age-days={LATEST_DAYS}"]):
        train = ("train", "--update-db", "--force", f"--epochs={EPOCHS}", f"--output-dir={prepared.models}", *data)
        report = step(" ".join(train), lambda: prepared.twotower(*train))
        prepared.versions.append(report["train"]["version"])
        # The first version alone has the index that pgvector needs.
        (prepared.folder / "twotower.toml").write_text("[update]\nindex = false\n")
    prepared.twotower("models", "promote", str(prepared.versions[0]), "--force")
    step("vacuum", lambda: asyncio.run(vacuum(prepared)))


def step(name, work):
    started = time.monotonic()
    result = work()
    print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)
    return result


async def write_catalogue(prepared):
    rows, topic = catalogue.videos(prepared.videos, SEED)
    connection = await asyncpg.connect(prepared.database.address)
    await connection.copy_records_to_table(
        "videos", records=rows, columns=["id", "title", "genre", "maker", "price", "published_at"]
    )
    await connection.copy_records_to_table(
        "likes", records=catalogue.likes(topic, USERS, LIKES_PER_USER, SEED), columns=["user_id", "video_id", "created_at"]
    )
    await connection.close()


async def vacuum(prepared):
    connection = await asyncpg.connect(prepared.database.address)
    await connection.execute("VACUUM ANALYZE", timeout=600)
    await connection.close()


def tokens():
    """One of each user, in random order."""
    expires = int(time.time()) + 7 * 86_400
    users = [catalogue.user_id(number) for number in range(USERS)]
    random.Random(SEED).shuffle(users)
    for user in users:
        claims = {"sub": str(user), "aud": "authenticated", "role": "authenticated", "exp": expires}
        yield jwt.encode(claims, SECRET, algorithm="HS256")


def clean(prepared):
    state = prepared.folder / "state.json"
    if state.exists():
        state = json.loads(state.read_text())
        Database(state["address"], state["place"]).stop()
    shutil.rmtree(prepared.folder, ignore_errors=True)
