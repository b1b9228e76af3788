"""Tables as Markdown, for docs/performance.md as much as for a terminal."""

import os
import pathlib
import platform


def show(title, columns, rows):
    rows = [[str(cell) for cell in row] for row in rows]
    print(f"\n{title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    names = {line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")}
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"{', '.join(sorted(names))}; {os.cpu_count()} cores; Linux {platform.release()}; load average {load}"
