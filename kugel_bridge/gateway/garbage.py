"""Frames that no healthy server sends, made out of healthy ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from kugel_bridge.gateway.delivery import FRAME_S
from kugel_bridge.gateway.orders import Garbage
from kugel_bridge.kugelaudio.frames import AudioFrame
from kugel_bridge.kugelaudio.messages import Encoding

IMPOSSIBLE_RATE = 96_000
"""Hz; the API's highest is 44,100."""
_NESTING = 100_000
_INDEX_OFF_BY = 1_000

Fields = dict[str, Any]


def spoiled(kind: Garbage, frame: Fields) -> str | bytes:
    """What is sent in the place of an audio frame."""
    if kind in _WHOLE:
        return _whole(kind, frame)
    sound = base64.b64decode(frame["audio"])
    other: Fields = {
        Garbage.BASE64: {"audio": "?" + frame["audio"][1:]},
        Garbage.ODD: {"audio": base64.b64encode(sound[:-1]).decode()},
        Garbage.EMPTY: {"audio": "", "samples": 0},
        Garbage.RATE: {"sr": IMPOSSIBLE_RATE},
        Garbage.OTHER_RATE: {"sr": frame["sr"] // 2 if frame["sr"] > 8_000 else 16_000},
        Garbage.ENC: {"enc": "opus"},
        Garbage.NAN: {"samples": float("nan")},
        Garbage.INDEX: {"idx": frame["idx"] + _INDEX_OFF_BY},
    }[kind]
    return json.dumps(frame | other)


_WHOLE = (
    Garbage.TEXT,
    Garbage.HTML,
    Garbage.TRUNCATED,
    Garbage.BINARY,
    Garbage.LIST,
    Garbage.NESTED,
)


def _whole(kind: Garbage, frame: Fields) -> str | bytes:
    text = json.dumps(frame)
    match kind:
        case Garbage.HTML:
            return "<html><body><h1>502 Bad Gateway</h1></body></html>"
        case Garbage.TRUNCATED:
            return text[: len(text) // 2]
        case Garbage.BINARY:
            return base64.b64decode(frame["audio"])
        case Garbage.LIST:
            return f"[{text}]"
        case Garbage.NESTED:
            return "[" * _NESTING
        case _:
            return "this is not JSON"


def huge(frame: Fields, size: int) -> str:
    """An audio frame of about `size` bytes, and never less."""
    sound = base64.b64decode(frame["audio"]) or bytes(2)
    wanted = size * 3 // 4 + 4
    data = (sound * (wanted // len(sound) + 1))[: wanted + wanted % 2]
    return json.dumps(_with(frame, data))


def more(frame: Fields, seconds: float | None) -> Iterator[str]:
    """Frames of 200 ms that repeat the sound of `frame`: so many seconds (s) of it, or endless."""
    sound = base64.b64decode(frame["audio"]) or bytes(2)
    size = int(frame["sr"] * FRAME_S) * Encoding(frame["enc"]).sample_bytes
    part = _with(frame, (sound * (size // len(sound) + 1))[:size])
    number = 0
    while seconds is None or number * FRAME_S < seconds:
        yield json.dumps(part | {"idx": frame["idx"] + number})
        number += 1


def silence(index: int) -> str:
    """A frame of 200 ms without sound, as nobody asked for it."""
    data = bytes(int(24_000 * FRAME_S) * 2)
    return AudioFrame(data, Encoding.PCM, 24_000, index=index).to_json()


def _with(frame: Fields, data: bytes) -> Fields:
    samples = len(data) // Encoding(frame["enc"]).sample_bytes
    return frame | {"audio": base64.b64encode(data).decode(), "samples": samples}
