"""Results as plain text in columns, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Lines with aligned columns; nothing is cut, the last column is not padded."""
    cells = [tuple(head), *(tuple(_cell(value) for value in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def print_json(value: Any) -> None:
    """Print `value` as JSON, for programs and people."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value) or "-"
    # A line break or a terminal escape in a foreign name must not break the table.
    return "".join(sign if sign.isprintable() else " " for sign in str(value))
