"""Configuration of any kind: it is taken, or refused in words, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.mqtt.topics import Topics
from kugel_bridge.settings.load import load
from kugel_bridge.settings.tree import Settings, leaves

SECRET = "ka_tell-nobody"
# The folder of a test is the same for all of its examples, which overwrite one file.
# No deadline: how long a busy machine takes says nothing about what is read.
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = sorted({part for path, _ in leaves(Settings()) for part in path} | {"hall", "file", ""})
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | TEXTS
    | st.sampled_from(["alsa:hw:0", "wav:", "snapcast:x", "http://x", "08:00", "a/#", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)


def toml(value: Any) -> str:
    """A value as TOML writes it, tables inline."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case float():
            return repr(value)
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
    return json.dumps(value)


def taken_or_refused(path: Path, content: bytes) -> str:
    """Load it; the text of the refusal, or nothing."""
    path.write_bytes(content)
    try:
        load(path)
    except ConfigurationError as error:
        assert str(error)
        return str(error)
    return ""


@same_folder
@given(st.binary())
def test_any_bytes_are_a_configuration_or_refused(file: Path, content: bytes) -> None:
    taken_or_refused(file, content)


@same_folder
@given(st.text(alphabet="[]{}=\"'\n#.,_-:+0123456789abeinftz \\u"))
def test_what_looks_like_toml_is_a_configuration_or_refused(file: Path, text: str) -> None:
    taken_or_refused(file, text.encode())


@same_folder
@given(st.dictionaries(st.sampled_from(list(Settings.model_fields)), VALUES, max_size=4))
def test_any_values_under_any_keys_are_taken_or_refused(
    file: Path, sections: dict[str, Any]
) -> None:
    text = "\n".join(f"{json.dumps(name)} = {toml(value)}" for name, value in sections.items())
    taken_or_refused(file, text.encode())


@same_folder
@given(st.sampled_from([path for path, _ in leaves(Settings())]), VALUES)
def test_any_value_of_a_known_key_is_taken_or_refused(
    file: Path, path: tuple[str, ...], value: Any
) -> None:
    taken_or_refused(file, f"{'.'.join(path)} = {toml(value)}".encode())


@same_folder
@given(
    st.sampled_from(["cloud.api_key", "mqtt.password", "gateway.keys"]),
    st.recursive(
        st.sampled_from([SECRET, SECRET + " ", SECRET + "\n", 5]),
        lambda inner: (
            st.lists(inner, min_size=1, max_size=2)
            | st.dictionaries(st.sampled_from(["a", "b c"]), inner, min_size=1, max_size=2)
        ),
        max_leaves=3,
    ),
)
def test_a_secret_in_any_shape_is_not_shown(file: Path, key: str, value: Any) -> None:
    assert SECRET not in taken_or_refused(file, f"{key} = {toml(value)}".encode())


def test_nesting_without_end_is_refused(file: Path) -> None:
    assert "not valid TOML" in taken_or_refused(file, b"x = " + b"[" * 50_000)


@given(st.text(), st.text(), st.lists(st.text(), max_size=2), st.lists(st.text(), max_size=2))
def test_any_names_make_topics_or_a_configuration_error(
    base: str, device: str, groups: list[str], extra: list[str]
) -> None:
    try:
        Topics(base, device, groups, extra)
    except ConfigurationError as error:
        assert str(error)
