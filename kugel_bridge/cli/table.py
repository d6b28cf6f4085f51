"""Results as plain text in columns, or as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Lines with aligned columns; nothing is cut, the last column is not padded."""
    cells = [tuple(head), *(tuple(_cell(value) for value in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def facts(named: Mapping[str, object]) -> Iterator[str]:
    """A line for each fact: its name, and its value where there is one."""
    width = max(map(len, named), default=0)
    for name, value in named.items():
        yield f"{name.ljust(width)}  {_cell(value)}"


def print_json(value: Any, out: TextIO | None = None) -> None:
    """Print `value` as JSON, for programs and people; on standard output unless told otherwise."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    # JSON lets these pass, and to a terminal they are orders as ESC is.
    print(re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text), file=out)


def plain(text: str) -> str:
    """Foreign text for a line of output: no line break, no terminal escape."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value) or "-"
    return plain(str(value))
