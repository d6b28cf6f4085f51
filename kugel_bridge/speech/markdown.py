"""Markdown taken off a text, the words under it left as they are."""

from __future__ import annotations

import re

_FENCE = re.compile(r"(?:`{3,}|~{3,})[^`~\s]*")
_RULE_SIGNS = frozenset("-=_*|:+ \t")
_DEFINITION = re.compile(r"\[[^\[\]]+\]:\s+\S+.*")
_BULLET = re.compile(
    r"(?:(?P<heading>#{1,6})(?=\s|$)|[-*•‣◦·\u2013](?=\s)|[+>]+(?=\s+\D)|\[[ xX]\](?=\s))\s*"
)
_ROW = re.compile(r"\|(.+)\|")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)")
_REFERENCE = re.compile(r"(?<!\w)!?\[([^\[\]]+)\]\[[^\[\]]*\]")
_FOOTNOTE = re.compile(r"\[\^[^\[\]]+\]")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+.!|~>-])")
_RUN = re.compile(r"\*+|_+|~~+")


def without_markdown(text: str) -> str:
    """The text without headings, lists, quotes, rules, tables, links, code marks and emphasis.

    Signs that mean something stay: `2 * 3`, `C#`, `snake_case`, `~20`, `1. first`.
    """
    lines = (_line(line) for line in text.split("\n") if line)
    return "\n".join(line for line in lines if line)


def _line(line: str) -> str:
    line = line.strip()
    if _FENCE.fullmatch(line) or _DEFINITION.fullmatch(line) or _is_rule(line):
        return ""
    is_heading, begin = False, 0
    while found := _BULLET.match(line, begin):
        is_heading = is_heading or bool(found["heading"])
        begin = found.end()
    line = line[begin:]
    if is_heading:
        line = re.sub(r"(?<!\S)#+$", "", line).rstrip()
    if row := _ROW.fullmatch(line):
        line = ", ".join(cell.strip() for cell in row[1].split("|") if cell.strip())
    line = _FOOTNOTE.sub("", _REFERENCE.sub(r"\1", _LINK.sub(r"\1", line)))
    line = _ESCAPE.sub(r"\1", line).replace("`", "")
    return _without_emphasis(line)


def _is_rule(line: str) -> bool:
    """A ruler, the line under a heading, or the one under a table's head."""
    return set(line) <= _RULE_SIGNS and sum(map(line.count, "-=_*")) >= 3  # by definition


def _without_emphasis(line: str) -> str:
    """One go over the line: marks that open wait on a stack for marks that close."""
    dropped: set[int] = set()
    runs = list(_RUN.finditer(line))
    waiting: dict[str, list[int]] = {"*": [], "_": [], "~": []}
    for number, run in enumerate(runs):
        sign = run[0][0]
        before, after = _neighbours(line, run)
        inside_word = before.isalnum() and after.isalnum()
        if inside_word and (len(run[0]) == 1 or sign == "_" or before.isdigit()):
            continue
        closes = bool(before) and not before.isspace() and (sign != "_" or not after.isalnum())
        opens = bool(after) and not after.isspace() and (sign != "_" or not before.isalnum())
        if closes and waiting[sign]:
            dropped.update((waiting[sign].pop(), number))
        elif opens and (not before.isalnum() or len(run[0]) > 1):
            waiting[sign].append(number)
        if number not in dropped and _is_stray(run[0], before, after):
            # It may still find its partner; alone it would be read aloud.
            dropped.add(number)
    out, end = [], 0
    for number, run in enumerate(runs):
        if number in dropped:
            out.append(line[end : run.start()])
            end = run.end()
    return "".join([*out, line[end:]]).strip()


def _is_stray(run: str, before: str, after: str) -> bool:
    """Whether an unpaired mark means nothing: `**Attention`, `free*`, `____`."""
    if run[0] == "_":
        return len(run) > 2  # a gap to fill in
    if len(run) > 1:
        return not (before.isalnum() and after.isalnum())
    return (not before.isalnum() and after.isalnum()) or (before.isalpha() and not after.isalnum())


def _neighbours(line: str, run: re.Match[str]) -> tuple[str, str]:
    start, end = run.span()
    return line[max(0, start - 1) : start], line[end : end + 1]
