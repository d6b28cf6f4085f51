"""The commented file tells the truth."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kugel_bridge.settings.load import Configuration, load
from kugel_bridge.settings.manual import entries, example_file, toml_key, toml_value
from kugel_bridge.settings.tree import Settings, leaves

Loader = Callable[[str], Configuration]
MACHINE_S = {
    ("device", "id"),
    ("cache", "dir"),
    ("queue", "path"),
    ("alerts", "dir"),
    ("gateway", "usage_path"),
}
EXAMPLE = Path(__file__).parents[2] / "config" / "kugel-bridge.example.toml"


def uncommented(text: str) -> str:
    """Every sample line made a real one."""
    return re.sub(r"(?m)^#(?=[\w\[\"])", "", text)


def test_the_example_in_the_repository_is_what_init_writes() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == example_file()


def test_the_example_as_it_stands_changes_nothing() -> None:
    assert load(EXAMPLE).settings == Settings()


def test_what_is_commented_out_are_the_defaults(loaded: Loader) -> None:
    defaults = dict(leaves(Settings()))
    # Samples with names of the user's are no defaults; neither do the others all go together.
    text = re.sub(
        r"(?m)^#\[(alerts|phrases|words|gateway\.voices)\..*\n(?:.+\n)*", "", example_file()
    )
    text = re.sub(r"(?m)^(#(ca|cert|key)_file|#warm|#password|#wyoming_uri) = .*\n", "", text)
    given = dict(leaves(loaded(uncommented(text)).settings))
    for path, value in given.items():
        if defaults[path] is not None and path not in MACHINE_S:
            assert value == defaults[path], path


def test_every_key_has_words_and_a_sample() -> None:
    listed = list(entries())
    assert len(listed) > 60
    for entry in listed:
        assert entry.description.endswith("."), entry
        assert (entry.default if entry.fixed else None) is not None or entry.example is not None, (
            entry
        )


@pytest.mark.parametrize(
    "value", ['a"b\\c\n\x7fü', True, 0, 1.5, -1.0, 1e9, ["a", "b"], {"a b": 1}]
)
def test_values_are_written_as_toml_that_reads_the_same(value: object) -> None:
    import tomllib

    assert tomllib.loads(f"{toml_key('a key')} = {toml_value(value)}") == {"a key": value}
