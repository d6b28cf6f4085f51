"""The sink of a machine that shall stay quiet."""

from __future__ import annotations

from kugel_bridge.audio.paced import PacedSink


class NullSink(PacedSink):
    """Takes sound at the pace of a loudspeaker, or at once with `paced=False`, and forgets it."""
