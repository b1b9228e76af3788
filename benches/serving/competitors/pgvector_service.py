"""Vectors in PostgreSQL, searched by pgvector's HNSW; the process holds titles and the user tower."""

import numpy as np

from service import DIMENSION, VERSION, Service, application

LIKES = f"""
    SELECT likes.video_id, embedding FROM likes
    JOIN video_embeddings ON video_embeddings.video_id = likes.video_id AND model_version = {VERSION}
    WHERE user_id = $1 ORDER BY created_at, likes.video_id
"""
# The version is written out, so that the planner can prove that the partial index holds what is asked for.
NEAREST = f"""
    SELECT video_id, -(embedding::vector({DIMENSION}) <#> $1) FROM video_embeddings
    WHERE model_version = {VERSION} AND video_id <> ALL ($2)
    ORDER BY embedding::vector({DIMENSION}) <#> $1 LIMIT $3
"""


class Pgvector(Service):
    async def load(self, pool):
        self.titles = dict(await pool.fetch("SELECT id, title FROM videos"))

    async def recommend(self, pool, user, query):
        async with pool.acquire() as connection:
            rows = await connection.fetch(LIKES, user)
            vector = self.tower.embed(np.stack([row[1].to_numpy() for row in rows]))
            excluded = [row[0] for row in rows] if query.exclude_liked else []
            found = await connection.fetch(NEAREST, vector, excluded, query.limit)
        return [(str(video), self.titles[video], score) for video, score in found]


app = application(Pgvector())
