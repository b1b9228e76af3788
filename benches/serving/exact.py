"""A build of the same server that has no inverted lists however many videos there are: no setting switches them off."""

import io
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

from places import EXACT_BINARY, ROOT, TARGET

AUTO_LISTS = re.compile(r"(pub const AUTO_LISTS: usize = )[0-9_]+;")
# Another version: of two packages with one name and version Cargo would take what is built of the one for the other's.
WORKSPACE_VERSION = re.compile(r'(\[workspace\.package\]\nversion = "[^"+]+)"')
LOCKED_VERSION = re.compile(r'(name = "twotower(?:-core|-onnx|-store)?"\nversion = "[^"+]+)"')


def build():
    copy = TARGET / "exact"
    shutil.rmtree(copy, ignore_errors=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(copy, filter="data")
    change(copy / "crates" / "twotower-core" / "src" / "index.rs", AUTO_LISTS, r"\g<1>usize::MAX;", 1)
    change(copy / "Cargo.toml", WORKSPACE_VERSION, r'\g<1>+exact"', 1)
    change(copy / "Cargo.lock", LOCKED_VERSION, r'\g<1>+exact"', 4)
    # The crates of others are the same, and so is the folder that holds them; the server that is shipped keeps its place there.
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built, kept = target / "dist" / "twotower", target / "dist" / "twotower-shipped"
    if built.exists():
        os.replace(built, kept)
    try:
        subprocess.run(
            ["cargo", "build", "--profile", "dist", "--locked", "-p", "twotower"], cwd=copy, check=True,
            env={**os.environ, "CARGO_TARGET_DIR": str(target)},
        )
        shutil.move(built, EXACT_BINARY)
    finally:
        if kept.exists():
            os.replace(kept, built)


def change(path, pattern, replacement, times):
    text, changed = pattern.subn(replacement, path.read_text())
    if changed != times:
        raise SystemExit(f"{path} no longer has `{pattern.pattern}` {times} times, but {changed} times")
    path.write_text(text)
