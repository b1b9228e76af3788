"""The servers that are measured, started alike: one process on one core, with the same secret and database."""

import contextlib
import json
import sys

from places import BINARY, EXACT_BINARY, HERE
from processes import free_port, serving

# Nobody here asks more than once within a second, and every answer is made afresh: the cache would answer all but the first.
EVERY_ANSWER_MADE = {"cache_seconds": 0, "user_requests_per_second": 0}
AS_SHIPPED = {"user_requests_per_second": 0}


@contextlib.contextmanager
def twotower(bench, *, settings=None, exact=False, name=None):
    """The binary, as shipped but for `settings` of [serve]."""
    name = name or ("twotower, exact" if exact else "twotower")
    settings = EVERY_ANSWER_MADE if settings is None else settings
    folder = bench.prepared.folder
    config = folder / "serve.toml"
    config.write_text("[serve]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    port, metrics_port = free_port(), free_port()
    command = [
        EXACT_BINARY if exact else BINARY, "--config", config, "serve", "--listen", f"127.0.0.1:{port}",
        "--metrics-listen", f"127.0.0.1:{metrics_port}", "--model-path", bench.prepared.models,
    ]
    with serving(
        name, command, folder / "twotower.log", core=bench.server_core, environment=bench.prepared.environment(),
        port=port, metrics_port=metrics_port, folder=folder,
    ) as server:
        yield server


@contextlib.contextmanager
def fastapi(bench, kind):
    """`kind`: faiss-hnsw, faiss-flat or pgvector."""
    folder = bench.prepared.folder
    version = bench.prepared.versions[0]
    model = bench.prepared.models / str(version)
    port = free_port()
    module = "pgvector_service" if kind == "pgvector" else "faiss_service"
    command = [
        sys.executable, "-m", "uvicorn", f"{module}:app", "--app-dir", HERE / "competitors", "--host", "127.0.0.1", "--port", port,
        "--loop", "uvloop", "--http", "httptools", "--workers", "1", "--no-access-log", "--lifespan", "on",
    ]
    environment = {
        **bench.prepared.environment(),
        "MODEL_VERSION": str(version),
        "MODEL_FOLDER": str(model),
        "DIMENSION": str(json.loads((model / "manifest.json").read_text())["hyperparameters"]["embedding_dim"]),
        "FAISS_INDEX": kind.removeprefix("faiss-"),
        "FAISS_FILE": str(folder / f"faiss-hnsw-{version}"),
        # One process on one core, like ours: threads of numpy would only fight for it.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with serving(
        f"FastAPI, {kind}", [str(part) for part in command], folder / f"{kind}.log", core=bench.server_core,
        environment=environment, port=port, folder=folder,
    ) as server:
        yield server
