"""Runs the benchmarks, each in a process of its own: `scripts/bench [--quick] [NAME …]`."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.machine import machine
from benchmarks.plot import draw
from benchmarks.report import (
    PICTURE,
    caption,
    circumstances,
    contestants,
    replaced,
    section,
    tables,
)
from benchmarks.suite import SUITE, Benchmark

HERE = Path(__file__).parent
RESULTS, README = HERE / "results.json", HERE / "README.md"
LIMIT_S, QUICK_LIMIT_S = 900.0, 180.0
"""Several times what the longest of them takes: one that hangs must not hide the others."""
FAREWELL_S = 20.0
"""For one that is told to end, to end what it started."""


def run(each: Benchmark, arguments: Sequence[int], limit_s: float) -> Figures:
    """Its figures, or why there are none; with how long it took."""
    began_s = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{each.name}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, complaints = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        found: Figures = {"broken": f"not done after {limit_s:.0f} s"}
    else:
        found = _read(process.returncode, said, complaints)
    finally:
        _end(process)
    seconds = round(time.monotonic() - began_s)
    return {"arguments": list(arguments), "seconds": seconds, **found}


def _read(code: int, said: str, complaints: str) -> Figures:
    if code == 0:
        try:
            return {"figures": json.loads(said)}
        except ValueError:
            return {"broken": "it printed something else than its figures"}
    last = (complaints.strip() or f"it ended with {code}").splitlines()[-1]
    # A path says where this clone lies, which is of no use to readers of the table.
    return {"broken": last.replace(str(HERE.parent), ".").replace("|", "/")[:200]}


def _end(process: subprocess.Popen[str]) -> None:
    """End it and what it started; as Ctrl-C does first, so that it can clean up."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=FAREWELL_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def write(results: Figures) -> None:
    """The results, the picture and the README's part."""
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    if field := contestants(results):
        draw(field, HERE / PICTURE, caption(results))
    README.write_text(replaced(README.read_text(), section(results, SUITE)))


def main() -> None:
    """Run what was asked for, print the tables; a run of all of them is written down as well."""
    names = [each.name for each in SUITE]
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures kugel-bridge. All of them together also write benchmarks/"
        "results.json, the picture, and the figures in benchmarks/README.md.",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, about three minutes")
    parser.add_argument("name", nargs="*", help=f"only these: {', '.join(names)}")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.name) - set(names)):
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(names)}")
    # What was started is ended on SIGTERM just as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results: Figures = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "quick": chosen.quick,
        "machine": machine(),
        "benchmarks": {},
    }
    for each in SUITE:
        if not chosen.name or each.name in chosen.name:
            print(f"{each.name} …", end=" ", file=sys.stderr, flush=True)
            arguments = each.quick if chosen.quick else each.full
            outcome = run(each, arguments, QUICK_LIMIT_S if chosen.quick else LIMIT_S)
            print(outcome.get("broken", f"{outcome['seconds']} s"), file=sys.stderr)
            results["benchmarks"][each.name] = outcome
    print(f"{circumstances(results)}\n\n{tables(results, SUITE)}")
    if not chosen.name:
        write(results)


if __name__ == "__main__":
    main()
