"""How quickly the daemon starts and how little it does when idle: figures, no assertions.

.venv/bin/python benchmarks/start.py [--runs 15] [--idle 30] [--set cloud.base_url=...]

Prints JSON. Needs Mosquitto and Linux's /proc; the broker is its own, on a free loopback port.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

PROGRAM = Path(sysconfig.get_path("scripts")) / "kugel-bridge"
ANNOUNCEMENTS = ("Dinner is ready", "The washing machine has finished", "Somebody is at the door")
SETTLE_S = 15.0
"""Time for the announcements above to be spoken (s)."""
TIMEOUT_S = 30.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, ended in order on leaving."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def broker(port: int) -> Iterator[None]:
    command = ["mosquitto", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with ended(subprocess.Popen(command, stdout=quiet, stderr=quiet, text=True)):
        give_up = time.monotonic() + TIMEOUT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if time.monotonic() > give_up:
                raise SystemExit("the broker does not start")
            time.sleep(0.02)
        yield


def started(config: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[str], float]:
    """A daemon that is ready, and how long that took (ms)."""
    began = time.perf_counter()
    command = [str(PROGRAM), "--config", str(config), "run"]
    # The log goes to a pipe that is read no further: an idle daemon says little.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.rstrip().endswith(" ready"):
            return process, (time.perf_counter() - began) * 1000
    raise SystemExit(f"the daemon ended:\n{''.join(said)}")


def tasks(process: subprocess.Popen[str]) -> Iterator[Path]:
    yield from Path(f"/proc/{process.pid}/task").iterdir()


def cpu_ms(process: subprocess.Popen[str]) -> float:
    """Processor time so far, of the threads that live (schedstat is in ns)."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks(process)) / 1e6


def wakeups(process: subprocess.Popen[str]) -> int:
    """How often its threads went to sleep so far."""
    return sum(int(field(task / "status", "voluntary_ctxt_switches")) for task in tasks(process))


def field(file: Path, name: str) -> str:
    lines = file.read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}:")).split()[1]


def announce(port: int) -> None:
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for text in ANNOUNCEMENTS:
        client.publish("kugel/bench/say", text, qos=1).wait_for_publish(TIMEOUT_S)
    client.disconnect()
    client.loop_stop()


def start_figures(config: Path, environment: dict[str, str], runs: int) -> dict[str, Any]:
    times, cpu = [], []
    for _ in range(runs):
        process, taken_ms = started(config, environment)
        with ended(process):
            times.append(taken_ms)
            cpu.append(cpu_ms(process))
    return {
        "runs": runs,
        "to_ready_ms": {"min": round(min(times)), "median": round(statistics.median(times))},
        "cpu_to_ready_ms": {"min": round(min(cpu)), "median": round(statistics.median(cpu))},
    }


def idle_figures(config: Path, environment: dict[str, str], port: int, idle_s: float) -> Any:
    process, _ = started(config, environment)
    with ended(process):
        announce(port)
        time.sleep(SETTLE_S)
        slept, used, began = wakeups(process), cpu_ms(process), time.monotonic()
        time.sleep(idle_s)
        seconds = time.monotonic() - began
        status = Path(f"/proc/{process.pid}/status")
        return {
            "seconds": round(seconds),
            "rss_mb": round(int(field(status, "VmRSS")) / 1024, 1),
            "rss_private_mb": round(int(field(status, "RssAnon")) / 1024, 1),
            "threads": len(list(tasks(process))),
            "wakeups_per_s": round((wakeups(process) - slept) / seconds, 2),
            "cpu_ms_per_s": round((cpu_ms(process) - used) / seconds, 3),
        }


def python_floor(environment: dict[str, str], runs: int) -> dict[str, Any]:
    """What an interpreter that does nothing costs."""
    program = "print(open('/proc/self/status').read())"
    times, cpu, memory = [], [], ""
    for _ in range(runs):
        began = time.perf_counter()
        command = [sys.executable, "-c", program]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        memory = process.stdout.read().partition("VmRSS:")[2].split()[0]
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
        times.append((time.perf_counter() - began) * 1000)
        cpu.append((used.ru_utime + used.ru_stime) * 1000)
    return {
        "min_ms": round(min(times)),
        "cpu_min_ms": round(min(cpu)),
        "rss_mb": round(int(memory) / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="starts to measure")
    parser.add_argument("--idle", type=float, default=30, help="how long to watch it idle (s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    chosen = parser.parse_args()
    # Ctrl-C must end what was started, and SIGTERM as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as name, broker(port := free_port()):
        folder = Path(name)
        config = folder / "config.toml"
        config.write_text(
            f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n'
            f'[device]\nid = "bench"\n[zones.main]\nsink = "null:"\n'
            f'[cache]\ndir = "{folder}/cache"\n[queue]\npath = "{folder}/queue.db"\n'
        )
        # An installed package has its bytecode; here it is made by the first, uncounted start.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"
        for setting in chosen.set:
            key, _, value = setting.partition("=")
            environment[f"KUGEL_BRIDGE_{key.replace('.', '__')}".upper()] = value
        start_figures(config, environment, 1)
        figures = {
            "python_alone": python_floor(environment, chosen.runs),
            "start": start_figures(config, environment, chosen.runs),
            "idle": idle_figures(config, environment, port, chosen.idle),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
