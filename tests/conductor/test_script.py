"""What an announcement sounds like, in order, and what is left of it after a cut."""

from __future__ import annotations

from kugel_bridge.conductor.script import (
    Delivery,
    Jingle,
    Recording,
    Silence,
    Words,
    script_of,
)
from kugel_bridge.model.announcement import (
    AlertSegment,
    Announcement,
    ChimeSegment,
    PauseSegment,
    Repeat,
    TextSegment,
)
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk

DELIVERY = Delivery(language="en", voice="anna")
SIREN = SPEECH_FORMAT.silence(0.1)


class Alerts:
    def words_or_sound(self, name: str, language: str) -> str | PcmChunk:
        return SIREN if name == "siren" else f"{name} in {language}"


def announcement(*segments: object, **fields: object) -> Announcement:
    return Announcement(id="a", segments=segments, received=Instant(0, 0), **fields)


def words(cues: tuple[object, ...]) -> list[tuple[str, int]]:
    return [(cue.utterance.text, cue.offset) for cue in cues if isinstance(cue, Words)]


def test_a_plain_text_is_spoken_as_configured() -> None:
    (cue,) = script_of(announcement(TextSegment("Hello")), DELIVERY, Alerts())
    assert isinstance(cue, Words)
    assert (cue.utterance.text, cue.utterance.language, cue.utterance.voice) == (
        "Hello",
        "en",
        "anna",
    )


def test_segments_keep_their_order_and_their_own_voice() -> None:
    cues = script_of(
        announcement(
            TextSegment("One", voice="bert", speed=1.1),
            PauseSegment(250),
            ChimeSegment("ding"),
            AlertSegment("siren"),
            TextSegment("Two"),
            voice="carla",
        ),
        DELIVERY,
        Alerts(),
    )
    assert [type(cue) for cue in cues] == [Words, Silence, Jingle, Recording, Words]
    first, pause, _, recording, last = cues
    assert isinstance(first, Words)
    assert isinstance(last, Words)
    assert (first.utterance.voice, first.utterance.speed, last.utterance.voice) == (
        "bert",
        1.1,
        "carla",
    )
    assert pause == Silence(0.25)
    assert recording == Recording("siren", SIREN)


def test_an_alert_with_a_text_is_spoken_in_the_announcements_language() -> None:
    cues = script_of(announcement(AlertSegment("smoke"), language="de"), DELIVERY, Alerts())
    assert words(cues) == [("smoke in de", 0)]


def test_a_chime_is_played_as_wished_or_else_as_the_zone_has_it() -> None:
    with_chime = Delivery(language="en", chime="bell")
    plain = announcement(TextSegment("x"))
    assert script_of(plain, with_chime, Alerts())[0] == Jingle("bell")
    assert script_of(plain, DELIVERY, Alerts())[0] != Jingle("bell")
    wished = announcement(TextSegment("x"), chime=True, end_chime="gong")
    cues = script_of(wished, DELIVERY, Alerts())
    assert (cues[0], cues[-1]) == (Jingle(DELIVERY.default_chime), Jingle("gong"))
    unwanted = announcement(TextSegment("x"), chime=False)
    assert not any(isinstance(c, Jingle) for c in script_of(unwanted, with_chime, Alerts()))


def test_a_long_text_is_cut_into_parts_that_keep_every_word() -> None:
    text = " ".join(f"Sentence number {n} is here." for n in range(20))
    cues = script_of(
        announcement(TextSegment(text)), Delivery(language="en", part_characters=100), Alerts()
    )
    parts = words(cues)
    assert len(parts) > 1
    assert " ".join(part for part, _ in parts).split() == text.split()
    assert all(len(part) <= 100 for part, _ in parts)


def test_repeating_says_it_again_after_a_pause() -> None:
    cues = script_of(announcement(TextSegment("Fire"), repeat=Repeat(3, 0.5)), DELIVERY, Alerts())
    assert words(cues) == [("Fire", 0), ("Fire", 4), ("Fire", 8)]
    assert [cue for cue in cues if isinstance(cue, Silence)] == [Silence(0.5)] * 2


def test_resuming_leaves_out_what_was_heard_and_the_chime() -> None:
    segments = (TextSegment("One. Two."), PauseSegment(100), TextSegment("Three."))
    whole = announcement(*segments, chime=True)
    assert words(script_of(whole, DELIVERY, Alerts(), resume_at=5)) == [("Two.", 5), ("Three.", 9)]
    later = script_of(whole, DELIVERY, Alerts(), resume_at=9)
    assert [type(cue) for cue in later] == [Silence, Words]


def test_resuming_in_the_second_round_does_not_begin_the_first_again() -> None:
    thrice = announcement(TextSegment("Fire"), repeat=Repeat(3, 0.5))
    cues = script_of(thrice, DELIVERY, Alerts(), resume_at=4)
    assert words(cues) == [("Fire", 4), ("Fire", 8)]
