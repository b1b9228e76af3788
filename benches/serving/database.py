"""A PostgreSQL of the bench's own, through scripts/test-postgres."""

import importlib.machinery
import importlib.util
import os
import pathlib
import signal
import time

from places import ROOT

# What is committed survives the death of the server, as in production; only the death of the machine is not planned for.
SETTINGS = {"synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "512MB"}


def load_script():
    path = str(ROOT / "scripts" / "test-postgres")
    loader = importlib.machinery.SourceFileLoader("test_postgres", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("test_postgres", loader))
    loader.exec_module(module)
    return module


class Database:
    def __init__(self, address, place):
        self.address, self.place = address, pathlib.Path(place)

    @classmethod
    def start(cls):
        return cls(*load_script().start(**SETTINGS))

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1].split("/")[0])

    @property
    def pid(self):
        return int((self.place / "data" / "postmaster.pid").read_text().split()[0])

    def alive(self):
        try:
            return pathlib.Path(f"/proc/{self.pid}").exists()
        except FileNotFoundError:
            return False

    def kill(self):
        """As the out-of-memory killer would."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        while pathlib.Path(f"/proc/{pid}").exists():
            time.sleep(0.02)

    def restart(self):
        script = load_script()
        # What the dead one has left behind keeps the next one out for a moment.
        while not script.start_on(self.place, self.port, SETTINGS):
            time.sleep(0.1)

    def stop(self):
        load_script().stop(self.place)
