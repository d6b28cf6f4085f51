"""Another process's wall clock, set by libfaketime; its monotonic clock stays the machine's."""

from __future__ import annotations

from pathlib import Path

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


class WallClock:
    """A clock that a process sees instead of the machine's; give `environment` to it."""

    def __init__(self, file: Path, begins: str = "+0") -> None:
        """`begins` as for `set`."""
        self._file = file
        self.set(begins)

    def set(self, to: str) -> None:
        """To an offset as "+1d" or "-1d", or to a date as "@1970-01-01 00:00:10"."""
        draft = self._file.with_suffix(".new")
        draft.write_text(to + "\n")
        draft.replace(self._file)

    def environment(self) -> dict[str, str]:
        """The variables that libfaketime reads."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
