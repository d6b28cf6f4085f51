"""Reading phrase files leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kugel_bridge.speech.entry import HEADER_BYTES
from kugel_bridge.speech.folder import PhraseFolder

LONG_AGO_S = 1.0
NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> PhraseFolder:
    folder = PhraseFolder(tmp_path / "phrases")
    folder.open()
    return folder


def stored(folder: PhraseFolder) -> str:
    name = folder.new_name("ab" * 32)
    folder.store(name, bytes(HEADER_BYTES + 10))
    return name


def test_reading_is_not_noted_on_the_disk(folder: PhraseFolder, tmp_path: Path) -> None:
    name = stored(folder)
    file = tmp_path / "phrases" / name
    # Older than the file itself: then the usual "relatime" notes a reading too.
    os.utime(file, (LONG_AGO_S, file.stat().st_mtime))
    assert len(folder.read(name)) == HEADER_BYTES + 10
    assert file.stat().st_atime == LONG_AGO_S


def test_a_file_of_somebody_else_is_read_all_the_same(folder: PhraseFolder, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming somebody else needs root")
    name = stored(folder)
    (tmp_path / "phrases").chmod(0o755)
    (tmp_path / "phrases" / name).chmod(0o644)
    os.seteuid(NOBODY)
    try:
        assert len(folder.read(name)) == HEADER_BYTES + 10
    finally:
        os.seteuid(0)
