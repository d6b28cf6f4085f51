from __future__ import annotations

from kugel_bridge.kugelaudio.patience import Patience


def test_only_sound_starts_a_new_gap() -> None:
    patience = Patience(first_audio_s=10, stall_s=4, total_s=100)
    patience.waited(7)
    assert patience.left_s == 3
    patience.heard()
    assert patience.left_s == 4
    patience.waited(5)
    assert patience.left_s == 0
    assert "no further sound for 4 s" in patience.complaint


def test_the_whole_is_bounded_however_often_sound_comes() -> None:
    patience = Patience(first_audio_s=10, stall_s=10, total_s=25)
    for _ in range(3):
        patience.waited(9)
        patience.heard()
    assert patience.left_s == 0
    assert "not done after 25 s" in patience.complaint


def test_silence_from_the_start_is_named_as_such() -> None:
    patience = Patience(first_audio_s=10, stall_s=4, total_s=100)
    patience.waited(10)
    assert patience.complaint == "no sound within 10 s"
