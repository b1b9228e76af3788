"""Every place that says when jobs run, and for how long, fits the defaults in the source: timers, units, crontabs, and the configuration beside them."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
JOBS = ["update", "retrain", "maintain", "backup"]
# A line of cron: the five fields, the user in a file of /etc/cron.d, and a script.
CRON_LINE = re.compile(r"^(\S+(?: \S+){4}) +(?:twotower +)?/\S+/(run_batch_update\.sh|full_retrain\.sh|job\.sh \w+) >>", re.M)
SCRIPTS = {"run_batch_update.sh": "update", "full_retrain.sh": "retrain"}


def calendar(cron):
    """A cron expression of our kind (minute, hour, day of the week) as systemd writes it."""
    minute, hour, day, month, weekday = cron.split()
    if (day, month) != ("*", "*"):
        raise ValueError(f"{cron}: days of the month have no timer here")
    name = "" if weekday == "*" else f"{DAYS[int(weekday)]} "
    return f"{name}*-*-* {int(hour):02}:{int(minute):02}:00 UTC"


def defaults(section):
    """The fields of a section of the configuration, by name, as the source writes them."""
    source = (ROOT / "crates/twotower/src/config/run.rs").read_text(encoding="utf-8")
    body = re.search(rf"impl Default for {section} \{{.*?Self \{{\n(.*?)\n        \}}", source, re.S)[1]
    return dict(re.findall(r'^ +(\w+): "?([^",\n]+)', body, re.M))


def minutes(span):
    number, unit = re.fullmatch(r"(\d+)(min|h)", span).groups()
    return int(number) * (60 if unit == "h" else 1)


def problems():
    expected, limits = defaults("Schedule"), defaults("Run")
    for job in JOBS:
        service = (ROOT / f"deploy/systemd/twotower-{job}.service").read_text(encoding="utf-8")
        patience = minutes(re.search(r"^TimeoutStartSec=(.*)$", service, re.M)[1])
        if patience <= int(limits[f"{job}_minutes"]):
            yield f"deploy/systemd/twotower-{job}.service: systemd ends it after {patience} min, before {limits[f'{job}_minutes']} min of [run] are over"
        timer = (ROOT / f"deploy/systemd/twotower-{job}.timer").read_text(encoding="utf-8")
        found = re.search(r"^OnCalendar=(.*)$", timer, re.M)[1]
        if found != calendar(expected[job]):
            yield f"deploy/systemd/twotower-{job}.timer: {found}, by default it is {calendar(expected[job])}"
    for name in ("systemd/twotower.toml", "container/twotower.toml", "container/compose.toml", "kubernetes/twotower.toml"):
        text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
        for job in JOBS:
            found = re.search(rf'^{job} = "([^"]*)"', text, re.M)
            if not found or found[1] != expected[job]:
                yield f"deploy/{name}: {job} is not {expected[job]}"
    # One that is left out counts as missed from the second day on.
    for name in ("deploy/cron/crontab", "docs/deployment.md", "docs/deployment.ja.md"):
        lines = CRON_LINE.findall((ROOT / name).read_text(encoding="utf-8"))
        when = {SCRIPTS.get(script, script.removeprefix("job.sh ")): fields for fields, script in lines}
        for job in JOBS:
            if when.get(job) != expected[job]:
                yield f"{name}: {job} is at {when.get(job)}, by default it is {expected[job]}"


found = list(problems())
for problem in found:
    print(f"error: {problem}")
sys.exit(1 if found else 0)
