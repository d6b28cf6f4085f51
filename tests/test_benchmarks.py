"""The table of figures says rightly what was reached, and the README has its place."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from benchmarks.__main__ import README
from benchmarks.aims import Aim, rows, told
from benchmarks.figures import Times
from benchmarks.report import BEGIN, END, replaced, section
from benchmarks.suite import SUITE


@pytest.mark.parametrize(
    ("aim", "value", "row"),
    [
        (Aim("wait", "x", 5.0, "ms"), 5.0, ("wait", "≤ 5 ms", "5 ms", "yes")),
        (Aim("wait", "x", 5.0, "ms"), 5.1, ("wait", "≤ 5 ms", "5.1 ms", "no")),
        (Aim("gain", "x", 5.0, "x", at_least=True), 4.9, ("gain", "≥ 5 x", "4.9 x", "no")),
        (Aim("gain", "x", 5.0, "x", at_least=True), 12.0, ("gain", "≥ 5 x", "12 x", "yes")),
        (Aim("lost", "x", 0.0), 0, ("lost", "0", "0", "yes")),
        (Aim("lost", "x", 0.0), 1, ("lost", "0", "1", "no")),
        (Aim("size", "x", unit="MB"), 1234.5, ("size", "", "1234 MB", "")),
        (Aim("size", "y", 3.0, "MB"), 1.0, ("size", "", "missing", "no")),
    ],
)
def test_a_row_tells_whether_its_aim_was_reached(
    aim: Aim, value: float, row: tuple[str, str, str, str]
) -> None:
    assert aim.row({"x": value}) == row


def test_a_bound_may_be_a_figure_itself() -> None:
    aim = Aim("added, of {n}", "slow.added_ms", "spread_ms", "ms")
    found = {"n": 3, "slow": {"added_ms": 0.4}, "spread_ms": 0.5}
    assert aim.row(found) == ("added, of 3", "≤ 0.5 ms", "0.4 ms", "yes")
    assert aim.row(found | {"spread_ms": 0.3})[3] == "no"


def test_a_benchmark_that_broke_is_a_row_of_its_own() -> None:
    aims = [Aim("wait", "x", 5.0), Aim("lost", "y", 0.0)]
    assert rows(aims, "burst", {"broken": "no broker"}) == [
        ("burst", "", "broken: no broker", "no")
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.1234, "0.123"), (99.96, "100"), (1234.5, "1234"), (1_318_912, "1,318,912")],
)
def test_figures_are_told_with_the_digits_that_count(value: float, text: str) -> None:
    assert told(value) == text


def test_the_99th_percentile_of_few_rounds_is_the_worst() -> None:
    assert Times("few", (1.0, 9.0, 2.0)).p99 == 9.0
    assert Times("many", tuple(map(float, range(1000)))).p99 == 990.0


def test_the_readme_has_one_place_for_the_figures() -> None:
    readme = README.read_text()
    assert readme.count(BEGIN) == readme.count(END) == 1
    before, after = readme.split(BEGIN)[0], readme.split(END)[1]
    assert replaced(readme, "new") == f"{before}{BEGIN}\n\nnew\n\n{END}{after}"


def test_a_readme_without_its_markers_is_not_touched() -> None:
    with pytest.raises(ValueError, match="put the two lines back"):
        replaced("# Figures\n", "new")


def test_every_benchmark_has_a_module_and_a_paragraph() -> None:
    broken: dict[str, Any] = {"broken": "no broker", "arguments": [1], "seconds": 2}
    results = {
        "date": "2026-01-01",
        "quick": True,
        "machine": {
            "cores": 2,
            "processor": "a board",
            "kernel": "Linux 6",
            "python": "3.11",
            "load_before": 0.1,
        },
        "benchmarks": {each.name: broken for each in SUITE},
    }
    text = section(results, SUITE)
    for each in SUITE:
        assert importlib.util.find_spec(f"benchmarks.{each.name}")
        assert f"| {each.name} |  | broken: no broker | no |" in text
        assert f"- **{each.name}** (1; 2 s). {each.method}" in text
