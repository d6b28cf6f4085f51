"""The command line as a person uses it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kugel_bridge.cli.main import main
from tests.audio.conftest import card, simcard_library

__all__ = ["card", "simcard_library"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing of the machine's own configuration reaches the test."""
    for name in list(os.environ):
        if name.startswith(("KUGEL", "CREDENTIALS_DIRECTORY")):
            monkeypatch.delenv(name)
    empty = tmp_path / "empty.toml"
    empty.touch()
    monkeypatch.setenv("KUGEL_BRIDGE_CONFIG", str(empty))
    yield


@pytest.fixture(autouse=True)
def clean_log() -> Iterator[None]:
    """A command sets up the log of its process; the next test has another standard error."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line inside this process."""

    def run(*argv: str) -> Said:
        capsys.readouterr()
        code = main(argv)
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    return run


@pytest.fixture
def process() -> Command:
    """Runs a command line as a process of its own."""

    def run(*argv: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "kugel_bridge", *argv],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run
