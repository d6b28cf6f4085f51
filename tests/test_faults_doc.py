"""The table of faults is complete, and a test stands behind every row."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = {
    int(found[1]): found[0]
    for found in re.finditer(
        r"^\| (\d+) \|.*$", (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"), re.MULTILINE
    )
}
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@functools.cache
def functions_in(path: str) -> set[str]:
    """The names of all functions of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_every_fault_has_its_row() -> None:
    assert list(ROWS) == list(range(1, 44))


@pytest.mark.parametrize("number", ROWS)
def test_every_named_test_exists(number: int) -> None:
    *_, tests, _ = ROWS[number].split("|")
    rest = NAMED.sub("", tests).strip()
    assert rest in ("", "(open)"), f"row {number} names something that is no test: {rest}"
    for path, name in NAMED.findall(tests):
        assert name in functions_in(path), f"row {number}: {path} has no {name}"


def test_no_row_is_open() -> None:
    assert not [number for number, row in ROWS.items() if "(open)" in row]
