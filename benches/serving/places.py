"""Where things lie."""

import os
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = ROOT / "target" / "bench" / "serving"
LOAD = TARGET / "load" / "release" / "serving-load"
SLOW_CLIENTS = LOAD.with_name("slow-clients")
BINARY = pathlib.Path(os.environ.get("TWOTOWER_BINARY", ROOT / "target" / "dist" / "twotower"))
# The same server without inverted lists, where `exact` has built it.
EXACT_BINARY = TARGET / "twotower-exact"
SECRET = "a secret of the bench alone, 32 bytes"
PATH = "/functions/v1/two_tower_recommendations"
