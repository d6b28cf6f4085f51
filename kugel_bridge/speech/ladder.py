"""The ladder: cache, cloud, local engine, tone; each taken while nothing was heard yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kugel_bridge.audio.chime import tone
from kugel_bridge.model.announcement import CachePolicy, OfflineRule
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    NoCreditsError,
    NotInCacheError,
    RejectedError,
    RetryableError,
    TooSlowError,
    UnauthorizedError,
)
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.flights import Flights
from kugel_bridge.speech.phrase import PhraseKey
from kugel_bridge.speech.source import Sound, SpeechSource

if TYPE_CHECKING:  # without a cloud it is not loaded
    from kugel_bridge.speech.cloud import CloudSource

logger = logging.getLogger(__name__)

WARM_TIMEOUT_S = 30.0
"""To the first sound of a phrase that nobody waits for."""


@dataclass(slots=True)
class Speech:
    """An utterance under way: the first sound is already there."""

    source: SourceKind
    chunks: AsyncGenerator[PcmChunk, None]
    """To be closed, also unread. Raises a BridgeError where the sound breaks off."""
    characters: int = 0
    """Sent to the cloud for it; 0 if it shares what another zone asked for."""
    reason: str = ""
    """Why the rungs above could not say it; empty for cache and cloud."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `speak` would do, without doing it."""

    source: SourceKind
    """The cache, where only that is allowed, also for what is not in it."""
    digest: str
    """The key in the cache; empty without a cloud."""
    text: str
    """As it would be sent."""
    characters: int
    """Of the cloud, that it would cost."""
    reason: str = ""
    """Why not a better rung."""


@dataclass(slots=True)
class WarmReport:
    """How far the cache was filled."""

    made: int = 0
    present: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Text and reason."""
    left: int = 0
    """Not tried, because the cloud could not be used any more."""
    characters: int = 0
    """Sent to the cloud."""


class Ladder:
    """Says an utterance by the best means there is.

    `run` has to run: generations live in it. Any of the rungs may be missing.
    """

    def __init__(
        self,
        *,
        cache: PhraseCache | None,
        cloud: CloudSource | None,
        local: SpeechSource | None,
        flights: Flights | None = None,
    ) -> None:
        """`flights` may be shared with others who ask the same cloud."""
        self._cache, self._cloud, self._local = cache, cloud, local
        self._flights = flights or Flights()

    async def run(self) -> None:
        """Generate speech until cancelled."""
        await self._flights.run()

    async def speak(
        self,
        utterance: Utterance,
        *,
        cache: CachePolicy,
        first_sound_s: float,
        offline: OfflineRule,
    ) -> Speech:
        """The utterance with its first sound there, from the first rung that has any.

        `first_sound_s` is how long the cloud may take to it. Raises RetryableError if it should
        be tried again later (`offline` says wait, and waiting may help), NotInCacheError under
        `CachePolicy.ONLY`. The tone is always there, so nothing else is raised.
        """
        if cache in (CachePolicy.USE, CachePolicy.ONLY):
            speech = await self._from_cache(utterance)
            if speech is not None:
                return speech
            if cache is CachePolicy.ONLY:
                raise NotInCacheError("the phrase is not in the cache")
        reasons: list[str] = []
        if self._cloud is None:
            reasons.append("cloud: none is configured")
        else:
            try:
                return await self._from_cloud(self._cloud, utterance, cache, first_sound_s)
            except BridgeError as error:
                if offline is OfflineRule.WAIT and _may_pass(error):
                    raise _later(error) from error
                logger.info("the cloud cannot say it: %s", error)
                reasons.append(f"cloud: {error}")
        if self._local is None:
            reasons.append("local: none is configured")
        else:
            sound = Sound(self._local.stream(utterance))
            try:
                await sound.begin()
            except BridgeError as error:
                logger.warning("the local engine cannot say it: %s", error)
                reasons.append(f"local: {error}")
            else:
                return Speech(self._local.kind, sound, reason="; ".join(reasons))
        return Speech(SourceKind.TONE, _toned(), reason="; ".join(reasons))

    def key(self, utterance: Utterance) -> PhraseKey:
        """The phrase that an utterance is; raises RejectedError without a cloud."""
        if self._cloud is None:
            raise RejectedError("without a cloud nothing is kept in the cache")
        return self._cloud.key(utterance)

    async def explain(
        self, utterance: Utterance, *, cache: CachePolicy = CachePolicy.USE
    ) -> Explanation:
        """Which rung would be taken now; nothing is said, made or counted."""
        digest, text, reason = "", utterance.text, "cloud: none is configured"
        if self._cloud is not None:
            key = self._cloud.key(utterance)
            digest, text = key.digest, key.text
            may_look = cache in (CachePolicy.USE, CachePolicy.ONLY)
            if self._cache is not None and may_look and await self._cache.contains(key):
                return Explanation(SourceKind.CACHE, digest, text, 0)
            if cache is CachePolicy.ONLY:
                return Explanation(SourceKind.CACHE, digest, text, 0, "it is not in the cache")
            error = self._cloud.unavailable
            if error is None:
                return Explanation(SourceKind.CLOUD, digest, text, len(text))
            reason = f"cloud: {error}"
        rung = SourceKind.TONE if self._local is None else self._local.kind
        return Explanation(rung, digest, text, 0, reason)

    async def warm(self, utterances: Iterable[Utterance], *, pin: bool = False) -> WarmReport:
        """Fill the cache with these, one after the other; what is there already costs nothing.

        `pin` keeps them there. Raises StorageError if they cannot be pinned.
        """
        report = WarmReport()
        waiting = list(utterances)
        if self._cloud is None or self._cache is None:
            report.left = len(waiting)
            return report
        for number, utterance in enumerate(waiting):
            key = self._cloud.key(utterance)
            if await self._cache.contains(key):
                report.present += 1
                if pin:
                    await self._cache.pin(key.digest)
                continue
            try:
                is_kept, characters = await self._warmed(self._cloud, self._cache, utterance)
            except BridgeError as error:
                report.failed.append((utterance.text, str(error)))
                if not isinstance(error, InvalidRequestError):
                    report.left = len(waiting) - number - 1
                    break
            else:
                report.characters += characters
                if is_kept:
                    report.made += 1
                    if pin:
                        await self._cache.pin(key.digest)
                else:
                    report.failed.append((utterance.text, self._cache.problem or "not kept"))
        return report

    async def _from_cache(self, utterance: Utterance) -> Speech | None:
        if self._cache is None or self._cloud is None:
            return None
        found = await self._cache.lookup(self._cloud.key(utterance))
        return None if found is None else Speech(SourceKind.CACHE, found.chunks())

    async def _from_cloud(
        self, cloud: CloudSource, utterance: Utterance, policy: CachePolicy, first_sound_s: float
    ) -> Speech:
        if (error := cloud.unavailable) is not None:
            raise error
        key, cache = cloud.key(utterance), self._cache
        listener = None
        try:
            async with asyncio.timeout(first_sound_s):
                _, listener, is_new = await self._flights.board(
                    key.digest,
                    lambda: cloud.stream(utterance),
                    lambda: (
                        None
                        if cache is None or policy is CachePolicy.BYPASS
                        else cache.begin(key, force=policy is CachePolicy.REFRESH)
                    ),
                )
                await listener.begin()
        except TimeoutError as error:
            if listener is not None:
                listener.leave(was_late=True)
            raise TooSlowError(f"no sound within {first_sound_s:g} s") from error
        except BaseException:
            if listener is not None:
                listener.leave()
            raise
        return Speech(SourceKind.CLOUD, listener, len(key.text) if is_new else 0)

    async def _warmed(
        self, cloud: CloudSource, cache: PhraseCache, utterance: Utterance
    ) -> tuple[bool, int]:
        """Whether it is in the cache now, and the characters it cost."""
        if (error := cloud.unavailable) is not None:
            raise error
        key = cloud.key(utterance)
        flight, listener, is_new = await self._flights.board(
            key.digest, lambda: cloud.stream(utterance), lambda: cache.begin(key, force=True)
        )
        try:
            async with asyncio.timeout(WARM_TIMEOUT_S):
                await listener.begin()
            async for _ in listener:
                pass
        except TimeoutError as error:
            raise TooSlowError(f"no sound within {WARM_TIMEOUT_S:g} s") from error
        finally:
            listener.leave()
        await flight.done.wait()
        return flight.is_kept, len(key.text) if is_new else 0


def _may_pass(error: BridgeError) -> bool:
    """Whether waiting helps: the cloud comes back, or a person sees to key or credits."""
    return isinstance(error, RetryableError | UnauthorizedError | NoCreditsError)


def _later(error: BridgeError) -> RetryableError:
    if isinstance(error, RetryableError):
        return error
    return RetryableError(str(error))


async def _toned() -> AsyncGenerator[PcmChunk, None]:
    yield tone()
