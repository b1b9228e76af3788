"""Servers as processes: started on a core of their own, and what the kernel says of them."""

import contextlib
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 900


def stat(pid):
    """The fields of /proc/PID/stat after the name: state is field 0."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid):
    """User and system time of all threads of a process."""
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def children(pid):
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int(stat(entry.name)[1]) == pid:
                    yield int(entry.name)


def family_cpu_seconds(pid):
    """Of a process, its living children, and those that it has outlived."""
    fields = stat(pid)
    total = sum(int(field) for field in fields[11:15]) / TICKS
    for child in children(pid):
        with contextlib.suppress(OSError):
            total += cpu_seconds(child)
    return total


def resident_mb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def open_files(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


def share_priority(pid):
    """Gives a process the priority of this one; where the kernel weighs sessions against each other, its session, too."""
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, pid, priority)
    with contextlib.suppress(FileNotFoundError, PermissionError):
        pathlib.Path(f"/proc/{pid}/autogroup").write_text(str(priority))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def on_core(core, command):
    return command if core is None else ["taskset", "--cpu-list", str(core), *map(str, command)]


class Server:
    """A server under measurement."""

    def __init__(self, name, process, port, log, metrics_port=None):
        self.name, self.process, self.port, self.log, self.metrics_port = name, process, port, log, metrics_port

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended while starting; its log is {self.log}")
            with contextlib.suppress(OSError, urllib.error.HTTPError):
                with urllib.request.urlopen(f"http://{self.address}/readyz", timeout=2):
                    return
            time.sleep(0.1)
        raise SystemExit(f"{self.name} is not ready after {START_SECONDS} s; its log is {self.log}")

    def metrics(self):
        """Name and labels of each sample of Prometheus' text format → value."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}


@contextlib.contextmanager
def serving(name, command, log, *, core, environment, metrics_port=None, port, folder):
    """Runs a server until the end of the block."""
    with open(log, "w") as output:
        process = subprocess.Popen(
            on_core(core, command), cwd=folder, env={**os.environ, **environment},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )
    server = Server(name, process, port, log, metrics_port)
    try:
        server.wait_until_ready()
        yield server
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
