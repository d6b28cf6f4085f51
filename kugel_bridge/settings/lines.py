"""In which line of a TOML text each key stands; the standard library's parser does not tell."""

from __future__ import annotations

import re

Path = tuple[str, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*({_DOTTED})[ \t]*\]\]?")
_ASSIGNMENT = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
# The order matters: three quotes before one.
_TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|.''',
    re.DOTALL,
)


def key_lines(text: str) -> dict[Path, int]:
    """Line numbers, from 1, of tables and keys in a valid TOML text; keys of inline tables are
    found at the line of the key that holds the table."""
    found: dict[Path, int] = {}
    table: Path = ()
    place = 0
    while place < len(text):
        line = text.count("\n", 0, place) + 1
        if header := _HEADER.match(text, place):
            table = _parts(header[1])
            found.setdefault(table, line)
            place = header.end()
        elif assignment := _ASSIGNMENT.match(text, place):
            found.setdefault((*table, *_parts(assignment[1])), line)
            place = assignment.end()
        place = _end_of_statement(text, place)
    return found


def _end_of_statement(text: str, place: int) -> int:
    depth = 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        assert token is not None, "the last alternative takes any sign"
        place = token.end()
        if token[0] in ("[", "{"):
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            break
    return place


def _parts(dotted: str) -> Path:
    parts = re.findall(_KEY, dotted)
    # Escapes inside a quoted key are left as they are: they only cost a line number.
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in parts)
