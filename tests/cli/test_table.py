"""Plain text tables."""

from __future__ import annotations

from kugel_bridge.cli.table import table


def test_columns_are_aligned_and_nothing_is_cut() -> None:
    rows = [(1071, "sam", ["en", "de"], True), (2, None, (), False)]
    assert list(table(("id", "handle", "languages", "own"), rows)) == [
        "id    handle  languages  own",
        "1071  sam     en,de      yes",
        "2     -       -          no",
    ]


def test_foreign_names_cannot_break_the_table() -> None:
    assert list(table(("a",), [("x\n\x1b[31my",)])) == ["a", "x  [31my"]
