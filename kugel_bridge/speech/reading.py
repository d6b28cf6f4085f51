"""A text as an engine without markup reads it out: passages, pauses, and which letter is where.

`<break>`, `<spell>` and `<prosody rate>` are carried out here, any other tag is dropped. A `<` that
is none stays a sign among others: no engine is handed markup.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kugel_bridge.speech.markup import mended, pieces, rate_of, snapped_pause_s

MAX_PASSES = 8
"""What taking out one tag brings together ("<<b>break/>") the next pass sees."""

_SPELLED_SIGNS: Mapping[str, tuple[str, str, str, str]] = {
    # @ . - _
    "en": ("at", "dot", "dash", "underscore"),
    "de": ("ät", "Punkt", "Strich", "Unterstrich"),
    "fr": ("arobase", "point", "tiret", "tiret bas"),
    "es": ("arroba", "punto", "guion", "guion bajo"),
    "it": ("chiocciola", "punto", "trattino", "trattino basso"),
    "pt": ("arroba", "ponto", "hífen", "sublinhado"),
    "nl": ("apenstaartje", "punt", "streepje", "laag streepje"),
    "pl": ("małpa", "kropka", "myślnik", "podkreślnik"),
    "sv": ("snabel-a", "punkt", "bindestreck", "understreck"),
    "da": ("snabel-a", "punktum", "bindestreg", "understreg"),
    "no": ("krøllalfa", "punktum", "bindestrek", "understrek"),
    "fi": ("ät", "piste", "viiva", "alaviiva"),
    "cs": ("zavináč", "tečka", "pomlčka", "podtržítko"),
    "sk": ("zavináč", "bodka", "pomlčka", "podčiarkovník"),
    "hu": ("kukac", "pont", "kötőjel", "aláhúzás"),
    "ro": ("arond", "punct", "cratimă", "liniuță jos"),
    "tr": ("et", "nokta", "tire", "alt çizgi"),
    "ru": ("собака", "точка", "тире", "подчёркивание"),
    "uk": ("равлик", "крапка", "тире", "підкреслення"),
}
"""In other languages the engine names them as it can."""
_UNSPEAKABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Controls would end the text for some engines, and halves of characters cannot be sent at all."""
_ENDED = re.compile(r"[.,;:!?…。\uff01\uff1f、\uff0c]['\")\]»“”]*\s*$")
_PARAGRAPH = re.compile(r"[^\S\n]*\n\s*")
_BEGUN_AGAIN = re.compile(r"\s*[.,;:!?…]")
_SPELL = re.compile(r"<(/?)\s*spell\b[^<>]*>", re.IGNORECASE)
_GROUP = re.compile(r"group=\"([1-9])\"")


@dataclass(frozen=True, slots=True)
class Passage:
    """Words in one go, and the silence after them."""

    text: str
    """Free of markup; empty where there is only a pause."""
    places: tuple[int, ...] = field(repr=False)
    """For each character of the text its place in `Reading.spoken`."""
    rate: float | None = None
    """A speed of its own (0.8 to 1.2) that wins over the utterance's."""
    is_spelled: bool = False
    """Letters and names of signs with blanks between them: a word of one sign is a letter."""
    is_ended: bool = False
    """The sentence or clause ends here: the engine's own pause stays."""
    pause_s: float = 0.0
    """Silence that `<break>` puts after it (s)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text taken apart."""

    spoken: str
    """The text without markup."""
    passages: tuple[Passage, ...]


@dataclass(slots=True)
class _Draft:
    text: str
    places: list[int]
    rate: float | None = None
    is_spelled: bool = False
    is_ended: bool = False
    pause_s: float = 0.0

    def done(self) -> Passage:
        return Passage(
            self.text,
            tuple(self.places),
            self.rate,
            self.is_spelled,
            self.is_ended,
            self.pause_s,
        )


def read(text: str, language: str, *, has_pace: bool = True) -> Reading:
    """How an engine reads the text out; `language` names the signs of spelled pieces.

    A `<spell>` that is left open goes on to the end. For an engine without a pace (`has_pace`)
    nothing is parted that only differs in it.
    """
    text = _UNSPEAKABLE.sub(" ", text)
    if "<" not in text:
        places = list(range(len(text)))
        return Reading(text, (_with_paragraphs(_Draft(text, places)).done(),))
    if (tags := _SPELL.findall(text)) and not tags[-1]:
        text += "</spell>"
    for _ in range(MAX_PASSES):
        before, text = text, mended(text)
        if text == before:
            break
    spoken: list[str] = []
    at = 0
    drafts: list[_Draft] = []
    rate: float | None = None
    for piece, is_tag in pieces(text):
        if not is_tag:
            _add_words(drafts, piece, at, rate)
            heard = piece
        elif piece.startswith("<spell"):
            heard = piece[piece.index(">") + 1 : piece.rindex("<")]
            drafts.append(_spelled(piece, heard, at, language, rate))
        else:
            heard = ""
            if piece.startswith("<break"):
                if not drafts:
                    drafts.append(_Draft("", []))
                drafts[-1].pause_s += snapped_pause_s(piece)
            else:
                rate = rate_of(piece) if has_pace and piece[1] != "/" else None
        spoken.append(heard)
        at += len(heard)
    return Reading("".join(spoken), tuple(draft.done() for draft in drafts))


def wordless_pause_s(text: str) -> float | None:
    """How long a text without words asks to wait (s), 0 if not even that; None if it has words."""
    if "<" not in text:
        return None if _UNSPEAKABLE.sub(" ", text).strip() else 0.0
    passages = read(text, "").passages
    if any(passage.text.strip() for passage in passages):
        return None
    return sum(passage.pause_s for passage in passages)


def is_speakable(text: str) -> bool:
    """Whether there is anything in it that has a sound."""
    return any(
        unicodedata.category(character)[0] in "LNS" or character in "%&@#§*" for character in text
    )


def _add_words(drafts: list[_Draft], piece: str, at: int, rate: float | None) -> None:
    before = drafts[-1] if drafts else None
    if before is not None and before.is_spelled and _BEGUN_AGAIN.match(piece):
        # "<spell>AB</spell>." says nothing more, but the sentence is over.
        before.is_ended = True
    if is_speakable(piece):
        draft = _with_paragraphs(_Draft(piece, list(range(at, at + len(piece))), rate))
        goes_on = before is not None and not (before.is_spelled or before.pause_s)
        if before is not None and goes_on and before.text and before.rate == rate:
            before.text += draft.text
            before.places += draft.places
            before.is_ended = draft.is_ended
        else:
            drafts.append(draft)
    elif before is not None and _ENDED.search(piece):
        before.is_ended = True


def _with_paragraphs(draft: _Draft) -> _Draft:
    """A line's end becomes a sentence's: engines run a heading into what follows it."""
    if "\n" in draft.text:
        text: list[str] = []
        places: list[int] = []
        end = 0
        for match in _PARAGRAPH.finditer(draft.text):
            start = match.start()
            text.append(draft.text[end:start])
            places += draft.places[end:start]
            mark = ". " if draft.text[start - 1 : start].isalnum() else " "
            text.append(mark)
            places += [draft.places[start]] * len(mark)
            end = match.end()
        text.append(draft.text[end:])
        places += draft.places[end:]
        draft.is_ended = draft.text.rstrip(" ").endswith("\n")
        draft.text, draft.places = "".join(text), places
    draft.is_ended = draft.is_ended or bool(_ENDED.search(draft.text))
    return draft


def _spelled(tag: str, letters: str, at: int, language: str, rate: float | None) -> _Draft:
    names = dict(zip("@.-_", _SPELLED_SIGNS.get(language, ()), strict=False))
    group = _GROUP.search(tag.partition(">")[0])
    text: list[str] = []
    places: list[int] = []
    for number, (place, letter) in enumerate(_grouped(letters, int(group[1]) if group else 0)):
        if letter:
            small = letter.lower()
            said = names.get(letter, small if len(small) == 1 else letter)
            said = f" {said}" if number else said
        else:
            said = ","
        text.append(said)
        places += [at + place] * len(said)
    return _Draft("".join(text), places, rate, is_spelled=True)


def _grouped(letters: str, group: int) -> Iterator[tuple[int, str]]:
    """Place and sign; an empty one between two groups of `group` signs (0 = as they stand)."""
    count = 0
    parted = False
    for place, letter in enumerate(letters):
        if letter.isspace() or letter == ",":
            parted = count > 0
            continue
        if parted or (group and count == group):
            yield place - 1, ""
            count, parted = 0, False
        count += 1
        yield place, letter
