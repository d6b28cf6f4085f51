"""Chimes, made by arithmetic: no sound files to ship, to lose or to license."""

from __future__ import annotations

import cmath
import functools
import math
import operator
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, repeat

from kugel_bridge.audio.arithmetic import audioop
from kugel_bridge.audio.loudness import amplified, faded, peak
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk

_FORMAT = SPEECH_FORMAT
_BLOCK_FRAMES = 2_000
"""One block holds whole cycles of every multiple of 12 Hz at 24 kHz."""
_CYCLE_HZ = _FORMAT.rate // _BLOCK_FRAMES
_PEAK = 0.33
"""-9.6 dBFS: heard before the words, not louder than they are."""
_HEADROOM = 0.35
"""Of full scale, for one note's fundamental: overtones and a second note still fit."""
_ATTACK_S = 0.004
_RELEASE_S = 0.06
_BELL = ((1, 1.0), (2, 0.28), (3, 0.10))
"""Overtones and their strength; the higher, the sooner they are gone."""
_BEEP = ((1, 1.0), (2, 0.15))


@dataclass(frozen=True, slots=True)
class _Note:
    hertz: int
    """A multiple of 12 Hz."""
    at_s: float
    lasts_s: float
    decay_s: float
    """Time after which the fundamental has fallen to 37 %."""
    overtones: tuple[tuple[int, float], ...] = _BELL


DEFAULT_CHIME = "ding-dong"

# 660 and 528 Hz are a pure major third (5:4), as a doorbell rings it.
_SCORES: Mapping[str, tuple[_Note, ...]] = {
    "ding-dong": (_Note(660, 0.0, 0.62, 0.18), _Note(528, 0.34, 0.72, 0.22)),
    "ding": (_Note(660, 0.0, 0.7, 0.2),),
    "attention": (
        _Note(528, 0.0, 0.5, 0.16),
        _Note(660, 0.2, 0.5, 0.16),
        _Note(792, 0.4, 0.7, 0.22),
    ),
}
_TONE_SCORE = tuple(_Note(984, 0.3 * beat, 0.16, 0.6, _BEEP) for beat in range(3))

CHIMES = tuple(_SCORES)
"""The names there are."""


@functools.cache
def chime(name: str) -> PcmChunk:
    """The chime of that name; made once, then kept.

    Raises RejectedError, naming the chimes there are.
    """
    score = _SCORES.get(name)
    if score is None:
        raise RejectedError(f"there is no chime {name!r}; there are {', '.join(CHIMES)}")
    return _rung(score)


@functools.cache
def tone() -> PcmChunk:
    """Three beeps: the ladder's last rung, when nothing can be said."""
    return _rung(_TONE_SCORE)


def _rung(score: tuple[_Note, ...]) -> PcmChunk:
    length = max(_FORMAT.frames_in(note.at_s + note.lasts_s) for note in score)
    mixed = bytes(length * _FORMAT.frame_bytes)
    for note in score:
        before = bytes(_FORMAT.frames_in(note.at_s) * _FORMAT.frame_bytes)
        sounding = before + bytes(_struck(note).data)
        mixed = audioop.add(mixed, sounding + bytes(len(mixed) - len(sounding)), 2)
    sound = PcmChunk(_FORMAT, mixed)
    return amplified(sound, _PEAK / peak(sound))


def _struck(note: _Note) -> PcmChunk:
    frames = _FORMAT.frames_in(note.lasts_s)
    sound = bytes(frames * _FORMAT.frame_bytes)
    for number, strength in note.overtones:
        part = _decaying(note.hertz * number, strength, note.decay_s / math.sqrt(number), frames)
        sound = audioop.add(sound, part, 2)
    attack = _FORMAT.frames_in(_ATTACK_S) * _FORMAT.frame_bytes
    release = len(sound) - _FORMAT.frames_in(_RELEASE_S) * _FORMAT.frame_bytes
    begin = faded(PcmChunk(_FORMAT, sound[:attack]), 0.0, 1.0).data
    end = faded(PcmChunk(_FORMAT, sound[release:]), 1.0, 0.0).data
    return PcmChunk(_FORMAT, bytes(begin) + sound[attack:release] + bytes(end))


def _decaying(hertz: int, strength: float, decay_s: float, frames: int) -> bytes:
    # A decaying wave repeats itself, weaker, after whole cycles: one block is computed,
    # the others are that block multiplied in C. All in Python took ten times as long.
    assert hertz % _CYCLE_HZ == 0, "the block must hold whole cycles"
    turn = 2 * math.pi * hertz / _FORMAT.rate
    fall = 1 / (decay_s * _FORMAT.rate)
    # A pointer that turns and shrinks with each frame: its shadow is the wave, and a complex
    # product costs a fifth of exp() and sin().
    step = cmath.exp(complex(-fall, turn))
    start = complex(_HEADROOM * 32_767 * strength)
    pointers = accumulate(repeat(step, _BLOCK_FRAMES - 1), operator.mul, initial=start)
    block = array("h", [int(pointer.imag) for pointer in pointers]).tobytes()
    blocks = -(-frames // _BLOCK_FRAMES)
    weaker = math.exp(-fall * _BLOCK_FRAMES)
    whole = b"".join(audioop.mul(block, 2, weaker**n) for n in range(blocks))
    return whole[: frames * 2]
