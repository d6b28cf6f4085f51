"""The gateway: how soon it speaks, and how it bears many at once.

    .venv/bin/python -m benchmarks.gateway [ROUNDS]

The gateway is `kugel-bridge gateway` in a process of its own; the clients are in this one. The
service behind it is our own server with an engine that makes a tone: in this process where only
one speaks at a time, in a third one for the load.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.figures import Times
from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.gateway.voices import VoiceBook
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from tests.broker import free_port
from tests.gateway_server import VOICES, ScriptedEngine, hum, serving

ROUNDS = 100
BRIDGES = 50
SOCKETS = 200
PHRASES = 20
"""Different ones under way at a time: as many as one account may have made at once."""
LOAD_S = 10.0
PHRASE = "Dinner is ready."
FRAME_S = 0.2
WAIT_S = 60.0
_HIGH = {"requests_per_minute": 100_000, "concurrent_generations": 1_000, "connections": 1_000}


class PacedEngine:
    """Makes a tone no faster than it is played, as a service under load does."""

    async def voices(self) -> Sequence[Voice]:
        return VOICES

    async def voice(self, ident: int | str) -> Voice | None:
        return VoiceBook(VOICES).find(ident)

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        return Spoken(SourceKind.LOCAL, self._pieces())

    async def _pieces(self) -> AsyncGenerator[PcmChunk, None]:
        loop, piece = asyncio.get_running_loop(), hum(FRAME_S)
        started_s = loop.time()
        for number in range(round(LOAD_S / FRAME_S)):
            await asyncio.sleep(started_s + number * FRAME_S - loop.time())
            yield piece


class Gateway:
    """A running `kugel-bridge gateway`."""

    def __init__(self, url: str, process: asyncio.subprocess.Process) -> None:
        self.url, self._process = url, process

    def memory_mb(self, name: str) -> float:
        """`VmRSS` is what it has now, `VmHWM` the most that it had (MB)."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise ValueError(f"no {name} of process {self._process.pid}")

    def processor_s(self) -> float:
        """Time of a processor that it has taken so far (s)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def gateway(folder: Path, upstream: str | None = None) -> AsyncIterator[Gateway]:
    """One with the local engine, or in front of the service at `upstream`."""
    port = free_port()
    settings: dict[str, object] = {
        "gateway__engine": "local" if upstream is None else "upstream",
        "gateway__port": port,
        "gateway__usage_path": folder / "usage.db",
        "cache__dir": folder / "cache",
        "log__level": "warning",
        **{f"gateway__{name}": number for name, number in _HIGH.items()},
    }
    if upstream is not None:
        settings |= {"cloud__base_url": upstream, "cloud__max_generations": PHRASES}
    given = {f"KUGEL_BRIDGE_{name.upper()}": str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kugel_bridge", "gateway"),
        env={**os.environ, **given, "KUGEL_BRIDGE_CONFIG": os.devnull},
    )
    try:
        await _reachable(port)
        yield Gateway(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def paced_service() -> AsyncIterator[str]:
    """The service for the load, in a process of its own; its address."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.gateway", "service", str(port))
    )
    try:
        await _reachable(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def serve(port: int) -> None:
    """Be the service for the load."""
    async with serving(PacedEngine(), port=port):
        await asyncio.Event().wait()


async def first_audio(rounds: int) -> dict[str, Any]:
    """Request to first audio frame at a client on this machine, of one after the other (ms)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with gateway(folder / "local") as local, socket_to(local.url) as socket:
            own = [
                await _round(socket, f"The washing machine is done, {number}.", "espeak-en-female")
                for number in range(rounds + 3)
            ]
        engine = ScriptedEngine([hum(FRAME_S)] * 5)
        async with (
            serving(engine) as service,
            gateway(folder / "front", service.url) as front,
            socket_to(service.url) as near,
            socket_to(front.url) as far,
        ):
            # In turns, so that both meet the same moods of the machine.
            direct, through = [], []
            for number in range(rounds + 3):
                direct.append(await _round(near, f"Nobody said this before, {number} a."))
                through.append(await _round(far, f"Nobody said this before, {number} b."))
            while not await _is_cached(far, PHRASE):
                await asyncio.sleep(0.05)
            cached = [await _round(far, PHRASE) for _ in range(rounds)]
    return {
        "local": Times("local engine", tuple(own[3:])).to_dict(),
        "direct": Times("service alone", tuple(direct[3:])).to_dict(),
        "through": Times("through the gateway", tuple(through[3:])).to_dict(),
        "cached": Times("from the cache", tuple(cached)).to_dict(),
    }


async def one_flight() -> dict[str, Any]:
    """Bridges that ask for the same new phrase at the same moment: how often the service is."""
    engine = ScriptedEngine([hum(FRAME_S)] * 10)
    with tempfile.TemporaryDirectory() as name:
        async with (
            serving(engine) as service,
            gateway(Path(name), service.url) as front,
            contextlib.AsyncExitStack() as sockets,
        ):
            opened = [
                await sockets.enter_async_context(socket_to(front.url)) for _ in range(BRIDGES)
            ]
            times = await asyncio.gather(*[_round(each, "The same for all.") for each in opened])
    return {
        "bridges": BRIDGES,
        "requests_to_the_service": len(engine.asked),
        "first_audio": Times("first audio", tuple(times)).to_dict(),
    }


async def load() -> dict[str, Any]:
    """Sockets that all stream in real time: how late frames are, and what memory it takes."""
    with tempfile.TemporaryDirectory() as name:
        async with (
            paced_service() as service,
            gateway(Path(name), service) as front,
            contextlib.AsyncExitStack() as sockets,
        ):
            idle_mb = front.memory_mb("VmRSS")
            opened = [
                await sockets.enter_async_context(socket_to(front.url)) for _ in range(SOCKETS)
            ]
            before_s = front.processor_s()
            late = await asyncio.gather(
                *[
                    _lateness(socket, f"Phrase {number % PHRASES} of a busy day.")
                    for number, socket in enumerate(opened)
                ]
            )
            busy_s = front.processor_s() - before_s
            after_mb, most_mb = front.memory_mb("VmRSS"), front.memory_mb("VmHWM")
    return {
        "sockets": SOCKETS,
        "phrases": PHRASES,
        "frames": sum(len(each) for each in late),
        "latest_frame_ms": round(max(max(each) for each in late), 1),
        "late": {
            key: value
            for key, value in Times("late", tuple(ms for each in late for ms in each))
            .to_dict()
            .items()
            if key != "all_ms"
        },
        "processor_share": round(busy_s / LOAD_S, 2),
        "machine_load": round(os.getloadavg()[0], 1),
        "memory_mb": {
            "idle": round(idle_mb, 1),
            "after": round(after_mb, 1),
            "most": round(most_mb, 1),
        },
    }


@contextlib.asynccontextmanager
async def socket_to(url: str) -> AsyncIterator[ClientConnection]:
    """An open socket of /ws/tts."""
    async with connect(
        url.replace("http:", "ws:") + "/ws/tts", proxy=None, compression=None, close_timeout=1
    ) as socket:
        yield socket


async def _round(socket: ClientConnection, text: str, voice: int | str = 1) -> float:
    """Milliseconds from the request to its first audio; returns at its end."""
    request = json.dumps({"text": text, "voice_id": voice, "language": "en"})
    async with asyncio.timeout(WAIT_S):
        started_s = perf_counter()
        await socket.send(request)
        frame = str(await socket.recv())
        taken_ms = (perf_counter() - started_s) * 1000
        if '"audio"' not in frame:
            raise RuntimeError(f"no sound: {frame[:200]}")
        while '"final"' not in frame:
            frame = str(await socket.recv())
    return taken_ms


async def _is_cached(socket: ClientConnection, text: str) -> bool:
    """Say it, and tell whether it came from the cache."""
    async with asyncio.timeout(WAIT_S):
        await socket.send(json.dumps({"text": text, "voice_id": 1, "language": "en"}))
        while '"final"' not in (frame := str(await socket.recv())):
            pass
    return bool(json.loads(frame).get("source") == SourceKind.CACHE)


async def _lateness(socket: ClientConnection, text: str) -> list[float]:
    """How much later than played (ms) each frame came, the first one being in time."""
    async with asyncio.timeout(WAIT_S):
        await socket.send(json.dumps({"text": text, "voice_id": 1, "language": "en"}))
        arrived: list[float] = []
        while '"final"' not in (frame := str(await socket.recv()))[:20]:
            if not frame.startswith('{"audio"'):
                raise RuntimeError(f"no sound: {frame[:200]}")
            arrived.append(perf_counter())
    return [
        max(0.0, (at_s - arrived[0] - number * FRAME_S) * 1000)
        for number, at_s in enumerate(arrived)
    ]


async def _reachable(port: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def main(rounds: int) -> None:
    """Measure everything and print it."""
    first = await first_audio(rounds)
    for times in first.values():
        print(
            f"{times['name']:<22} median {times['median_ms']:7.2f} ms   p99 {times['p99_ms']:7.2f}"
        )
    added = first["through"]["median_ms"] - first["direct"]["median_ms"]
    print(f"{'added by the gateway':<22} median {added:7.2f} ms")
    flight = await one_flight()
    print(
        f"{flight['bridges']} bridges, one phrase: {flight['requests_to_the_service']} request, "
        f"first audio median {flight['first_audio']['median_ms']:.1f} ms, "
        f"last {max(flight['first_audio']['all_ms']):.1f} ms"
    )
    print(json.dumps(await load(), indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["service"]:
        asyncio.run(serve(int(sys.argv[2])))
    else:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
