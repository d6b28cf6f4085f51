"""Which of the frames given to a sink were sound, and so how much of the sound was heard."""

from __future__ import annotations

import enum


class _Kind(enum.Enum):
    SOUND = enum.auto()
    PADDING = enum.auto()
    SILENCE = enum.auto()


class Transcript:
    """The order of sound and silence in one announcement, in frames."""

    def __init__(self, heard_frames: int) -> None:
        self._from = heard_frames
        self._runs: list[tuple[_Kind, int]] = []

    @property
    def begun(self) -> bool:
        """True from the first frame given to the sink."""
        return bool(self._runs)

    def gave(self, frames: int, *, is_padding: bool = False, is_silence: bool = False) -> None:
        """The sink took `frames` of sound, of padding, or of silence before or after it all."""
        kind = _Kind.PADDING if is_padding else _Kind.SILENCE if is_silence else _Kind.SOUND
        if frames and self._runs and self._runs[-1][0] is kind:
            frames += self._runs.pop()[1]
        if frames:
            self._runs.append((kind, frames))

    def heard(self, heard_frames: int) -> tuple[int, int]:
        """Frames of sound and of padding among those heard, where the sink tells `heard_frames`."""
        left = heard_frames - self._from
        sound = padding = 0
        for kind, frames in self._runs:
            now = max(0, min(frames, left))
            left -= now
            if kind is _Kind.SOUND:
                sound += now
            elif kind is _Kind.PADDING:
                padding += now
        return sound, padding
