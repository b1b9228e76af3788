"""Vectors in the process, searched by faiss: a graph (HNSW) or a flat scan, as FAISS_INDEX says."""

import os
import pathlib

import faiss
import numpy as np

from service import DIMENSION, EF_SEARCH, VERSION, Service, application

LIKES = "SELECT video_id FROM likes WHERE user_id = $1 ORDER BY created_at, video_id"
VIDEOS = """
    SELECT video_id, title, embedding FROM video_embeddings JOIN videos ON id = video_id
    WHERE model_version = $1 ORDER BY video_id
"""


def hnsw(vectors):
    index = faiss.IndexHNSWFlat(DIMENSION, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    index.add(vectors)
    return index


class Faiss(Service):
    async def load(self, pool):
        ids, self.texts, self.titles, vectors = [], [], [], []
        async with pool.acquire() as connection, connection.transaction():
            async for video, title, vector in connection.cursor(VIDEOS, VERSION, prefetch=10_000):
                ids.append(video)
                self.texts.append(str(video))
                self.titles.append(title)
                vectors.append(vector.to_numpy())
        self.vectors = np.array(vectors, np.float32)
        self.positions = {video: position for position, video in enumerate(ids)}
        faiss.omp_set_num_threads(1)
        if os.environ["FAISS_INDEX"] == "flat":
            self.index = faiss.IndexFlatIP(DIMENSION)
            self.index.add(self.vectors)
            return
        # Building takes minutes at a million videos, and all measures want the same graph.
        file = pathlib.Path(os.environ["FAISS_FILE"])
        if not file.exists():
            faiss.write_index(hnsw(self.vectors), str(file))
        self.index = faiss.read_index(str(file))
        self.index.hnsw.efSearch = EF_SEARCH

    async def recommend(self, pool, user, query):
        rows = await pool.fetch(LIKES, user)
        liked = [self.positions[row[0]] for row in rows]
        vector = self.tower.embed(self.vectors[liked])
        excluded = set(liked) if query.exclude_liked else set()
        # So many more that enough are left without the liked ones; cheaper than a selector inside the search.
        scores, found = self.index.search(vector[None], query.limit + len(excluded))
        kept = [pair for pair in zip(found[0].tolist(), scores[0].tolist()) if pair[0] not in excluded]
        return [(self.texts[item], self.titles[item], score) for item, score in kept[: query.limit]]


app = application(Faiss())
