"""What makes two utterances the same phrase: the key of the cache."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmFormat

API_VERSION = 1
"""Raised when the service, or how we ask it, changes the sound of an unchanged request."""

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Seldom:
    """A parameter that announcements leave as it is, and others may change."""

    usual: object
    kinds: tuple[type, ...]


_SELDOM = {
    "cfg_scale": _Seldom(2.0, (int, float)),
    "temperature": _Seldom(None, (int, float)),
    "max_new_tokens": _Seldom(2048, (int,)),
    "normalize": _Seldom(True, (bool,)),
    "project_id": _Seldom(None, (int,)),
    "dictionary_ids": _Seldom(None, (list, tuple)),
    "speaker_prefix": _Seldom(None, (bool,)),
}


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
    project_id: int | None = None
    dictionary_ids: tuple[int, ...] | None = None
    speaker_prefix: bool | None = None
    digest: str = field(init=False, repr=False, compare=False)
    """64 hexadecimal digits; the same for the same sound only."""

    def __post_init__(self) -> None:
        # At once: a key is kept, and its digest asked for before each first sound.
        object.__setattr__(self, "digest", self._digest())

    def _digest(self) -> str:
        # JSON quotes every field, so that no two keys run together into one.
        # Numbers are made floats first: 1 and 1.0 are the same speed.
        layout = self.format
        values: tuple[object, ...] = (
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
        added = (self.project_id, self.dictionary_ids, self.speaker_prefix)
        # Without them it is the key of caches that know nothing of them.
        if any(value is not None for value in added):
            values += added
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
                plain = cls(
                    text=text,
                    source=source,
                    voice=voice,
                    model=model,
                    language=language,
                    speed=speed,
                )
                return replace(plain, **_unusual(about))
        raise ValueError("fields of it are missing, or of a wrong type")

    def unusual(self) -> dict[str, object]:
        """What is seldom other than usual, where it is; with it `described` finds the key again."""
        return {
            name: value for name in _SELDOM if (value := getattr(self, name)) != _SELDOM[name].usual
        }


def _unusual(about: Mapping[str, object]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, seldom in _SELDOM.items():
        if name not in about:
            continue
        value = about[name]
        parts = tuple(value) if isinstance(value, list | tuple) else ()
        if not isinstance(value, seldom.kinds) or not all(isinstance(part, int) for part in parts):
            raise ValueError(f"{name} is of a wrong type")
        found[name] = parts if isinstance(value, list | tuple) else value
    return found
