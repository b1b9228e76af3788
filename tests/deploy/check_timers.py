"""Every place that says when jobs run says the same: the defaults in the source, the timers, and the configuration beside each of them."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
JOBS = ["update", "retrain", "maintain", "backup"]


def calendar(cron):
    """A cron expression of our kind (minute, hour, day of the week) as systemd writes it."""
    minute, hour, day, month, weekday = cron.split()
    if (day, month) != ("*", "*"):
        raise ValueError(f"{cron}: days of the month have no timer here")
    name = "" if weekday == "*" else f"{DAYS[int(weekday)]} "
    return f"{name}*-*-* {int(hour):02}:{int(minute):02}:00 UTC"


def defaults():
    source = (ROOT / "crates/twotower/src/config/run.rs").read_text(encoding="utf-8")
    body = re.search(r"impl Default for Schedule \{.*?Self \{\n(.*?)\n        \}", source, re.S)[1]
    return {job: re.search(rf'^ +{job}: "([^"]+)"', body, re.M)[1] for job in JOBS}


def problems():
    expected = defaults()
    for job in JOBS:
        timer = (ROOT / f"deploy/systemd/twotower-{job}.timer").read_text(encoding="utf-8")
        found = re.search(r"^OnCalendar=(.*)$", timer, re.M)[1]
        if found != calendar(expected[job]):
            yield f"deploy/systemd/twotower-{job}.timer: {found}, by default it is {calendar(expected[job])}"
    for name in ("systemd", "container", "kubernetes"):
        text = (ROOT / f"deploy/{name}/twotower.toml").read_text(encoding="utf-8")
        for job in JOBS:
            found = re.search(rf'^{job} = "([^"]*)"', text, re.M)
            if not found or found[1] != expected[job]:
                yield f"deploy/{name}/twotower.toml: {job} is not {expected[job]}"


found = list(problems())
for problem in found:
    print(f"error: {problem}")
sys.exit(1 if found else 0)
