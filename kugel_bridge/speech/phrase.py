"""What makes two utterances the same phrase: the key of the cache."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmFormat

API_VERSION = 1
"""Raised when the service, or how we ask it, changes the sound of an unchanged request."""

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhraseKey:
    """Everything that changes the sound of a phrase (API reference, "What a cache key needs")."""

    text: str
    """As it is sent: cleaned, NFC."""
    source: str
    """Who makes the sound, and where: two services with the same voice number differ."""
    voice: str
    model: str
    language: str
    speed: float = 1.0
    format: PcmFormat = SPEECH_FORMAT
    cfg_scale: float = 2.0
    temperature: float | None = None
    max_new_tokens: int = 2048
    normalize: bool = True
    api_version: int = API_VERSION

    @property
    def digest(self) -> str:
        """64 hexadecimal digits; the same for the same sound only."""
        return _digest_of(self)

    def _digest(self) -> str:
        # JSON quotes every field, so that no two keys run together into one.
        # Numbers are made floats first: 1 and 1.0 are the same speed.
        layout = self.format
        values = (
            self.text,
            self.source,
            self.voice,
            self.model,
            self.language,
            float(self.speed),
            (layout.rate, layout.channels, layout.sample_bytes),
            float(self.cfg_scale),
            None if self.temperature is None else float(self.temperature),
            self.max_new_tokens,
            self.normalize,
            self.api_version,
        )
        line = json.dumps(values)
        return hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()

    @classmethod
    def described(cls, about: Mapping[str, object]) -> PhraseKey:
        """The key that `entry.description` told of; what it leaves out is as usual.

        Raises ValueError where something is missing or of a wrong type.
        """
        match about:
            case {
                "text": str(text),
                "source": str(source),
                "voice": str(voice),
                "model": str(model),
                "language": str(language),
                "speed": int() | float() as speed,
            }:
                return cls(
                    text=text,
                    source=source,
                    voice=voice,
                    model=model,
                    language=language,
                    speed=speed,
                )
        raise ValueError("fields of it are missing, or of a wrong type")


# What is said often is asked for often, each time before its first sound.
_digest_of = functools.lru_cache(maxsize=256)(PhraseKey._digest)
