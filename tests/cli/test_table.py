"""Plain text tables."""

from __future__ import annotations

import json

import pytest

from kugel_bridge.cli.table import print_json, table


def test_columns_are_aligned_and_nothing_is_cut() -> None:
    rows = [(1071, "sam", ["en", "de"], True), (2, None, (), False)]
    assert list(table(("id", "handle", "languages", "own"), rows)) == [
        "id    handle  languages  own",
        "1071  sam     en,de      yes",
        "2     -       -          no",
    ]


def test_foreign_names_cannot_break_the_table() -> None:
    assert list(table(("a",), [("x\n\x1b[31my",)])) == ["a", "x  [31my"]


def test_json_is_the_same_to_a_program_and_no_order_to_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = {"text": "Gr\u00fc\u00dfe \x1b[31m\x7f\x9b31m\x85\u20ac"}
    print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert [sign for sign in out if not sign.isprintable() and sign != "\n"] == []
    assert "Gr\u00fc\u00dfe" in out
