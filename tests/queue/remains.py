"""What a killed daemon leaves on disk."""

from __future__ import annotations

from pathlib import Path


def remains_of(path: Path) -> dict[Path, bytes]:
    """The queue file with its log, as it is while a store has it open."""
    return {one: one.read_bytes() for one in path.parent.glob(f"{path.name}*")}


def leave(remains: dict[Path, bytes]) -> None:
    """Put the files back as they were."""
    for path, data in remains.items():
        path.write_bytes(data)
