"""What a bridge has on its disk, seen from outside."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from kugel_bridge.model.errors import StorageError
from kugel_bridge.queue.stored import stored_entries
from tests.house import eventually


def phrases_in(folder: Path) -> list[Path]:
    """The files of its cache that hold a phrase."""
    return [file for file in (folder / "cache" / "phrases").glob("*.pcm") if file.is_file()]


async def until_cached(folder: Path, count: int) -> None:
    """Return when so many phrases are in the index of its cache."""

    def are_there() -> bool:
        try:
            index = sqlite3.connect(f"file:{folder / 'cache' / 'cache.db'}?mode=ro", uri=True)
        except sqlite3.Error:  # it is not there yet
            return False
        try:
            rows = index.execute("SELECT count(*) FROM Cache WHERE filename IS NOT NULL")
            return bool(rows.fetchone()[0] >= count)
        except sqlite3.Error:
            return False
        finally:
            index.close()

    await eventually(are_there)


async def until_stored(folder: Path, announcement_id: str) -> None:
    """Return when its queue has a row for the announcement."""
    await eventually(lambda: announcement_id in _stored(folder))


async def until_not_stored(folder: Path, announcement_id: str) -> None:
    """Return when its queue has no row for the announcement any more."""
    await eventually(lambda: announcement_id not in _stored(folder))


def _stored(folder: Path) -> set[str]:
    try:
        entries = stored_entries(folder / "queue.db")
    except StorageError:  # it has no tables yet
        return set()
    return {entry.announcement.id for entry in entries}
