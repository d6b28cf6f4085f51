from __future__ import annotations

import os
from pathlib import Path

import pytest

from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.owner import Owner, made_file, made_folder
from tests.speech.sounds import key, noise

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
UID, GID = 12_345, 23_456


def owners(folder: Path) -> set[tuple[int, int]]:
    return {(p.lstat().st_uid, p.lstat().st_gid) for p in [folder, *folder.rglob("*")]}


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder of another user."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    os.chown(folder, UID, GID)
    return folder


async def test_everything_made_in_another_users_folder_is_that_users(foreign: Path) -> None:
    cache = PhraseCache(foreign / "deep" / "cache", 10_000_000, keep_free_bytes=0)
    await cache.open()
    recording = cache.begin(key())
    assert recording is not None
    recording.add(noise(1))
    assert await recording.commit()
    names = {path.name for path in foreign.rglob("*")}
    assert {"cache.db", "cache.db-wal", "cache.db-shm"} <= names  # while it is in use, too
    assert owners(foreign) == {(UID, GID)}
    await cache.close()
    assert owners(foreign) == {(UID, GID)}


async def test_in_a_folder_of_its_own_nothing_is_given_away(tmp_path: Path) -> None:
    assert Owner.of(tmp_path) is None
    made_folder(tmp_path / "a" / "b")
    made_file(tmp_path / "a" / "b" / "c", None)
    assert owners(tmp_path) == {(0, 0)}


def test_what_is_there_is_left_alone(foreign: Path) -> None:
    victim = foreign.parent / "victim"
    victim.write_text("precious")
    (foreign / "link").symlink_to(victim)
    made_file(foreign / "link", Owner.of(foreign))
    assert (victim.read_text(), victim.stat().st_uid) == ("precious", 0)


def test_what_is_made_is_for_its_owner_only(foreign: Path) -> None:
    made_folder(foreign / "a")
    made_file(foreign / "a" / "b", Owner.of(foreign))
    modes = {path.stat().st_mode & 0o077 for path in (foreign / "a", foreign / "a" / "b")}
    assert modes == {0}
