"""What the local engine sounds like, measured on its sound."""

from __future__ import annotations

import logging
import shutil

import pytest

from kugel_bridge.kugelaudio.frames import WordTiming, WordTimings
from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.loader import LoaderSource
from kugel_bridge.speech.local import LocalSource
from tests.speech.measuring import loud_spans_s, pauses_s, pitch, recorded, spoken_s
from tests.speech.sounds import utterance

pytestmark = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="apt install espeak-ng to test it"
)

SENTENCES = {
    "de": "Die Waschmaschine im Keller ist fertig, und es klingelt an der Haustür.",
    "en": "The washing machine is done, and somebody rings the bell at the front door.",
}


async def said(text: str, language: str = "de", speed: float = 1.0) -> PcmChunk:
    spoken = Utterance(text=text, language=language, speed=speed)
    return await recorded(LocalSource().stream(spoken))


async def timed(text: str, language: str = "de") -> tuple[list[WordTiming], PcmChunk]:
    """The words and the sound; each word came after its sound."""
    words: list[WordTiming] = []
    sound: list[PcmChunk] = []
    async for piece in LocalSource().timed(Utterance(text=text, language=language)):
        if isinstance(piece, PcmChunk):
            sound.append(piece)
            continue
        assert isinstance(piece, WordTimings)
        assert piece.chunk_id == 0
        words += piece.words
        assert piece.words[-1].end_ms <= sum(chunk.seconds for chunk in sound) * 1000
    return words, PcmChunk(sound[0].format, b"".join(bytes(chunk.data) for chunk in sound))


# --- speed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize("variant", ["+f3", "+m3"])
async def test_speed_changes_the_length_and_not_the_pitch(language: str, variant: str) -> None:
    source = LocalSource(variant)

    async def at(speed: float) -> PcmChunk:
        spoken = Utterance(text=SENTENCES[language], language=language, speed=speed)
        return await recorded(source.stream(spoken))

    usual = await at(1.0)
    for speed in (0.8, 1.2):
        other = await at(speed)
        assert spoken_s(other) == pytest.approx(spoken_s(usual) / speed, rel=0.08)
        assert pitch(other) == pytest.approx(pitch(usual), rel=0.03)


# --- markup ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "seconds"),
    [
        ('<break time="10ms"/>', 0.2),
        ('<break time="300ms"/>', 0.4),
        ('<break time="9s"/>', 0.5),
        ('<break strength="strong"/>', 0.5),
        ("<break/>", 0.2),
        ("<break/><break/>", 0.4),
    ],
)
async def test_a_break_is_silence_of_its_length(tag: str, seconds: float) -> None:
    pauses = pauses_s(await said(f"Halt {tag} jetzt"))
    assert pauses == [pytest.approx(seconds, abs=0.02)]


@pytest.mark.parametrize("variant", ["+f3", "+m3"])
async def test_a_break_has_its_length_in_a_voice_with_an_echo(variant: str) -> None:
    text = "Halt <break time='500ms'/> jetzt"
    sound = await recorded(LocalSource(variant).stream(utterance(text)))
    assert pauses_s(sound) == [pytest.approx(0.5, abs=0.03)]


async def test_a_break_of_no_strength_is_none() -> None:
    assert pauses_s(await said('Halt <break strength="none"/> jetzt')) == []


async def test_a_break_comes_on_top_of_the_pause_of_a_sentence() -> None:
    (usual,) = pauses_s(await said("Halt. Jetzt"))
    (longer,) = pauses_s(await said("Halt. <break/> Jetzt"))
    assert longer == pytest.approx(usual + 0.2, abs=0.02)


async def test_breaks_at_both_ends_are_heard() -> None:
    bare, framed = await said("Halt"), await said("<break/>Halt<break time='500ms'/>")
    assert framed.seconds == pytest.approx(bare.seconds + 0.7, abs=0.02)
    assert loud_spans_s(framed)[0][0] >= 0.19


@pytest.mark.parametrize(("rate", "speed"), [("slow", 0.8), ("fast", 1.2), ("0.9", 0.9)])
async def test_a_prosody_changes_the_length_of_its_words(rate: str, speed: float) -> None:
    words = "die Waschmaschine im Keller"

    async def span_s(text: str) -> float:
        sound = await said(f"Halt <break/> {text} <break/> jetzt")
        start_s, end_s = loud_spans_s(sound, 0.19)[1]
        return end_s - start_s

    usual, changed = await span_s(words), await span_s(f'<prosody rate="{rate}">{words}</prosody>')
    assert changed == pytest.approx(usual / speed, rel=0.08)


async def test_a_prosody_wins_over_the_speed() -> None:
    sentence = SENTENCES["de"]
    alone = await said(sentence)
    inside = await said(f'<prosody rate="medium">{sentence}</prosody>', speed=1.2)
    assert spoken_s(inside) == pytest.approx(spoken_s(alone), rel=0.01)


@pytest.mark.parametrize(("word", "language"), [("Haus", "de"), ("house", "en"), ("casa", "it")])
async def test_spelled_letters_take_longer_than_the_word(word: str, language: str) -> None:
    whole = spoken_s(await said(word, language))
    letters = spoken_s(await said(f"<spell>{word}</spell>", language))
    assert letters > 2 * whole


async def test_letters_that_are_words_are_spelled_all_the_same() -> None:
    # "z" and "w" are words in Polish ("with", "in"); their letters are called "zet" and "wu".
    words, letters = await said("z w z w", "pl"), await said("<spell>zwzw</spell>", "pl")
    assert spoken_s(letters) > 1.5 * spoken_s(words)


async def test_signs_are_spelled_by_their_names() -> None:
    german = await said("<spell>-</spell>", "de")
    assert german.data == (await said("Strich", "de")).data
    english = await said("<spell>_</spell>", "en")
    assert english.data == (await said("underscore", "en")).data


async def test_groups_are_heard_as_groups() -> None:
    assert pauses_s(await said('<spell group="2">1234</spell>'), 0.1) != []
    together = await said("<spell>1234</spell>")
    assert spoken_s(await said('<spell group="2">1234</spell>')) > spoken_s(together) + 0.05


@pytest.mark.parametrize(
    ("marked", "bare"),
    [
        ("Es <b>klingelt</b> laut", "Es klingelt laut"),
        ('<audio src="x"/>Es klingelt', "Es klingelt"),
        ("<voice name='x'>Es klingelt</voice>", "Es klingelt"),
    ],
)
async def test_other_tags_are_not_heard(marked: str, bare: str) -> None:
    assert (await said(marked)).data == (await said(bare)).data


async def test_a_sign_that_begins_no_tag_is_not_read_as_one() -> None:
    # To an engine that reads markup, all of it from the sign on would be a tag.
    cut = await said("Wenn a")
    whole = await said("Wenn a <prosody und sonst nichts mehr zu sagen ist")
    assert spoken_s(whole) > spoken_s(cut) + 1
    spelled = await said("<spell>A&B</spell> und <sub alias='x")
    assert spoken_s(spelled) > 1


async def test_numbers_are_read_in_the_language() -> None:
    german, english = await said("12", "de"), await said("12", "en")
    assert german.data != english.data
    assert german.data == (await said("zwölf", "de")).data
    assert english.data == (await said("twelve", "en")).data


# --- when words sound ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("Grüße, schöne Welt!", "de", ["Grüße", "schöne", "Welt"]),
        (
            "The end of the day is at 12:30, isn't it?",
            "en",
            ["The", "end", "of", "the", "day", "is", "at", "12:30", "isn't", "it"],
        ),
        ("Um 3,5 km - „ja“ (gut)\nEnde", "de", ["Um", "3,5", "km", "ja", "gut", "Ende"]),
        ("5 < 6 & a", "de", ["5", "6", "&", "a"]),
        ("Code <spell>A-1</spell>. Ende", "de", ["Code", "A", "-", "1", "Ende"]),
        (
            "Sehr <prosody rate='slow'>sehr</prosody> <break/> gut",
            "de",
            ["Sehr", "sehr", "gut"],
        ),
        ("你好世界。今天", "zh", list("你好世界今天")),
    ],
)
async def test_every_word_is_timed_once(text: str, language: str, words: list[str]) -> None:
    found, sound = await timed(text, language)
    assert [word.word for word in found] == words
    latest = 0.0
    for word in found:
        assert latest <= word.start_ms < word.end_ms <= sound.seconds * 1000
        latest = word.end_ms


async def test_characters_are_those_of_the_text_without_markup() -> None:
    text = "Halt, <break/><b>es</b> <prosody rate='slow'>klingelt</prosody> <spell>AB</spell>!"
    bare = "Halt, es klingelt AB!"
    found, _ = await timed(text)
    assert [bare[word.char_start : word.char_end] for word in found] == [
        word.word for word in found
    ]
    assert [word.word for word in found] == ["Halt", "es", "klingelt", "A", "B"]


async def test_a_word_is_where_it_is_heard() -> None:
    text = "Eins <break time='500ms'/> zwei <break time='500ms'/> drei. Vier. Fünf."
    found, sound = await timed(text)
    spans = loud_spans_s(sound, 0.15)
    assert len(found) == len(spans) == 5
    for word, (start_s, end_s) in zip(found, spans, strict=True):
        assert word.start_ms / 1000 == pytest.approx(start_s, abs=0.08)  # a "t" begins mute
        assert word.end_ms / 1000 == pytest.approx(end_s, abs=0.03)


async def test_words_that_are_run_together_say_that_they_are_estimates() -> None:
    found, _ = await timed("the end of the day", "en")
    scores = {word.word: word.score for word in found}
    assert scores["end"] == 1.0
    assert scores["of"] == 0.5


async def test_words_follow_their_clause_not_the_whole_text() -> None:
    order = [
        isinstance(piece, WordTimings)
        async for piece in LocalSource().timed(utterance("Es klingelt. " * 5))
    ]
    assert order.index(True) < len(order) / 2


async def test_the_timed_sound_is_the_sound() -> None:
    text = "Es klingelt an der Haustür. <break/> Jetzt."
    _, sound = await timed(text)
    assert sound.seconds == pytest.approx((await said(text)).seconds, abs=0.01)


async def test_without_the_library_it_speaks_untimed_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    local = LocalSource(library=LoaderSource(libraries=[("libno-such-thing.so", "")]))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            pieces = [piece async for piece in local.timed(utterance("Hallo"))]
            assert pieces
            assert all(isinstance(piece, PcmChunk) for piece in pieces)
    assert len([line for line in caplog.messages if "no word timestamps" in line]) == 1


async def test_without_library_and_program_the_remedy_is_named() -> None:
    library = LoaderSource(libraries=[])
    local = LocalSource(program="no-such-espeak", library=library)
    with pytest.raises(ServiceUnavailableError, match="apt install espeak-ng"):
        await anext(local.timed(utterance("Hallo")))
