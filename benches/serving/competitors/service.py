"""What the FastAPI services share: the address, the token, the request, the answer, and the user's likes from PostgreSQL."""

import contextlib
import datetime
import os
import uuid

import asyncpg
import fastapi
import jwt
import orjson
import pgvector.asyncpg
import pydantic

from user_tower import UserTower

PATH = "/functions/v1/two_tower_recommendations"
SECRET = os.environ["TWOTOWER_JWT_SECRET"]
VERSION = int(os.environ["MODEL_VERSION"])
MODEL = os.environ["MODEL_FOLDER"]
DIMENSION = int(os.environ["DIMENSION"])
# What both kinds of HNSW keep while they search.
EF_SEARCH = 200


class Query(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    limit: int = pydantic.Field(10, ge=1, le=100)
    exclude_liked: bool = True


class Service:
    """One way to answer. `load` is called once; `recommend` gives (video, title, score) for a user and k."""

    async def load(self, pool):
        raise NotImplementedError

    async def recommend(self, pool, user, query):
        raise NotImplementedError


async def prepare_connection(connection):
    await pgvector.asyncpg.register_vector(connection)


def pool():
    return asyncpg.create_pool(
        os.environ["DATABASE_URL"],
        min_size=8,
        max_size=8,
        init=prepare_connection,
        server_settings={"hnsw.ef_search": str(EF_SEARCH)},
        command_timeout=2,
    )


def application(service):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with pool() as app.state.pool:
            app.state.tower = UserTower(MODEL)
            service.tower = app.state.tower
            await service.load(app.state.pool)
            yield

    app = fastapi.FastAPI(lifespan=lifespan, openapi_url=None)

    def user_of(request: fastapi.Request):
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise fastapi.HTTPException(401)
        try:
            claims = jwt.decode(
                token, SECRET, algorithms=["HS256"], audience="authenticated", options={"require": ["exp", "sub"]}
            )
            return uuid.UUID(claims["sub"])
        except (jwt.InvalidTokenError, ValueError) as error:
            raise fastapi.HTTPException(401) from error

    @app.get("/readyz")
    async def ready():
        return {"ready": True}

    @app.post(PATH)
    async def recommend(request: fastapi.Request, query: Query):
        user = user_of(request)
        found = await service.recommend(app.state.pool, user, query)
        answer = {
            "user_id": user,
            "source": "two_tower",
            "model_version": VERSION,
            "recommendations": [{"video_id": video, "title": title, "score": score} for video, title, score in found],
            "partial": False,
            "cached": False,
            "generated_at": datetime.datetime.now(datetime.timezone.utc),
        }
        return fastapi.Response(orjson.dumps(answer), media_type="application/json")

    return app
