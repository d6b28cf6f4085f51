"""The built-in chimes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kugel_bridge.audio.chime import CHIMES, DEFAULT_CHIME, chime, tone
from kugel_bridge.audio.loudness import peak
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from tests.audiocheck import samples

MINUS_9_DBFS = 10 ** (-9 / 20)
SOUNDS = [*[pytest.param(chime(name), id=name) for name in CHIMES], pytest.param(tone(), id="tone")]


@pytest.mark.parametrize("sound", SOUNDS)
def test_it_is_short_and_not_too_loud(sound: PcmChunk) -> None:
    assert sound.format == SPEECH_FORMAT
    assert 0.5 < sound.seconds < 1.5
    assert 0.2 < peak(sound) <= MINUS_9_DBFS


@pytest.mark.parametrize("sound", SOUNDS)
def test_it_begins_and_ends_without_a_click(sound: PcmChunk) -> None:
    numbers = samples(sound.data)
    steps = [abs(b - a) for a, b in pairwise(numbers)]
    assert abs(numbers[0]) < 100
    assert abs(numbers[-1]) < 100
    # A sine of 3 kHz at this loudness moves by less than this in one frame.
    assert max(steps) < 6_000


def test_the_default_rings_twice_and_dies_away() -> None:
    sound = samples(chime(DEFAULT_CHIME).data)
    rate = SPEECH_FORMAT.rate

    def loudest(from_s: float, to_s: float) -> int:
        return max(abs(n) for n in sound[int(from_s * rate) : int(to_s * rate)])

    assert loudest(0.36, 0.42) > 1.3 * loudest(0.28, 0.33)  # the second stroke
    assert loudest(0.95, 1.05) < 0.25 * loudest(0.36, 0.42)


def test_a_chime_is_made_once() -> None:
    assert chime(DEFAULT_CHIME) is chime(DEFAULT_CHIME)


def test_an_unknown_chime_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(RejectedError, match=r"'gong'.*ding-dong"):
        chime("gong")
