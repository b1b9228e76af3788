#!/usr/bin/env python3
"""Holds the Markdown files against the program they describe.

    tests/docs/check_docs.py BINARY [--database-url URL] [--no-run]

1. Every `twotower …` command and flag in README.md, ARCHITECTURE.md, CONTRIBUTING.md and docs/ is in BINARY's --help, and every
   flag in --help is in docs/configuration.md, as are the hyperparameters with their defaults. The same holds for what units, scripts, images
   and manifests under deploy/ call; and every variable of the environment that they name is documented. Every `supabase …` is a command of
   the Supabase CLI, where scripts/supabase-cli has fetched it.
2. docs/X.md and docs/X.ja.md have the same levels of headings, code blocks (comments aside), rows of tables and check boxes.
3. Blocks marked as below run, in order, in one shell a file. Files of docs/ run against a new database on the server of
   URL (default: the first set of DATABASE_VARIABLES); README.md runs against the embedded default. `127.0.0.1:8080` is
   replaced by a free port. Translations are not run: they have the same blocks.

A comment on the line before a fenced block says what to do with it:
    <!-- run -->            run it (bash; sql through psql)
    <!-- file: NAME -->     write it to NAME first
    <!-- planned -->        describes what does not exist yet: not checked, not run
In prose, "planned (`twotower …`)" (予定(`twotower …`)) names a command that does not exist yet; once it does, that is an error.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import deploy_files
from make_data import make_data

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(?P<mark>(?:<!--[^\n]*-->\n)?)```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
LIMIT_S = 600
# Its flags are those of twotower-scale: tests/scale/check_scale.py knows them.
OF_SCALE = ROOT / "docs/shards.md"
DATABASE_VARIABLES = ["TWOTOWER_TEST_POSTGRES", "DATABASE_URL"]


@dataclass
class Block:
    file: Path
    line: int
    mark: str
    language: str
    text: str

    @property
    def place(self):
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def blocks(path):
    source = path.read_text(encoding="utf-8")
    for match in FENCE.finditer(source):
        mark = match["mark"].strip().removeprefix("<!--").removesuffix("-->").strip()
        line = source.count("\n", 0, match.start("text"))
        yield Block(path, line, mark, match["language"], match["text"])


def prose_lines(path):
    """(line number, text) outside fenced blocks."""
    source = path.read_text(encoding="utf-8")
    blank = lambda match: re.sub(r"[^\n]", "", match.group())
    return enumerate(FENCE.sub(blank, source).split("\n"), 1)


class Program:
    """What the binary says it understands."""

    def __init__(self, binary):
        self.binary = binary
        top = self.help()
        names = self.commands_of(top)
        if not names:
            sys.exit(f"check_docs: `{binary} --help` lists no commands:\n{top}")
        self.flags = {name: self.flags_of_command(name) for name in names}
        # Their flags are known where twotower-scale is: `make test-scale` checks them.
        self.elsewhere = {name for name in names if "twotower-scale" in self.help(name)}
        self.flags[""] = self.flags_of(top)
        self.all_flags = set().union(*self.flags.values())

    def help(self, *command):
        return subprocess.run([self.binary, *command, "--help"], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout

    def flags_of_command(self, name):
        """Of the command and of its own commands, if it has some."""
        text = self.help(name)
        own = (self.flags_of(self.help(name, command)) for command in self.commands_of(text))
        return self.flags_of(text).union(*own)

    @staticmethod
    def commands_of(text):
        listing = re.search(r"^Commands:\n(.*?)(?:\n\n|\Z)", text, re.M | re.S)
        names = re.findall(r"^  ([a-z][a-z-]*)\b", listing.group(1), re.M) if listing else []
        return [name for name in names if name != "help"]

    @staticmethod
    def flags_of(text):
        found = re.findall(r"^\s+(-\w)?(?:, )?(--[a-z][a-z0-9-]*)?", text, re.M)
        return {flag for pair in found for flag in pair if flag}

    def problems(self, words):
        """What is wrong with `twotower WORDS…`."""
        command, known = "", self.flags[""]
        for word in words:
            if word in ("|", "||", "&&", ";", "&", ">", ">>", "2>&1", ")"):
                break
            flag = word.split("=")[0]
            if word == "--":
                break
            if re.fullmatch(r"--[a-z][\w-]*|-\w", flag):
                if flag not in known and command not in self.elsewhere:
                    yield f"`twotower {command}`".replace(" `", "`") + f" has no flag {flag}"
            elif not command and re.fullmatch(r"[a-z][a-z-]*", word):
                if word not in self.flags:
                    yield f"there is no command `twotower {word}`"
                    return
                command, known = word, self.flags[word]


def invocations(script, program="twotower(?:-admin)?"):
    """The arguments of each call of `program` in a piece of shell."""
    script = re.sub(r"\\\n\s*", " ", script)
    for line in script.split("\n"):
        line = re.sub(r"(?:^|\s)#.*", "", line)
        for match in re.finditer(rf"(?<![\w./-]){program}(?=\s|$)", line):
            rest = re.split(r"[;|&)]", line[match.end():])[0]
            try:
                yield shlex.split(rest)
            except ValueError:
                yield rest.split()


def check_mentions(path, program):
    for block in blocks(path):
        if block.language in ("bash", "sh", "cron", "ini") and block.mark != "planned":
            for words in invocations(block.text):
                for problem in program.problems(words):
                    yield f"{block.place}: {problem}"
    for number, line in prose_lines(path):
        for match in re.finditer(r"(?P<planned>planned \(|予定[((])?`(?P<span>[^`]+)`", line):
            span = match["span"]
            if span.startswith("twotower "):
                found = [problem for words in invocations(span) for problem in program.problems(words)]
            elif re.fullmatch(r"--[a-z][\w-]*", span) and path != OF_SCALE:
                found = [] if span in program.all_flags else [f"no command has a flag {span}"]
            else:
                continue
            if match["planned"]:
                found = [] if found else [f"`{span}` is called planned, and exists"]
            for problem in found:
                yield f"{path.relative_to(ROOT)}:{number}: {problem}"


def supabase_commands():
    """The commands of the pinned Supabase CLI by its --help, or None where it has not been fetched."""
    wrapper = ROOT / "scripts/supabase-cli"
    version = re.search(r"^version=(\S+)$", wrapper.read_text(encoding="utf-8"), re.M)[1]
    if not (ROOT / "target/tools/supabase" / version / "supabase").exists():
        return None
    text = subprocess.run([wrapper, "--help"], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    names = re.findall(r"^  ([a-z][a-z-]*)(?:, ([a-z][a-z-]*))? ", text.partition("\nSUBCOMMANDS\n")[2], re.M)
    commands = {name for pair in names for name in pair if name}
    if not {"db", "functions"} <= commands:
        sys.exit(f"check_docs: scripts/supabase-cli --help lists no commands:\n{text}")
    return commands


def check_supabase(path, commands):
    """Commands of the Supabase CLI, in shell and in code spans."""
    calls = [(block.place, block.text) for block in blocks(path) if block.language in ("bash", "sh")]
    for number, line in prose_lines(path):
        calls += [(f"{path.relative_to(ROOT)}:{number}", span) for span in re.findall(r"`(supabase [^`]+)`", line)]
    for place, text in calls:
        for words in invocations(text, "supabase"):
            if words and re.fullmatch(r"[a-z][a-z-]*", words[0]) and words[0] not in commands:
                yield f"{place}: there is no command `supabase {words[0]}`"


def check_deploy(program):
    """Commands, flags and variables in what is deployed."""
    documented = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    seen = 0
    for path, text in deploy_files.files(ROOT):
        place = path.relative_to(ROOT)
        for number, words in deploy_files.commands(path, text, invocations):
            seen += 1
            for problem in program.problems(words):
                yield f"{place}:{number}: {problem}"
        for number, name in deploy_files.variables(text):
            if not re.search(rf"\b{name}\b", documented):
                yield f"{place}:{number}: no document tells what {name} is"
    if not seen:
        yield "deploy/: no call of twotower was found there, which cannot be"


# Commands whose flags another one's section describes: they are one of its operations under a shorter name.
DESCRIBED_WITH = {"rollback": "models"}


def sections_of(reference):
    """Of each command in a heading `### name, name` what stands below it; `Every command` under the empty name."""
    found = {}
    commands = reference.partition("\n## Environment\n")[0]
    for heading, text in re.findall(r"^##+ (.+)\n((?:(?!^##).*\n?)*)", commands, re.M):
        for name in heading.split(", "):
            found["" if name == "Every command" else name] = text
    return found


def check_reference(program):
    """Each command has a section, and each of its flags stands there or among those of every command."""
    sections = sections_of((ROOT / "docs/configuration.md").read_text(encoding="utf-8"))
    for command, flags in sorted(program.flags.items()):
        if command not in sections:
            yield f"docs/configuration.md: `### {command}` is missing"
            continue
        places = {"", command, DESCRIBED_WITH.get(command, command)}
        text = "".join(sections[place] for place in places)
        for flag in sorted(flags - {"--help", "--version"}):
            if flag.startswith("--") and not re.search(rf"`[^`]*{flag}\b(?!-)", text):
                yield f"docs/configuration.md: {flag} is missing in the section of {command or 'every command'}"


def setting(text):
    """A value as the source or the reference writes it: a number, true or false, or a choice (`Choice::InSource`, `in_source`)."""
    text = text.strip(" `")
    choice = re.fullmatch(r"\w+::(\w+)", text)
    if choice:
        return re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=\d)(?=[A-Z])", "_", choice[1]).lower()
    try:
        return float(text.replace("_", ""))
    except ValueError:
        return text


def check_hyperparameters():
    """The table of hyperparameters against the defaults in the source."""
    pattern = re.compile(r"impl Default for Hyperparameters \{.*?Self \{\n(.*?)\n        \}", re.S)
    sources = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "crates/twotower-core/src").glob("*.rs"))]
    body = next(filter(None, map(pattern.search, sources)), None)
    if not body:
        yield "crates/twotower-core/src: no `impl Default for Hyperparameters` to compare the documentation with"
        return
    fields = re.findall(r"^ +(\w+): ([^\n]+),$", body.group(1), re.M)
    constants = dict(re.findall(r"^pub const (\w+): \w+ = (\w+);$", "\n".join(sources), re.M))
    actual = {}
    for name, text in fields:
        text = constants.get(text, text)
        text = re.sub(r"^vec!\[(.*)\]$", r"\1", text)
        shift = re.fullmatch(r"(\d+) << (\d+)", text)
        actual[name] = [float(int(shift[1]) << int(shift[2]))] if shift else [setting(part) for part in text.split(", ")]
    reference = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    section = re.search(r"^### hyperparameters\n(.*?)(?:^#|\Z)", reference, re.M | re.S).group(1)
    documented = {}
    for names, defaults in re.findall(r"^\| (`[^|]*`) \| ([^|]+) \|", section, re.M):
        names, defaults = re.findall(r"`(\w+)`", names), [setting(part) for part in defaults.split(", ")]
        documented.update({name: [default] for name, default in zip(names, defaults)} if len(names) > 1 else {names[0]: defaults})
    for name in sorted(actual.keys() | documented.keys()):
        if actual.get(name) != documented.get(name):
            yield f"docs/configuration.md: hyperparameter `{name}`: documented {documented.get(name)}, in the source {actual.get(name)}"


def skeleton(path):
    """What a translation must share with its original."""
    code = [
        (block.mark, block.language, re.sub(r"(?m)(?:^|\s+)(?:#|--|//) .*$\n?", "", block.text).split())
        for block in blocks(path)
    ]
    prose = "\n".join(line for _, line in prose_lines(path))
    headings = [len(level) for level in re.findall(r"^(#{1,6}) ", prose, re.M)]
    numbers = re.findall(r"^#{1,6} ((?:\d+\.)*\d+) ", prose, re.M)
    rows = len(re.findall(r"^\|", prose, re.M))
    tasks = len(re.findall(r"^- \[[ x]\]", prose, re.M))
    return {"code blocks": code, "heading levels": headings, "heading numbers": numbers, "table rows": rows, "check boxes": tasks}


def check_translation(path):
    original = path.with_name(path.name.replace(".ja.md", ".md"))
    ours, theirs = skeleton(original), skeleton(path)
    for part, expected in ours.items():
        actual = theirs[part]
        if actual == expected:
            continue
        detail = f"{expected} and {actual}"
        if isinstance(expected, list):
            pairs = enumerate(zip(expected, actual))
            detail = next((f"the {n + 1}th: {a} and {b}" for n, (a, b) in pairs if a != b), f"{len(expected)} and {len(actual)} of them")
        yield f"{original.relative_to(ROOT)} and {path.name} differ in {part}: {detail}"


def psql():
    found = os.environ.get("PSQL") or shutil.which("psql")
    if not found:
        # Where scripts/test-postgres keeps its server.
        caches = (path for path in (ROOT / "target").iterdir() if path.is_dir() and path.name not in ("debug", "release", "doc"))
        found = next((str(path) for cache in caches for path in cache.glob("**/bin/psql") if os.access(path, os.X_OK)), None)
    if not found:
        sys.exit("check_docs: no psql: install PostgreSQL's client or name one in PSQL")
    return found


def in_database(url, name):
    return re.sub(r"(//[^/]+/)[^?]*", rf"\g<1>{name}", url)


def new_database(url):
    name = f"docs_{os.getpid()}"
    subprocess.run([psql(), "--no-psqlrc", "--quiet", url, "-c", f"CREATE DATABASE {name}"], check=True)
    return name


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def script_of(path, folder):
    """One shell script of the runnable blocks of a file, and how many there are."""
    lines, count = ["set -euo pipefail"], 0
    port = free_port()
    for block in blocks(path):
        text = block.text.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        if block.mark.startswith("file:"):
            (folder / block.mark.removeprefix("file:").strip()).write_text(text, encoding="utf-8")
        elif block.mark == "run":
            count += 1
            shown = "".join(f"    {line}\n" for line in text.splitlines())
            lines.append(f"printf '%s\\n%s' {shlex.quote('==> ' + block.place)} {shlex.quote(shown)}")
            if block.language == "bash":
                lines.append(text)
            elif block.language == "sql":
                file = folder / f"block-{count}.sql"
                file.write_text(text, encoding="utf-8")
                lines.append(f'{shlex.quote(psql())} --no-psqlrc -v ON_ERROR_STOP=1 "$DATABASE_URL" -f {file.name}')
            else:
                sys.exit(f"check_docs: {block.place}: a block of `{block.language}` cannot be run")
    return "\n".join(lines) + "\n", count


def run_file(path, program, url):
    """Runs the marked blocks of a file; yields what went wrong."""
    name = path.relative_to(ROOT)
    with tempfile.TemporaryDirectory(prefix="check-docs-") as folder:
        folder = Path(folder)
        script, count = script_of(path, folder)
        if count == 0:
            return
        make_data(folder)
        bin_folder = folder / ".bin"
        bin_folder.mkdir()
        (bin_folder / "twotower").symlink_to(program.binary)
        # As in a checkout.
        (folder / "deploy").symlink_to(ROOT / "deploy")
        environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
        environment["PATH"] = f"{bin_folder}{os.pathsep}{environment['PATH']}"
        database = None
        if path.parent == ROOT / "docs":
            database = new_database(url)
            environment["DATABASE_URL"] = in_database(url, database)
        start = time.monotonic()
        # A session of its own, so that a server started in the background ends with it.
        process = subprocess.Popen(["bash", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            status = process.wait(timeout=LIMIT_S)
            if status != 0:
                yield f"{name}: the last block shown above ended with status {status}"
        except subprocess.TimeoutExpired:
            yield f"{name}: the blocks took more than {LIMIT_S} s"
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            if database:
                subprocess.run([psql(), "--no-psqlrc", "--quiet", url, "-c", f"DROP DATABASE {database} WITH (FORCE)"], check=False)
        print(f"==> {name}: {count} blocks in {time.monotonic() - start:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--database-url", default=next(filter(None, map(os.environ.get, DATABASE_VARIABLES)), None))
    parser.add_argument("--no-run", action="store_true", help="check the words, run nothing")
    arguments = parser.parse_args()
    program = Program(arguments.binary.resolve())
    docs = sorted((ROOT / "docs").glob("*.md"))
    files = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")] + docs

    problems = [problem for path in files for problem in check_mentions(path, program)]
    commands = supabase_commands()
    if commands is None:
        sys.exit("check_docs: the Supabase CLI, whose commands the documents name, is missing: run `scripts/supabase-cli --version`")
    problems += [problem for path in files for problem in check_supabase(path, commands)]
    problems += check_deploy(program)
    problems += check_reference(program)
    problems += check_hyperparameters()
    problems += [problem for path in docs if path.name.endswith(".ja.md") for problem in check_translation(path)]
    if not arguments.no_run:
        if not arguments.database_url:
            sys.exit("check_docs: no database: give --database-url, or run under scripts/test-postgres run")
        for path in files:
            if not path.name.endswith(".ja.md"):
                problems += run_file(path, program, arguments.database_url)
    for problem in problems:
        print(f"error: {problem}")
    print(f"check_docs: {len(files)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
