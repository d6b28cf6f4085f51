"""Values of the retained `state` topic: what a glance at the bridge tells."""

from __future__ import annotations

import enum


class PlayState(enum.StrEnum):
    """What the bridge does now."""

    IDLE = "idle"
    SYNTHESIZING = "synthesizing"
    SPEAKING = "speaking"
    PAUSED = "paused"


class CloudStatus(enum.StrEnum):
    """How the KugelAudio service answered last."""

    OK = "ok"
    LIMITED = "limited"
    UNREACHABLE = "unreachable"
    UNAUTHORIZED = "unauthorized"
    NO_CREDITS = "no_credits"
    OFF = "off"


class AudioStatus(enum.StrEnum):
    """Whether the sound card takes sound."""

    OK = "ok"
    MISSING = "missing"
    BUSY = "busy"
