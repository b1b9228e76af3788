#!/usr/bin/env python3
"""Writes videos.csv, likes.csv and skips.csv into a folder: small, seeded, with a taste per user that a model can find.

    tests/docs/make_data.py FOLDER
"""

import csv
import random
import sys
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

VIDEOS, USERS, LIKES_PER_USER, SKIPS_PER_USER = 300, 120, 25, 6
GENRES = ["drama", "comedy", "documentary", "時代劇", "音楽"]
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def make_data(folder, seed=7):
    random_ = random.Random(seed)
    new_id = lambda: str(uuid.UUID(int=random_.getrandbits(128), version=4))
    ids = [new_id() for _ in range(VIDEOS)]
    genre_of = {video: GENRES[n % len(GENRES)] for n, video in enumerate(ids)}
    by_genre = {genre: [video for video in ids if genre_of[video] == genre] for genre in GENRES}
    users = [(new_id(), random_.choice(GENRES)) for _ in range(USERS)]
    time = lambda: (START + timedelta(seconds=random_.randrange(180 * 86_400))).isoformat()

    def write(name, header, rows):
        with open(Path(folder, name), "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)

    write(
        "videos.csv",
        ["id", "title", "genre", "maker", "price", "duration_seconds", "published_at", "tags", "performers"],
        (
            [video, f"第{n}話 {genre_of[video]} no. {n}", genre_of[video], f"maker {n % 7}", 300 + 10 * (n % 50),
             600 + 30 * (n % 90), time(), f"{genre_of[video]}|tag {n % 11}", f"performer {n % 40}"]
            for n, video in enumerate(ids)
        ),
    )
    likes, skips = [], []
    for user, taste in users:
        mine = set()
        while len(mine) < LIKES_PER_USER:
            mine.add(random_.choice(by_genre[taste] if random_.random() < 0.8 else ids))
        likes += [[user, video, time()] for video in sorted(mine)]
        others = random_.sample([video for video in ids if video not in mine and genre_of[video] != taste], SKIPS_PER_USER)
        skips += [[user, video, time()] for video in others]
    write("likes.csv", ["user_id", "video_id", "created_at"], likes)
    write("skips.csv", ["user_id", "video_id", "created_at"], skips)


if __name__ == "__main__":
    make_data(sys.argv[1])
