"""The figures for people: Markdown, and their place in the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.aims import aims_table, rows, told
from benchmarks.figures import Figures, table
from benchmarks.suite import Benchmark

BEGIN, END = "<!-- results -->", "<!-- /results -->"
PICTURE = "announcing.svg"
TUNED = "tuned script"


def results_table(results: Figures, suite: Sequence[Benchmark]) -> str:
    """Every figure that was measured beside its aim; a benchmark that broke is one row."""
    outcomes: Mapping[str, Any] = results["benchmarks"]
    return aims_table(
        [
            row
            for each in suite
            if each.name in outcomes
            for row in rows(each.aims, each.name, outcomes[each.name])
        ]
    )


def contestants(results: Figures) -> list[Figures]:
    """Those of the race, the soonest first; nobody where it was not run or broke."""
    found = results["benchmarks"].get("announcing", {}).get("figures", {})
    return sorted(found.get("contestants", ()), key=lambda each: float(each["median_ms"]))


def peers_table(field: Sequence[Figures]) -> str:
    """The race."""
    tuned_ms = next(each["median_ms"] for each in field if each["name"] == TUNED)
    return table(
        [
            ("publish → first PCM", "median (ms)", "p99 (ms)", "of the tuned script's"),
            *(
                (
                    each["name"],
                    f"{each['median_ms']:.2f}",
                    f"{each['p99_ms']:.2f}",
                    f"{each['median_ms'] / tuned_ms:.2f}",
                )
                for each in field
            ),
        ]
    )


def imports_table(results: Figures) -> str:
    """What packages cost at the start; empty where that was not measured."""
    found = results["benchmarks"].get("start", {}).get("figures", {}).get("imports_ms", {})
    if not found:
        return ""
    return table([("import", "own time (ms)"), *((name, told(ms)) for name, ms in found.items())])


def tables(results: Figures, suite: Sequence[Benchmark]) -> str:
    """All of them."""
    found = [results_table(results, suite)]
    if field := contestants(results):
        found.append(peers_table(field))
    found.append(imports_table(results))
    return "\n\n".join(filter(None, found))


def circumstances(results: Figures) -> str:
    """When and on what, in one line."""
    machine = results["machine"]
    few = "; few rounds (`--quick`)" if results["quick"] else ""
    return (
        f"{results['date']}, {machine['cores']} cores ({machine['processor']}), "
        f"{machine['kernel']}, Python {machine['python']}, "
        f"load before {machine['load_before']}{few}."
    )


def caption(results: Figures) -> str:
    """The same, as short as over a picture."""
    machine = results["machine"]
    return f"{results['date']}, {machine['cores']} cores ({machine['processor']})"


def section(results: Figures, suite: Sequence[Benchmark]) -> str:
    """What stands between the markers, without them."""
    parts = [circumstances(results)]
    if contestants(results):
        parts.append(f"![From publish to first sound, beside the peers]({PICTURE})")
    parts.append(tables(results, suite))
    parts.append("\n".join(_method(each, results["benchmarks"][each.name]) for each in suite))
    return "\n\n".join(parts)


def _method(each: Benchmark, outcome: Mapping[str, Any]) -> str:
    arguments = " ".join(map(str, outcome["arguments"]))
    return f"- **{each.name}** ({arguments}; {outcome['seconds']} s). {each.method}"


def replaced(readme: str, text: str) -> str:
    """The README with `text` between its markers; raises ValueError if they are not there."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"benchmarks/README.md has no {BEGIN} … {END}: put the two lines back")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
