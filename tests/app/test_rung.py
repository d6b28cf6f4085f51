"""The local engine is made when it is asked for, or beside everything else, and once."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator

import pytest

from kugel_bridge.app.rung import LocalRung
from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance

CHUNK = PcmChunk(PcmFormat(8000), bytes(20))
WORDS = Utterance(text="Hello", language="en")


class Engine:
    """Says the same to everything, or nothing."""

    kind = SourceKind.LOCAL

    def __init__(self, *, is_mute: bool = False) -> None:
        self._is_mute = is_mute

    async def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        if self._is_mute:
            raise ServiceUnavailableError("mute")
        yield CHUNK


async def test_it_is_made_at_the_first_words_and_only_then() -> None:
    made: list[Engine] = []

    def make() -> Engine:
        made.append(Engine())
        return made[-1]

    rung = LocalRung(make)
    assert (rung.kind, made) == (SourceKind.LOCAL, [])
    for _ in range(2):
        assert [chunk async for chunk in rung.stream(WORDS)] == [CHUNK]
    assert len(made) == 1


async def test_its_errors_are_the_engines() -> None:
    rung = LocalRung(lambda: Engine(is_mute=True))
    with pytest.raises(ServiceUnavailableError, match="mute"):
        _ = [chunk async for chunk in rung.stream(WORDS)]


async def test_words_that_come_while_it_is_being_loaded_wait_for_it() -> None:
    begun, may_end, made = threading.Event(), threading.Event(), list[Engine]()

    def make() -> Engine:
        begun.set()
        assert may_end.wait(10)
        made.append(Engine())
        return made[-1]

    rung = LocalRung(make)
    rung.load_aside()
    assert begun.wait(10)
    threading.Timer(0.01, may_end.set).start()
    assert [chunk async for chunk in rung.stream(WORDS)] == [CHUNK]
    assert len(made) == 1
