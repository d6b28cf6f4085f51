"""`queue`: what waits, in a running bridge and in its file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from kugel_bridge.cli import talk
from tests.broker import Mosquitto, free_port
from tests.cli.conftest import Command, Said
from tests.gateway_server import ScriptedEngine, hum, serving
from tests.house import Caller, as_toml, living, settings_for

Queue = Callable[..., Awaitable[Said]]


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mosquitto]:
    monkeypatch.setattr(talk, "PRESENCE_TIMEOUT_S", 0.5)
    with Mosquitto(tmp_path / "broker", persistence=True) as running:
        yield running


@pytest.fixture
def queue(command: Command, tmp_path: Path) -> Queue:
    async def run(*argv: str) -> Said:
        return await asyncio.to_thread(
            command, "--config", str(tmp_path / "queue.toml"), "queue", *argv
        )

    return run


def configured(tmp_path: Path, port: int, **sections: object) -> dict[str, object]:
    settings = settings_for(tmp_path, port, **sections)  # type: ignore[arg-type]
    (tmp_path / "queue.toml").write_text(as_toml(settings))
    return settings


async def waiting_in(caller: Caller, *ids: str) -> None:
    """Let a long one speak, and these wait behind it."""
    await caller.say({"text": "A long one", "id": "long"})
    await caller.event("started", "long")
    for name in ids:
        await caller.say({"text": f"This is {name}", "id": name})
        await caller.event("queued", name)


async def test_a_running_bridge_is_asked(broker: Mosquitto, queue: Queue, tmp_path: Path) -> None:
    async with (
        serving(ScriptedEngine([hum(20.0)])) as gateway,
        living(configured(tmp_path, broker.port, gateway=gateway.url)),
        Caller(broker.port) as caller,
    ):
        await waiting_in(caller, "a", "b")
        said = await queue("list")
        assert said.code == 0, said.err
        lines = [line.split(None, 4) for line in said.out.splitlines()]
        assert lines == [
            ["id", "zone", "priority", "state", "text"],
            ["long", "main", "normal", "speaking", "A long one"],
            ["a", "main", "normal", "waiting", "This is a"],
            ["b", "main", "normal", "waiting", "This is b"],
        ]
        rows = json.loads((await queue("list", "--json", "--limit", "1")).out)
        assert [row["id"] for row in rows] == ["long"]
        said = await queue("clear")
        assert (said.code, said.out) == (0, "2 announcements cleared\n")
        assert (await caller.event("skipped", "a"))["reason"] == "cleared"
        assert json.loads((await queue("clear", "--json")).out) == {"cleared": 0}


async def test_without_a_bridge_its_file_is_read_and_cleared(
    broker: Mosquitto, queue: Queue, tmp_path: Path
) -> None:
    async with (
        serving(ScriptedEngine([hum(20.0)])) as gateway,
        Caller(broker.port) as caller,
    ):
        settings = configured(tmp_path, broker.port, gateway=gateway.url)
        async with living(settings):
            await waiting_in(caller, "a")
        said = await queue("list")
        assert said.code == 0, said.err
        assert [line.split()[0] for line in said.out.splitlines()] == ["id", "long", "a"]
        said = await queue("clear")
        assert (said.code, said.out) == (0, "2 announcements cleared\n")
        assert (await queue("list")).out == "nothing waits\n"
        async with living(settings):
            assert (await queue("list")).out == "nothing waits\n"


async def test_a_bridge_that_cannot_be_asked_keeps_its_file(
    broker: Mosquitto, queue: Queue, tmp_path: Path
) -> None:
    async with (
        serving(ScriptedEngine([hum(20.0)])) as gateway,
        living(configured(tmp_path, broker.port, gateway=gateway.url)),
        Caller(broker.port) as caller,
    ):
        await waiting_in(caller, "a")
        configured(tmp_path, free_port())
        said = await queue("clear")
        assert (said.code, said.out) == (1, "")
        assert said.err.count("\n") == 1
        assert "another kugel-bridge uses" in said.err


async def test_nothing_at_all_is_fine(queue: Queue, tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    assert (await queue("list")).out == "nothing waits\n"
    assert json.loads((await queue("list", "--json")).out) == []
    assert (await queue("clear")).out == "0 announcements cleared\n"


async def test_a_file_that_is_none_is_told(queue: Queue, tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    (tmp_path / "queue.db").write_bytes(b"this is no database " * 500)
    said = await queue("list")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "queue.db" in said.err


@pytest.mark.parametrize("argv", [(), ("lst",), ("list", "--limit", "0"), ("list", "--limit", "x")])
def test_wrong_use_is_one_line_and_2(command: Command, argv: tuple[str, ...]) -> None:
    said = command("queue", *argv)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
