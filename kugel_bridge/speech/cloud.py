"""The cloud as a source of speech."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import BridgeError
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.markup import MAX_RATE, MIN_RATE, mended
from kugel_bridge.speech.phrase import PhraseKey

MAX_KEYS = 128
"""Remembered keys: what is said often finds its phrase a sixth of a millisecond sooner."""
ORIGIN = "kugelaudio"
"""The service itself; a phrase from a stand-in under another address is another phrase."""


class Client(Protocol):
    """What is needed of `kugelaudio.client.SpeechClient`."""

    @property
    def available(self) -> BridgeError | None: ...

    def stream(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]: ...


class CloudSource:
    """Asks the service for an utterance, with the defaults of the configuration.

    `voice` (a number as text, or a handle) stands in where the utterance leaves it open;
    `origin` tells the cache which service it was.
    """

    kind = SourceKind.CLOUD

    def __init__(
        self,
        client: Client,
        *,
        voice: str | int | None,
        model: str,
        origin: str = ORIGIN,
    ) -> None:
        self._client = client
        self._voice, self._model, self._origin = voice, model, origin
        self._keys: dict[Utterance, PhraseKey] = {}

    @property
    def unavailable(self) -> BridgeError | None:
        """None when asking makes sense now, else why not."""
        return self._client.available

    def request(self, utterance: Utterance) -> SpeechRequest:
        """What is sent for an utterance."""
        return SpeechRequest(
            # An utterance may be the rest of one, cut inside a tag pair.
            text=mended(utterance.text),
            language=utterance.language,
            voice_id=_voice_id(utterance.voice or self._voice),
            model_id=self._model,
            speed=min(MAX_RATE, max(MIN_RATE, utterance.speed)),
        )

    def key(self, utterance: Utterance) -> PhraseKey:
        """The phrase that an utterance is."""
        known = self._keys.get(utterance)
        if known is None:
            known = self._keys[utterance] = self._key(utterance)
            if len(self._keys) > MAX_KEYS:
                del self._keys[next(iter(self._keys))]
        return known

    def _key(self, utterance: Utterance) -> PhraseKey:
        return phrase_key(self.request(utterance), self._origin)

    def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        """The sound as it arrives; one attempt. Raises the BridgeErrors of the client."""
        return self._client.stream(self.request(utterance))


def phrase_key(request: SpeechRequest, origin: str) -> PhraseKey:
    """The phrase that a request is for a service; `origin` says which."""
    return PhraseKey(
        text=request.text,
        source=origin,
        voice=str(request.voice_id or ""),
        model=request.model_id,
        language=request.language or "",
        speed=request.speed,
        format=PcmFormat(request.sample_rate),
        cfg_scale=request.cfg_scale,
        temperature=request.temperature,
        max_new_tokens=request.max_new_tokens,
        normalize=request.normalize,
        project_id=request.project_id,
        dictionary_ids=request.dictionary_ids,
        speaker_prefix=request.speaker_prefix,
    )


def _voice_id(voice: str | int | None) -> str | int | None:
    if isinstance(voice, str):
        voice = voice.strip()
        if voice.isascii() and voice.isdigit():
            return int(voice)
    return voice or None
