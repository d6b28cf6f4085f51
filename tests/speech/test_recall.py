"""Phrases in memory: counted only while their file is what was read, and bounded."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.pcm import SPEECH_FORMAT
from kugel_bridge.speech.entry import CachedPhrase
from kugel_bridge.speech.folder import PhraseFolder
from kugel_bridge.speech.recall import LARGEST_PART, Recall

ROOM = 4_000


class Shelf:
    """A recall over a real folder."""

    def __init__(self, path: Path, room: int = ROOM) -> None:
        self.path = path
        self.folder = PhraseFolder(path)
        self.folder.open()
        self.recall = Recall(self.folder, room)

    def keep(self, digit: str, size: int = 1_000) -> tuple[str, CachedPhrase]:
        """A phrase file of that digest, read and remembered."""
        digest = digit * 64
        name = self.folder.new_name(digest)
        data = random.Random(digit).randbytes(size)
        (self.path / name).write_bytes(data)
        phrase = CachedPhrase(digest, SPEECH_FORMAT, memoryview(data), "{}")
        self.recall.keep(name, phrase)
        return name, phrase

    def knows(self, digit: str) -> bool:
        return self.recall.get(digit * 64) is not None


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    shelf.folder.close()


def test_what_was_read_is_given_without_the_disk(shelf: Shelf) -> None:
    _, phrase = shelf.keep("a")
    assert shelf.recall.get("a" * 64) is phrase
    assert not shelf.knows("b")


@pytest.mark.parametrize("change", ["removed", "longer", "touched", "replaced"])
def test_a_file_that_is_not_what_was_read_does_not_count(shelf: Shelf, change: str) -> None:
    name, _ = shelf.keep("a")
    path = shelf.path / name
    if change == "removed":
        path.unlink()
    elif change == "longer":
        path.write_bytes(path.read_bytes() + b"x")
    elif change == "touched":
        os.utime(path, ns=(1, 1))
    else:
        other = shelf.path / "other"
        other.write_bytes(path.read_bytes())
        other.rename(path)
    assert not shelf.knows("a")
    shelf.keep("a")
    assert shelf.knows("a")


def test_a_file_that_is_gone_already_is_not_remembered(shelf: Shelf) -> None:
    _, phrase = shelf.keep("a")
    shelf.recall.keep(shelf.folder.new_name("a" * 64), phrase)
    assert shelf.knows("a")  # as it was


def test_what_was_asked_for_last_stays(shelf: Shelf) -> None:
    for digit in "abcd":
        shelf.keep(digit)
    assert shelf.knows("a")
    shelf.keep("e")
    assert [shelf.knows(digit) for digit in "abcde"] == [True, False, True, True, True]


def test_one_long_text_does_not_push_out_the_rest(shelf: Shelf) -> None:
    shelf.keep("a")
    shelf.keep("b", ROOM // LARGEST_PART + 1)
    assert (shelf.knows("a"), shelf.knows("b")) == (True, False)


def test_without_room_nothing_is_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, room=0)
    shelf.keep("a")
    assert not shelf.knows("a")
    shelf.folder.close()


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, ROOM // 2), st.booleans())))
def test_it_never_holds_more_than_its_room(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]
) -> None:
    shelf = Shelf(tmp_path_factory.mktemp("phrases"))
    held: dict[str, int] = {}
    for digit, size, remove in steps:
        name, phrase = shelf.keep(digit, size)
        if remove:
            (shelf.path / name).unlink()
        kept = shelf.recall.get(phrase.digest)
        assert kept is None or len(kept.pcm) == size or size * LARGEST_PART > ROOM
        held = {d: len(k.phrase.pcm) for d, k in shelf.recall._kept.items()}
        assert sum(held.values()) == shelf.recall._bytes <= ROOM
    shelf.folder.close()
