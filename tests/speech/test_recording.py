from __future__ import annotations

import pytest

from kugel_bridge.speech.recording import doubt_about


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Es klingelt.", 1.0),
        ("1000000", 2.0),
        ("Ja", 0.3),
        ("!", 0.1),
        ("今日は天気がいいですね", 2.5),
        ("Schnell gesprochen, so schnell es geht " * 10, 15.0),
        ("<spell>ABCDEFGHIJKLMN</spell>", 8.0),
        ('Halt <break time="500ms"/> jetzt', 2.0),
        ("x" + '<break time="10s"/>' * 3, 30.0),
    ],
)
def test_plausible_lengths_raise_no_doubt(text: str, seconds: float) -> None:
    assert doubt_about(text, seconds, 0.3) == ""


@pytest.mark.parametrize(
    ("text", "seconds", "loudest"),
    [
        ("Es klingelt an der Haustür.", 0.2, 0.3),
        ("Es klingelt.", 60.0, 0.3),
        ("Ja", 10.0, 0.3),
        ("Es klingelt.", 1.0, 0.0),
        ("Es klingelt.", 1.0, 0.001),
        ("Es klingelt.", 0.0, 0.0),
    ],
)
def test_implausible_sound_raises_doubt(text: str, seconds: float, loudest: float) -> None:
    assert doubt_about(text, seconds, loudest)
