from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.speech.clean import cleaned

_SNIPPETS = """
# - * ** __ _ ` ``` ~~ [a](b) ![ ]( ] &amp; &lt; &#x1F600; & ; <break /> <break/> <spell>
</spell> <prosody rate='slow' </prosody> <b> < > </ 😀 👍🏽 3️⃣ \u200d \ue000 \U000f0000 e\u0301
Wort x 5 2*3 C# . ! = --- [^1] \xad \\ <!-- --> <script> \x00 | |- |--|
"""
SNIPPETS = st.sampled_from([*_SNIPPETS.split(), " ", "  ", "\t", "\r\n", "\n", "\u2028", " * "])
SLOPPY = st.lists(SNIPPETS | st.text(max_size=6), max_size=24).map("".join)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Es klingelt.", "Es klingelt."),
        ("# Titel\n\nText", "Titel\nText"),
        ("## Titel ##", "Titel"),
        ("- eins\n* zwei\n+ drei", "eins\nzwei\ndrei"),
        ("1. Eier\n2. Milch", "1. Eier\n2. Milch"),
        ("**fett** und _kursiv_ und ~~weg~~ und `code`", "fett und kursiv und weg und code"),
        ("***beides*** __fett__", "beides fett"),
        ("**Achtung: Tür offen", "Achtung: Tür offen"),
        ("Siehe [hier](https://example.org/a_b) ![Bild](x.png)", "Siehe hier Bild"),
        ("```python\nx\n```", "x"),
        ("> Zitat", "Zitat"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a, b\n1, 2"),
        ("oben\n---\nunten", "oben\nunten"),
        ("2 * 3 = 6", "2 * 3 = 6"),
        ("2*3*4", "2*3*4"),
        ("C# und F#", "C# und F#"),
        ("5 < 6 und 7 > 6", "5 < 6 und 7 > 6"),
        ("a<b and c>d", "a<b and c>d"),
        ("sensor.living_room_temp", "sensor.living_room_temp"),
        ("~20 °C bei 50 %", "~20 °C bei 50 %"),
        ("-5 °C, 3.5 kg, 1/2", "-5 °C, 3.5 kg, 1/2"),
        ("#1 ist #wach", "#1 ist #wach"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom &amp;amp; Jerry", "Tom & Jerry"),
        ("5 &lt; 6", "5 < 6"),
        ("AT&T &copy und &unknown;", "AT&T &copy und &unknown;"),
        ("Hallo 😀 Welt 😀.", "Hallo Welt."),
        ("Hallo😀Welt", "Hallo Welt"),
        ("👍🏽 3️⃣ 🇩🇪 👨‍👩‍👧 ok", "3 ok"),
        ("Stern \u2605 und Haken \u2713", "Stern und Haken"),
        ("a\x00b\x07c\x1b[0m", "abc[0m"),
        ("Sil\xadben\u200btrennung", "Silbentrennung"),
        ("e\u0301te\u0301", "été"),
        ("\ud83d kaputt", "kaputt"),
        ("  zwei   Wörter \t\n\n\n neu ", "zwei Wörter\nneu"),
        ("Zeile\r\nZeile\rZeile", "Zeile\nZeile\nZeile"),
        ("<p>Ein <b>fetter</b> Absatz</p><p>Zwei<br/>drei</p>", "Ein fetter Absatz\nZwei\ndrei"),
        ("<speak>Hallo <voice name='x'>du</voice></speak>", "Hallo du"),
        ("vor<!-- nicht --> nach<script>alert(1)</script>", "vor nach"),
        ("Mail von Max <max@example.org>", "Mail von Max"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("/\u02c8ku\u02d0\u0261l\u0329/ ist IPA", "/\u02c8ku\u02d0\u0261l\u0329/ ist IPA"),
    ],
)
def test_what_is_written_becomes_what_is_said(written: str, said: str) -> None:
    assert cleaned(written, "de", {}) == said


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ('a <break time="300ms"/> b', 'a <break time="300ms"/> b'),
        ("a <BREAK time=1.5s> b", 'a <break time="1.5s"/> b'),
        ("a <break time='500'/> b", 'a <break time="500ms"/> b'),
        ("a <break time='2'/> b", 'a <break time="2s"/> b'),
        ("a <break strength='weak'></break> b", 'a <break strength="weak"/> b'),
        ("a <break onclick='x' /> b", "a <break/> b"),
        ("<spell>AB-12</spell>", "<spell>AB-12</spell>"),
        ('<spell group="2">1234</spell>', '<spell group="2">1234</spell>'),
        ("<spell>__a_b__ *c*</spell>", "<spell>__a_b__ *c*</spell>"),
        ("<spell>nie zu", "nie zu"),
        ("zu</spell>", "zu"),
        ("<spell></spell>x", "x"),
        ("<say-as interpret-as='characters'>AB</say-as>", "<spell>AB</spell>"),
        ("<say-as interpret-as='date'>1.2.</say-as>", "1.2."),
        ('<prosody rate="slow">a</prosody>', '<prosody rate="slow">a</prosody>'),
        ("<prosody rate='90%' pitch='+2st'>a</prosody>", '<prosody rate="0.9">a</prosody>'),
        ("<prosody rate='5'>a</prosody>", '<prosody rate="1.2">a</prosody>'),
        ("<prosody pitch='high'>a</prosody>", "a"),
        ("<prosody rate='fast'>a", "a"),
        (
            "<prosody rate='fast'>a <prosody rate='slow'>b</prosody> c</prosody>",
            '<prosody rate="fast">a b c</prosody>',
        ),
        (
            "<prosody rate='fast'>a <spell>b</prosody> c</spell>",
            '<prosody rate="fast">a b</prosody> c',
        ),
        ("&lt;break/&gt; a", "<break/> a"),
        ("**<spell>AB</spell>** x", "<spell>AB</spell> x"),
    ],
)
def test_the_tags_of_the_cloud_are_kept_and_mended(written: str, kept: str) -> None:
    assert cleaned(written, "de", {}) == kept


@pytest.mark.parametrize(
    "text", ["", "  ", "😀", "<break/>", "---", "...", "<b></b>", "**", "\x00", "!"]
)
def test_nothing_is_left_of_what_cannot_be_said(text: str) -> None:
    assert cleaned(text, "de", {}) == ""


@given(SLOPPY)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = cleaned(text, "de", {})
    assert cleaned(once, "de", {}) == once


@given(SLOPPY)
def test_what_comes_out_can_be_sent(text: str) -> None:
    out = cleaned(text, "de", {"wort": "Satz <b>neu</b>"})
    out.encode()
    assert unicodedata.is_normalized("NFC", out)
    assert out == out.strip()
    assert not any(unicodedata.category(c) == "Cc" and c != "\n" for c in out)
    assert "  " not in out.replace("<spell>", "").replace("\n", " x ") or "<spell" in out


@given(st.text(alphabet=st.characters(categories=["L", "Nd"]), min_size=1, max_size=20))
def test_words_survive(word: str) -> None:
    assert cleaned(word, "de", {}) == unicodedata.normalize("NFC", word)


WORDS = {"kwh": "Kilowattstunden", "z.B.": "zum Beispiel", "tv": "TV-Gerät", "IT": "Informatik"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("5 kWh", "5 Kilowattstunden"),
        ("kwhs bleibt", "kwhs bleibt"),
        ("z.B. so", "zum Beispiel so"),
        ("das tv, Tv", "das TV-Gerät, TV-Gerät"),
        ("it ist nicht IT", "it ist nicht Informatik"),
        ("<spell>IT</spell> **IT**", "<spell>IT</spell> Informatik"),
    ],
)
def test_the_word_list_acts_on_whole_words(written: str, said: str) -> None:
    assert cleaned(written, "de", WORDS) == said
    assert cleaned(said, "de", WORDS) == said


def test_a_word_in_small_letters_keeps_the_capital_of_a_sentence() -> None:
    assert cleaned("Ca drei, ca vier", "de", {"ca": "circa"}) == "Circa drei, circa vier"


def test_a_word_list_may_hold_signs_and_tags() -> None:
    assert cleaned("20°C", "de", {"°C": " Grad"}) == "20 Grad"
    assert cleaned("Kugel", "de", {"kugel": "<spell>KGL</spell>"}) == "<spell>KGL</spell>"


@pytest.mark.parametrize(
    "text",
    [
        "*a " * 20_000,
        "<prosody rate=slow>" * 3_000,
        "[a" * 30_000,
        "&amp;" + "amp;" * 16_000,
        "<script" * 9_000,
        "\\" * 60_000,
        "<break>" * 9_000,
        "\n" * 60_000,
        "[" * 30_000 + "](b)" * 8_000,
        "a" + " " * 65_000 + "b",
        "\t " * 30_000,
        "<prosody " + "a" * 60_000 + ">",
        "<a" + "." * 60_000,
        "😀" * 100_000 + "a",
        "." * 60_000,
        "_\n" * 30_000,
    ],
    ids=lambda text: str(text[:8]),
)
@pytest.mark.timeout(20)
def test_hostile_text_takes_no_time_to_speak_of(text: str) -> None:
    cleaned(text, "de", {"a": "b"})
