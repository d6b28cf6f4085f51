"""Reads the configuration in a child process, while its parent loads the rest of the program."""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kugel_bridge.model.errors import ConfigurationError

if TYPE_CHECKING:  # what this module is there to avoid
    from kugel_bridge.settings.tree import Settings


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of it; both are plain values."""

    settings: Settings
    """Without pydantic behind it: see `plain.py`."""
    warnings: tuple[str, ...]
    """What works and is unwise, a line each."""


class Reader:
    """One reading under way. To be begun before there are threads: the child is a fork.

    `chosen` is the file to read, as for `load.load`.
    """

    def __init__(self, chosen: Path | None = None) -> None:
        self._chosen = chosen
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

        If the child met with an accident the configuration is read here: slower, but read.
        """
        with os.fdopen(self._pipe, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(self._child, 0)
        # Only what our own child has written is unpickled.
        answer = pickle.loads(told) if status == 0 and told else _read(self._chosen)  # noqa: S301
        if isinstance(answer, ConfigurationError):
            raise answer
        assert isinstance(answer, Reading)
        return answer


def _answer(pipe: int, chosen: Path | None) -> None:
    """The child's whole life."""
    try:
        with os.fdopen(pipe, "wb") as file:
            pickle.dump(_read(chosen), file)
    except BaseException:  # noqa: BLE001 - nothing may get back into the parent's code
        os._exit(1)
    os._exit(0)


def _read(chosen: Path | None) -> Reading | ConfigurationError:
    from kugel_bridge.settings.flat import flattened
    from kugel_bridge.settings.load import load

    try:
        configuration = load(chosen)
    except ConfigurationError as error:
        # Its text is all that a person is told.
        return ConfigurationError(str(error))
    return Reading(flattened(configuration.settings), configuration.warnings)
