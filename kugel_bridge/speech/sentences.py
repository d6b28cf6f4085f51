"""Where sentences begin and end, and texts cut there."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator

from kugel_bridge.speech.markup import pieces

_STOP = re.compile(r"(?<![.!?…])[.!?…]+[\"'»“”\u2019)\]]*(?=\s)|[。\uff01\uff1f।]+[」』”]*|\n+")
_STOP_MARKS = ".!?…。\uff01\uff1f।"
_CLOSING_MARKS = "\"'»“”\u2019)]」』"
_CLAUSE = re.compile(r"[,;:\u2013\u2014][\"'»“”\u2019)\]]*(?=\s)|[\uff0c、\uff1b\uff1a]")
_BLANK = re.compile(r"\s+")
_SHORT = re.compile(r"(?:^|[\s(„\"'])(?:[^\W\d_]\.)*[^\W\d_]$")
"""Ends in single letters with points: `z.B`, `e.g`, `J`."""
_ORDINAL = re.compile(r"(?:^|[^\d.,])\d{1,2}$")
"""`am 3. Mai`: in a date or a list the point ends no sentence."""
_ABBREVIATED = """
abs allg bspw bzw ca dr etc evtl fr ggf hr inkl max min mio mrd nr prof sog st str tel usw vgl
approx dept inc jr ltd mr mrs ms mt no sr vs mme mlle env av bd ing sig sra dra num aprox
"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())


def split_at_sentences(text: str, limit: int) -> list[str]:
    """The text in parts of at most `limit` characters, each as long as it can be.

    Parts end with a sentence where they can, else with a clause, else with a word; only a word
    longer than `limit` is cut. Tags stay whole; a prosody that is cut ends and begins anew.
    Raises ValueError for a limit too small to hold a tag and a word.
    """
    if limit < 100:  # a tag pair alone can take 40
        raise ValueError(f"parts of {limit} characters are too small")
    if len(text) <= limit:
        return [text] if text.strip() else []
    parts: list[str] = []
    opened, rest = "", text.strip()
    # A prosody that is open at a cut is closed there, and repeated in front of the next part.
    closing = len("</prosody>") if "<prosody" in text else 0
    while rest:
        if len(opened) + len(rest) <= limit:
            parts.append(opened + rest)
            break
        cut = _cut(rest, limit - len(opened) - closing)
        head = rest[:cut].rstrip()
        part, now_open = opened + head, left_open(head, opened)
        parts.append(part + ("</prosody>" if now_open else ""))
        rest, opened = rest[cut:].lstrip(), now_open
    return parts


def sentence_starts(text: str, since: int = 0) -> list[int]:
    """The indexes at which sentences begin; the first is `since`, which is not inside a tag."""
    starts = [since]
    tags = list(_tag_spans(text, since))
    begin = since
    for end in _ends(text, _STOP, _ends_a_sentence, since):
        if end < begin:
            continue  # another newline in the same gap
        after = _BLANK.match(text, end)
        begin = after.end() if after else end
        if starts[-1] < begin < len(text) and not _inside(tags, begin):
            starts.append(begin)
    return starts


def decided_end(text: str) -> int:
    """Up to where more text changes nothing about the sentences that begin in this one.

    Whether the marks at its very end end a sentence depends on what comes next.
    """
    return len(text.rstrip().rstrip(_CLOSING_MARKS).rstrip(_STOP_MARKS))


def sentence_start(text: str, fraction: float) -> int:
    """The index where the sentence begins that is spoken after `fraction` (0 to 1) of the text."""
    spoken: list[int] = []
    """For each stretch of words: how much is spoken up to its end."""
    ends: list[int] = []
    index = said = 0
    for piece, is_tag in pieces(text):
        index += len(piece)
        said += 0 if is_tag and not piece.startswith("<spell") else len(piece)
        spoken.append(said)
        ends.append(index)
    if not said:
        return 0
    wanted = min(1.0, max(0.0, fraction)) * said
    stretch = min(bisect_right(spoken, wanted), len(spoken) - 1)
    position = min(ends[stretch] - 1, ends[stretch] - int(spoken[stretch] - wanted))
    starts = sentence_starts(text)
    return starts[bisect_right(starts, max(0, position)) - 1]


def _cut(text: str, room: int) -> int:
    """Where to cut off the first part, at most `room` characters long."""
    tags = list(itertools.takewhile(lambda span: span[0] <= room, _tag_spans(text)))
    for pattern, test in ((_STOP, _ends_a_sentence), (_CLAUSE, _always), (_BLANK, _always)):
        best = 0
        for end in _ends(text[: room + 1], pattern, test):
            if end <= room and not _inside(tags, end):
                best = end
        if best:
            return best
    # One word longer than a part: cut it, but not a tag, unless that is as long itself.
    for start, end in tags:
        if start < room < end:
            return start or room
    return room


def _ends(
    text: str, pattern: re.Pattern[str], test: Callable[[str, int], bool], since: int = 0
) -> Iterator[int]:
    for match in pattern.finditer(text, since):
        if test(text, match.start()):
            yield match.end()


def _always(text: str, at: int) -> bool:
    return at > 0


def _ends_a_sentence(text: str, at: int) -> bool:
    """Whether the mark at `at` ends a sentence, and not `Dr.`, `z.B.`, `3.`."""
    if text[at] not in ".…":
        return True
    if text[at] == ".":
        before = text[max(0, at - 12) : at]
        last = re.search(r"\w+$", before)
        if last is not None and last[0].lower() in _ABBREVIATIONS:
            return False
        if _SHORT.search(before) or _ORDINAL.search(before):
            return False
    following = _BLANK.search(text, at)
    return not (following and text[following.end() : following.end() + 1].islower())


def _tag_spans(text: str, since: int = 0) -> Iterator[tuple[int, int]]:
    index = since
    for piece, is_tag in pieces(text, since):
        if is_tag:
            yield index, index + len(piece)
        index += len(piece)


def _inside(spans: list[tuple[int, int]], index: int) -> bool:
    at = bisect_right(spans, (index, 0)) - 1
    return any(start < index < end for start, end in spans[max(0, at) : at + 2])


def left_open(text: str, opened: str) -> str:
    """The prosody tag that is open at the end of `text`, empty if none."""
    for piece, is_tag in pieces(text):
        if is_tag and piece.startswith("<prosody"):
            opened = piece
        elif is_tag and piece.startswith("</prosody"):
            opened = ""
    return opened
