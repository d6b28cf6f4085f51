"""How quickly the daemon starts, what its imports cost, and how little it does when idle.

    .venv/bin/python -m benchmarks.start [RUNS] [IDLE_S]

From the start of the process to the line "ready" in its log, then idle after three announcements.
The broker is its own, on a free loopback port; the sink is silent, there is no cloud.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.figures import Figures, printed, times
from benchmarks.process import Process
from tests.broker import Mosquitto
from tests.house import SAY, as_toml, settings_for

PROGRAM = Path(sysconfig.get_path("scripts")) / "kugel-bridge"
ANNOUNCEMENTS = ("Dinner is ready", "The washing machine has finished", "Somebody is at the door")
SETTLE_S = 15.0
"""Time for the announcements above to be spoken, and for what follows them (s)."""
TIMEOUT_S = 30.0
IMPORT_RUNS = 4
MOST_IMPORTS = 12
"""Packages that are named; the others are told together."""
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


class Start:
    """A daemon that is ready, ended in order on leaving."""

    def __init__(
        self, config: Path, environment: dict[str, str], command: Sequence[str] = (str(PROGRAM),)
    ) -> None:
        began_s = time.perf_counter()
        # The log goes to a pipe that is read no further: an idle daemon says little.
        self._process = subprocess.Popen(
            [*command, "--config", str(config), "run"],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self.said: list[str] = []
        patience = threading.Timer(TIMEOUT_S, self._kill)
        patience.start()
        try:
            for line in self._process.stderr:
                self.said.append(line)
                if line.rstrip().endswith(" ready"):
                    break
            else:
                self.end()
                last = "".join(self.said[-5:]).strip()
                raise SystemExit(f"the daemon is not ready, its log ends: {last}")
        finally:
            patience.cancel()
        self.taken_ms = (time.perf_counter() - began_s) * 1000
        self.process = Process(self._process.pid)
        self.cpu_ms = self.process.cpu_ms

    def _kill(self) -> None:
        # With the child that reads the settings, which has the same log.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Stop it."""
        self._process.terminate()
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


@contextlib.contextmanager
def started(
    config: Path, environment: dict[str, str], command: Sequence[str] = (str(PROGRAM),)
) -> Iterator[Start]:
    """A daemon, from ready to the end of the block."""
    start = Start(config, environment, command)
    try:
        yield start
    finally:
        start.end()


def _announce(port: int) -> None:
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for text in ANNOUNCEMENTS:
        client.publish(SAY, text, qos=1).wait_for_publish(TIMEOUT_S)
    client.disconnect()
    client.loop_stop()


def start_figures(config: Path, environment: dict[str, str], runs: int) -> Figures:
    """Process start to ready, on the clock and in processor time of the daemon's own process."""
    taken_ms, cpu_ms = [], []
    for _ in range(runs):
        with started(config, environment) as start:
            taken_ms.append(start.taken_ms)
            cpu_ms.append(start.cpu_ms)
    return {"to_ready": times("to ready", taken_ms), "cpu_to_ready": times("processor", cpu_ms)}


def idle_figures(
    config: Path, environment: dict[str, str], port: int, idle_s: float
) -> dict[str, float]:
    """After some announcements."""
    with started(config, environment) as start:
        process = start.process
        _announce(port)
        time.sleep(SETTLE_S)
        slept, used_ms, began_s = process.sleeps, process.cpu_ms, time.monotonic()
        time.sleep(idle_s)
        seconds = time.monotonic() - began_s
        return {
            "seconds": round(seconds),
            "rss_mb": round(process.memory_mb(), 1),
            "rss_private_mb": round(process.memory_mb("RssAnon"), 1),
            "threads": process.threads,
            "wakeups_per_s": round((process.sleeps - slept) / seconds, 2),
            "cpu_ms_per_s": round((process.cpu_ms - used_ms) / seconds, 3),
        }


def python_floor(environment: dict[str, str], runs: int) -> Figures:
    """What an interpreter that does nothing costs."""
    program = "print(open('/proc/self/status').read())"
    taken_ms, memory = [], ""
    for _ in range(runs):
        began_s = time.perf_counter()
        command = [sys.executable, "-c", program]
        memory = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=True
        ).stdout
        taken_ms.append((time.perf_counter() - began_s) * 1000)
    rss_kb = int(memory.partition("VmRSS:")[2].split()[0])
    return {"to_end": times("python alone", taken_ms), "rss_mb": round(rss_kb * 1024 / 1e6, 1)}


def import_costs(config: Path, environment: dict[str, str]) -> dict[str, float]:
    """Own time of each package's modules (ms), the least of some runs; the flag adds some.

    The settings are read by a child beside the daemon: what it loads is in it as well.
    """
    command = (sys.executable, "-X", "importtime", "-m", "kugel_bridge")
    least: dict[str, float] = {}
    for _ in range(IMPORT_RUNS):
        with started(config, environment, command) as start:
            said = start.said
        spent: collections.Counter[str] = collections.Counter()
        for found in filter(None, map(_IMPORT.match, said)):
            spent[_package(found[2])] += int(found[1])
        for package, spent_us in spent.items():
            least[package] = min(least.get(package, spent_us), spent_us)
    ordered = sorted(least.items(), key=lambda each: -each[1])
    named = {name: round(us / 1000, 1) for name, us in ordered[:MOST_IMPORTS]}
    return named | {"all others": round(sum(us for _, us in ordered[MOST_IMPORTS:]) / 1000, 1)}


def _package(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] == "kugel_bridge" else 1])


def figures(runs: int = 15, idle_s: int = 60) -> Figures:
    """Starts, imports, idling, and Python alone."""
    with tempfile.TemporaryDirectory() as name, Mosquitto(Path(name) / "broker") as broker:
        folder = Path(name)
        config = folder / "config.toml"
        config.write_text(as_toml(settings_for(folder, broker.port)))
        # An installed package has its bytecode; here it is made by the first, uncounted start.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"
        start_figures(config, environment, 1)
        return {
            "python_alone": python_floor(environment, runs),
            **start_figures(config, environment, runs),
            "imports_ms": import_costs(config, environment),
            "idle": idle_figures(config, environment, broker.port, idle_s),
        }


if __name__ == "__main__":
    printed(figures)
