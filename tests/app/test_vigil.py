"""What makes the watchdog restart the bridge, and what does not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from kugel_bridge.app import vigil as vigil_module
from kugel_bridge.app.vigil import PATIENCE_LOOKS, Vigil


@dataclass
class Store:
    """A queue whose writer answers or not."""

    answers: bool = True

    async def alive(self) -> bool:
        return self.answers


@dataclass
class Talking:
    """A conductor that speaks; its player is as far as the test says."""

    is_audible: bool = True
    heard_s: float = 0.0
    name: str = "hall"
    zone: SimpleNamespace = field(init=False)

    def __post_init__(self) -> None:
        self.zone = SimpleNamespace(name=self.name, player=SimpleNamespace(last=self))


async def test_a_player_that_advances_is_well_however_long_it_speaks() -> None:
    talking = Talking()
    vigil = Vigil(Store(), [talking])
    for _ in range(PATIENCE_LOOKS * 3):
        talking.heard_s += 10
        await vigil.look()
    assert not vigil.trouble


async def test_a_player_that_stands_still_while_it_is_audible_hangs() -> None:
    talking = Talking(heard_s=2.0)
    vigil = Vigil(Store(), [talking])
    for _ in range(PATIENCE_LOOKS + 1):
        await vigil.look()
    assert "hall" in vigil.trouble
    talking.heard_s += 1
    await vigil.look()
    assert not vigil.trouble


async def test_an_idle_player_is_well() -> None:
    vigil = Vigil(Store(), [Talking(is_audible=False)])
    for _ in range(PATIENCE_LOOKS * 2):
        await vigil.look()
    assert not vigil.trouble


async def test_a_queue_writer_that_does_not_answer_hangs() -> None:
    store = Store(answers=False)
    vigil = Vigil(store, [])
    await vigil.look()
    assert "queue writer" in vigil.trouble
    store.answers = True
    await vigil.look()
    assert not vigil.trouble


async def test_a_writer_that_was_slow_once_is_well_before_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []

    class SlowOnce(Store):
        async def alive(self) -> bool:
            looks.append(vigil.trouble)
            if len(looks) == 3:
                watching.cancel()
            return len(looks) > 1

    monkeypatch.setattr(vigil_module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(vigil_module, "LOOK_AGAIN_S", 0.0)
    vigil = Vigil(SlowOnce(), [])
    watching = asyncio.ensure_future(vigil.run())
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert ["queue writer" in look for look in looks] == [False, True, False]
