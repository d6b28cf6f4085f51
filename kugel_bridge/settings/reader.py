"""Reads the configuration in a child process, while its parent loads the rest of the program.

What is imported inside of functions is not needed before the two have parted.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kugel_bridge.model.errors import ConfigurationError

if TYPE_CHECKING:  # what this module is there to avoid
    from kugel_bridge.settings.tree import Settings

PATIENCE_S = 20.0
"""For the child: many times what it takes; the systemd unit allows a start 60 s."""
_CHUNK_BYTES = 65_536
_THREADS = Path("/proc/self/task")


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of it; both are plain values."""

    settings: Settings
    """Without pydantic behind it: see `plain.py`."""
    warnings: tuple[str, ...]
    """What works and is unwise, a line each."""


class Reader:
    """One reading under way. To be begun as early as possible, and before there are threads.

    `chosen` is the file to read, as for `load.load`. The child is a fork: a lock that another
    thread holds would stay locked in it for ever, so with threads there is no child, and
    `result` reads by itself.
    """

    def __init__(self, chosen: Path | None = None) -> None:
        self._chosen = chosen
        self._child = 0
        if not _is_alone():
            return
        ours, theirs = os.pipe()
        # What waits to be written would be written by both.
        sys.stdout.flush()
        sys.stderr.flush()
        self._child = os.fork()
        if not self._child:
            os.close(ours)
            _answer(theirs, chosen)
        os.close(theirs)
        self._pipe = ours

    def result(self) -> Reading:
        """Wait for it; raises ConfigurationError like `load.load`.

        If the child met with an accident, or hangs, the configuration is read here: slower, but
        read.
        """
        answer = self._told() if self._child else None
        if answer is None:
            answer = _read(self._chosen)
        if isinstance(answer, ConfigurationError):
            raise answer
        return answer

    def _told(self) -> Reading | ConfigurationError | None:
        """What the child says; None if it says nothing that can be used."""
        import pickle
        import signal

        try:
            told = _all_of(self._pipe, PATIENCE_S)
        finally:
            os.close(self._pipe)
        if told is None:
            os.kill(self._child, signal.SIGKILL)
        _, status = os.waitpid(self._child, 0)
        # Only what our own child has written is unpickled.
        answer = pickle.loads(told) if status == 0 and told else None  # noqa: S301
        assert answer is None or isinstance(answer, Reading | ConfigurationError)
        return answer


def _is_alone() -> bool:
    """Whether no other thread runs, one of a library in C included."""
    try:
        return sum(1 for _ in _THREADS.iterdir()) == 1
    except OSError:  # no /proc: be careful
        return False


def _all_of(pipe: int, patience_s: float) -> bytes | None:
    """What comes until the other end is closed; None if it is not closed in time."""
    import select

    end_s = time.monotonic() + patience_s
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    parts: list[bytes] = []
    while poll.poll(max(0.0, end_s - time.monotonic()) * 1000):
        part = os.read(pipe, _CHUNK_BYTES)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None


def _answer(pipe: int, chosen: Path | None) -> NoReturn:
    """The child's whole life."""
    try:
        _lighten()
        answer = _read(chosen)
        import pickle

        with os.fdopen(pipe, "wb") as file:
            pickle.dump(answer, file)
    except BaseException:  # noqa: BLE001 - nothing may get back into the parent's code
        os._exit(1)
    os._exit(0)


def _lighten() -> None:
    """Leave out what the child has no use for: a third of what it would load."""
    import gc

    from kugel_bridge.ops.postponed import postpone

    gc.disable()
    # Nothing may hook into how settings are checked, so nobody needs to look for such packages.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    postpone("importlib.metadata", functions=["entry_points"])
    # Of what pydantic-settings offers we use neither commands nor files of its own.
    postpone("asyncio")
    postpone("tempfile")
    postpone("dotenv", functions=["dotenv_values"])
    postpone("secrets")


def _read(chosen: Path | None) -> Reading | ConfigurationError:
    from kugel_bridge.settings.flat import flattened
    from kugel_bridge.settings.load import load

    try:
        configuration = load(chosen)
    except ConfigurationError as error:
        # Its text is all that a person is told.
        return ConfigurationError(str(error))
    return Reading(flattened(configuration.settings), configuration.warnings)
