"""What the files under deploy/ call and read: commands of `twotower` with their flags, and variables of the environment."""

import json
import re

VARIABLE = re.compile(r"\b(?:(?:TWOTOWER|SUPABASE|AWS)_[A-Z][A-Z0-9_]*|DATABASE_URL)\b")
PROGRAM = re.compile(r"^(?:/usr/bin/)?twotower$")
# Told by scripts/package-deb itself: no variable of the program.
OF_PACKAGING = {"TWOTOWER_MAINTAINER", "TWOTOWER_REVISION"}
# Arguments in brackets: of the Containerfile, of pods, of the compose file's services.
IN_CONTAINERFILE = re.compile(r"(?:CMD|ENTRYPOINT) (\[.*\])")
IN_YAML = re.compile(r"^\s+(?:args|command): \[([^\]]*)\]")
IN_UNIT = re.compile(r"^Exec\w+=[-@:+!]*(.*)")
# Where a command begins: in a script, or in a comment that shows one (indented).
IN_SHELL = re.compile(r"(?:^|[;&|] *|exec |sudo )(?:/usr/bin/)?(twotower(?:-admin)? [\"$a-z-].*)")
SHOWN = re.compile(r"^#(?: {3,}|\t)(?:sudo )?(twotower(?:-admin)? .*)")


def files(root):
    listed = (path for path in sorted((root / "deploy").rglob("*")) if path.is_file())
    for path in listed:
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def commands(path, text, invocations):
    """(line number, arguments) of each call; `invocations` finds them in a line of shell."""
    shell = text.startswith("#!") or path.suffix == ".8" or "cron" in path.parts
    for number, line in enumerate(text.split("\n"), 1):
        bracketed = IN_CONTAINERFILE.search(line) if path.name == "Containerfile" else None
        if bracketed:
            yield number, without_program(json.loads(bracketed[1]))
        elif path.suffix in (".yaml", ".yml") and IN_YAML.match(line):
            yield number, without_program(re.split(r",\s*", IN_YAML.match(line)[1]))
        elif path.suffix == ".service":
            for words in invocations((IN_UNIT.sub(r"\1", line) if IN_UNIT.match(line) else "").replace("/usr/bin/twotower", "twotower")):
                yield number, words
        else:
            called = SHOWN.match(line) if line.startswith("#") else IN_SHELL.search(line) if shell else None
            for words in invocations(called[1]) if called else ():
                yield number, words


def without_program(words):
    return words[1:] if words and PROGRAM.match(words[0]) else words


def variables(text):
    """(line number, name) of each variable that is ours or that we read."""
    for number, line in enumerate(text.split("\n"), 1):
        for name in VARIABLE.findall(line):
            if name not in OF_PACKAGING:
                yield number, name
