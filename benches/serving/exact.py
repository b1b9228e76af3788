"""A build of the same server that has no inverted lists however many videos there are: no setting switches them off."""

import io
import os
import re
import shutil
import subprocess
import tarfile

from places import EXACT_BINARY, ROOT, TARGET

CONSTANT = re.compile(r"(pub const AUTO_LISTS: usize = )[0-9_]+;")


def build():
    copy = TARGET / "exact"
    shutil.rmtree(copy, ignore_errors=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(copy, filter="data")
    index = copy / "crates" / "twotower-core" / "src" / "index.rs"
    text, changed = CONSTANT.subn(r"\g<1>usize::MAX;", index.read_text())
    if changed != 1:
        raise SystemExit(f"{index} no longer holds the one line `pub const AUTO_LISTS: usize = …;`")
    index.write_text(text)
    # The crates of others are the same, and so is the folder that holds them.
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "-p", "twotower"], cwd=copy, check=True,
        env={**os.environ, "CARGO_TARGET_DIR": str(target)},
    )
    shutil.copy2(os.path.join(target, "release", "twotower"), EXACT_BINARY)
    # Else the next build of the checkout would find a newer file than its own, and leave it.
    os.remove(os.path.join(target, "release", "twotower"))
