"""A whole house for tests: a real broker, the gateway in the cloud's place, and the bridge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from paho.mqtt.client import MQTTMessage

from kugel_bridge.app.bridge import Bridge
from kugel_bridge.gateway.engine import Engine
from kugel_bridge.settings.tree import Settings
from tests.broker import Peer
from tests.gateway_server import serving

WAIT_S = 30.0
"""Bound on everything that tests wait for; only a hang gets there."""
OUTCOMES = {"finished", "failed", "expired", "skipped", "replaced", "rejected"}
DEVICE = "hall"
ROOT = f"kugel/{DEVICE}"
SAY = f"{ROOT}/say"
CLIENT_ID = f"kugel-bridge-{DEVICE}"


def settings_for(
    directory: Path, port: int, *, gateway: str | None = None, **sections: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings of a bridge that keeps its files in `directory`; `sections` win."""
    found: dict[str, dict[str, Any]] = {
        "device": {"id": DEVICE},
        "mqtt": {"host": "127.0.0.1", "port": port},
        "cache": {"dir": str(directory / "cache"), "max_mb": 16},
        "queue": {"path": str(directory / "queue.db")},
        "zones": {"main": {"sink": "null:"}},
        "cloud": {},
    }
    if gateway is not None:
        found["cloud"] = {"base_url": gateway, "voice_id": "anna", "connect_timeout_s": 1}
    for name, values in sections.items():
        found[name] = {**found.get(name, {}), **values} if name != "zones" else dict(values)
    return found


def loud(folder: Path, port: int, gateway: str, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a bridge on the simulated card, which give a slow test machine time."""
    zones, patience = {"main": {"sink": "alsa:sim"}}, {"normal": {"first_sound_s": 20.0}}
    return settings_for(folder, port, gateway=gateway, zones=zones, priority=patience, **sections)


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once something outside of this process has come about."""
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.02)


class Caller:
    """Somebody at the broker who sends announcements and hears what becomes of them."""

    def __init__(self, port: int, **login: Any) -> None:
        """`login`: `username` and `password`, where the broker wants them."""
        self._peer = Peer(port, filters=[f"{ROOT}/#", "kugel/reply/#"], **login)
        self._passed: list[MQTTMessage] = []
        self.events: list[dict[str, Any]] = []
        """Every event so far, in order."""

    async def __aenter__(self) -> Self:
        await self._peer.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._peer.__aexit__(*raised)

    async def next(self, topic: str) -> MQTTMessage:
        """The next message on a topic; those on others keep for later."""
        for number, message in enumerate(self._passed):
            if message.topic == topic:
                return self._passed.pop(number)
        async with asyncio.timeout(WAIT_S):
            while (message := await self._peer.next(timeout_s=WAIT_S)).topic != topic:
                self._passed.append(message)
        return message

    async def say(
        self, payload: str | Mapping[str, Any], topic: str = "say", **options: Any
    ) -> None:
        """Publish an announcement; a mapping goes as JSON."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        await self._peer.publish(f"{ROOT}/{topic}", text, **options)

    async def event(self, kind: str | None = None, id: str | None = None) -> dict[str, Any]:  # noqa: A002
        """The next event of that kind (None: any outcome) and announcement; others pass by."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self.next(f"{ROOT}/event")
                event: dict[str, Any] = json.loads(message.payload)
                self.events.append(event)
                fits = (
                    event["event_type"] in OUTCOMES if kind is None else event["event_type"] == kind
                )
                if fits and id in (None, event["id"]):
                    return event

    async def outcomes(self, count: int) -> dict[str, str]:
        """The next `count` outcomes: id → how it ended."""
        found = {}
        for _ in range(count):
            event = await self.event()
            assert event["id"] not in found, f"{event['id']} ended twice"
            found[event["id"]] = event["event_type"]
        return found

    async def state(self, **wanted: Any) -> dict[str, Any]:
        """The next state in which all of `wanted` hold."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self.next(f"{ROOT}/state")
                state: dict[str, Any] = json.loads(message.payload)
                if all(state[name] == value for name, value in wanted.items()):
                    return state

    async def request(self, verb: str, payload: str | Mapping[str, Any] = "") -> dict[str, Any]:
        """The answer to a request, envelope and all."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        await self._peer.publish(f"{ROOT}/request/{verb}", text)
        message = await self.next(f"{ROOT}/response/{verb}")
        answer: dict[str, Any] = json.loads(message.payload)
        return answer

    async def heard_on(self, topic: str) -> dict[str, Any]:
        """The next message on that topic, as JSON."""
        message = await self.next(topic)
        found: dict[str, Any] = json.loads(message.payload)
        return found


@contextlib.asynccontextmanager
async def living(settings: Mapping[str, Any]) -> AsyncIterator[Bridge]:
    """A bridge of this process, ready, until the block ends."""
    bridge = Bridge(Settings.model_validate(settings))
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bridge.run(ready.set))
        async with asyncio.timeout(WAIT_S):
            await ready.wait()
        try:
            yield bridge
        finally:
            running.cancel()


@contextlib.asynccontextmanager
async def speaking(
    directory: Path, port: int, engine: Engine, **sections: Mapping[str, Any]
) -> AsyncIterator[Bridge]:
    """A living bridge with a gateway in the cloud's place that speaks with `engine`."""
    async with (
        serving(engine) as gateway,
        living(settings_for(directory, port, gateway=gateway.url, **sections)) as bridge,
    ):
        yield bridge


class Daemon:
    """`kugel-bridge run` as a process of its own, to be killed."""

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, Any],
        *,
        environment: Mapping[str, str] | None = None,
        through: Sequence[str] = (),
        module: str = "kugel_bridge",
    ) -> None:
        """`environment` is added to ours; `through` is a command that starts the rest of its line.

        `module` is what is run: the program, or one that wraps it.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._environment, self._through = environment or {}, through
        self._module = module
        self._module = module
        self._file = directory / "config.toml"
        self._file.write_text(as_toml(settings))
        self._log = directory / "daemon.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        """What it wrote so far, all runs together."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def pid(self) -> int:
        """Its process id, of this run or of the last one."""
        assert self._process is not None
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def start(self, **environment: str) -> None:
        """Start it; it may take a moment to be ready."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*self._through, sys.executable),
                *("-m", self._module, "--config", str(self._file), "run"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment, **environment},
            )

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal; its exit code."""
        self.send(number)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end; its exit code."""
        assert self._process is not None
        async with asyncio.timeout(WAIT_S):
            return await self._process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.end()


def as_toml(sections: Mapping[str, Any]) -> str:
    """Settings as a configuration file."""
    lines = []
    for name, values in sections.items():
        tables = {k: v for k, v in values.items() if isinstance(v, Mapping)}
        lines.append(f"[{name}]")
        lines += [f"{k} = {json.dumps(v)}" for k, v in values.items() if k not in tables]
        for inner, table in tables.items():
            lines.append(f"[{name}.{inner}]")
            lines += [f"{k} = {json.dumps(v)}" for k, v in table.items()]
    return "\n".join(lines) + "\n"
