"""Figures for Prometheus, in its text format; no label ever names a key, a voice or a text."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kugel_bridge import __version__
from kugel_bridge.gateway.engine import Engine, Piece, Spoken
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.pcm import PcmChunk

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FIRST_AUDIO_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""A cached phrase falls into the first ones, the cloud around 0.1, an overloaded one far behind."""
FINISHED, FAILED, BROKEN_OFF = "finished", "failed", "broken_off"
"""How a generation ends; the last: whoever had asked for it left or cancelled."""
_NO_SOURCE = "none"

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counts since the start of the process. The paths in its labels are those of `known_paths`."""

    def __init__(self, known_paths: Iterable[str]) -> None:
        self._known_paths = frozenset(known_paths)
        self._requests: Counter[tuple[str, int]] = Counter()
        self._generations: Counter[tuple[str, str]] = Counter()
        self._audio_s: defaultdict[str, float] = defaultdict(float)
        self._under_way = 0
        self._characters = 0
        self._first_audio: Counter[float] = Counter()
        self._first_audio_count = 0
        self._first_audio_sum_s = 0.0
        self.sockets_open: Callable[[], int] = lambda: 0
        """Tells how many there are."""

    def answered(self, path: str, status: int) -> None:
        """A request or an upgrade (101) has its answer; `path` is as it was asked for."""
        self._requests[self._label_of(path), status] += 1

    def begun(self, characters: int) -> None:
        """An engine was asked to speak."""
        self._under_way += 1
        self._characters += characters

    def heard(self, seconds: float) -> None:
        """The first sound came after so long (s)."""
        self._first_audio_count += 1
        self._first_audio_sum_s += seconds
        fitting = (bucket for bucket in FIRST_AUDIO_BUCKETS_S if seconds <= bucket)
        self._first_audio[next(fitting, float("inf"))] += 1

    def ended(self, source: str | None, outcome: str, audio_s: float) -> None:
        """What was begun is over; `source` is None if nothing was to be heard."""
        self._under_way -= 1
        self._generations[source or _NO_SOURCE, outcome] += 1
        if source is not None:
            self._audio_s[source] += audio_s

    def text(self) -> str:
        """All figures."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _family(
            "build_info", "gauge", "The version that runs.", {(("version", __version__),): 1}
        )
        yield from _family(
            "requests_total",
            "counter",
            "HTTP requests and WebSocket upgrades by path and status; 101 is an open socket.",
            {
                (("path", path), ("status", str(status))): count
                for (path, status), count in sorted(self._requests.items())
            },
        )
        yield from _family(
            "sockets_open", "gauge", "WebSockets that are open.", {(): self.sockets_open()}
        )
        yield from _family(
            "generations_under_way", "gauge", "Texts being spoken.", {(): self._under_way}
        )
        yield from _family(
            "generations_total",
            "counter",
            "Texts by where their sound came from and how they ended.",
            {
                (("source", source), ("outcome", outcome)): count
                for (source, outcome), count in sorted(self._generations.items())
            },
        )
        yield from _family(
            "audio_seconds_total",
            "counter",
            "Sound made, by where it came from.",
            {(("source", source),): total for source, total in sorted(self._audio_s.items())},
        )
        yield from _family(
            "characters_total", "counter", "Characters to be spoken.", {(): self._characters}
        )
        yield from self._histogram("first_audio_seconds", "From a text to its first sound.")

    def _histogram(self, name: str, meaning: str) -> Iterator[str]:
        yield from _head(name, "histogram", meaning)
        total = 0
        for bucket in FIRST_AUDIO_BUCKETS_S:
            total += self._first_audio[bucket]
            yield _line(f"{name}_bucket", (("le", f"{bucket:g}"),), total)
        yield _line(f"{name}_bucket", (("le", "+Inf"),), self._first_audio_count)
        yield _line(f"{name}_sum", (), self._first_audio_sum_s)
        yield _line(f"{name}_count", (), self._first_audio_count)

    def _label_of(self, path: str) -> str:
        # Paths are the asker's to choose: as they stand they would fill the memory.
        if path in self._known_paths:
            return path
        above = path.rpartition("/")[0]
        return f"{above}/{{id}}" if f"{above}/{{id}}" in self._known_paths else "other"


class MeteredEngine:
    """An engine with somebody who counts."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine, self._metrics = engine, metrics

    async def voices(self) -> Sequence[Voice]:
        """What it can speak with."""
        return await self._engine.voices()

    async def voice(self, ident: int | str) -> Voice | None:
        """The voice with that number or handle."""
        return await self._engine.voice(ident)

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        """Begin to speak."""
        self._metrics.begun(len(request.text))
        started_s = time.monotonic()
        try:
            spoken = await self._engine.speak(request, voice, language)
        except BaseException as error:
            self._metrics.ended(None, _outcome_of(error), 0.0)
            raise
        self._metrics.heard(time.monotonic() - started_s)
        return replace(spoken, pieces=_CountedPieces(spoken, self._metrics))


class _CountedPieces(AsyncGenerator[Piece, None]):
    """Unlike a plain generator it lets go of what is behind it when it is closed unread."""

    def __init__(self, spoken: Spoken, metrics: Metrics) -> None:
        self._pieces, self._source, self._metrics = spoken.pieces, spoken.source, metrics
        self._audio_s = 0.0
        self._has_ended = False

    async def asend(self, value: None) -> Piece:
        try:
            piece = await self._pieces.__anext__()
        except StopAsyncIteration:
            self._end(FINISHED)
            raise
        except BaseException as error:
            self._end(_outcome_of(error))
            raise
        if isinstance(piece, PcmChunk):
            self._audio_s += piece.seconds
        return piece

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> Piece:
        await self.aclose()
        raise val or typ

    async def aclose(self) -> None:
        self._end(BROKEN_OFF)
        await self._pieces.aclose()

    def _end(self, outcome: str) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._metrics.ended(self._source, outcome, self._audio_s)


def _outcome_of(error: BaseException) -> str:
    return BROKEN_OFF if isinstance(error, asyncio.CancelledError) else FAILED


def _family(name: str, kind: str, meaning: str, values: Mapping[Labels, float]) -> Iterator[str]:
    yield from _head(name, kind, meaning)
    for labels, value in values.items():
        yield _line(name, labels, value)


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP kugel_gateway_{name} {meaning}"
    yield f"# TYPE kugel_gateway_{name} {kind}"


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{label}="{text}"' for label, text in labels)
    return (
        f"kugel_gateway_{name}{{{inside}}} {value}" if inside else f"kugel_gateway_{name} {value}"
    )
