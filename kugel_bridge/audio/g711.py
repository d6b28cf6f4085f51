"""G.711: telephone speech, one byte per sample, to and from 16 bit PCM."""

from __future__ import annotations

import enum

from kugel_bridge.audio.arithmetic import audioop
from kugel_bridge.model.pcm import PcmBytes


class Law(enum.StrEnum):
    """The two companding laws of ITU-T G.711."""

    ULAW = "ulaw"
    ALAW = "alaw"


def encoded(data: PcmBytes, law: Law) -> bytes:
    """16 bit samples as G.711, one byte each; raises ValueError for half a sample."""
    if len(data) % 2:
        raise ValueError(f"{len(data)} bytes end inside a 16 bit sample")
    return audioop.lin2ulaw(data, 2) if law is Law.ULAW else audioop.lin2alaw(data, 2)


def decoded(data: PcmBytes, law: Law) -> bytes:
    """G.711 as 16 bit samples."""
    return audioop.ulaw2lin(data, 2) if law is Law.ULAW else audioop.alaw2lin(data, 2)
