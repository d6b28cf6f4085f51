"""The settings as a list with words: for the commented file, and to check the manual with."""

from __future__ import annotations

import datetime
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_origin

from pydantic import BaseModel, SecretStr

from kugel_bridge.settings.house import Alert, Level, Phrase, Zone
from kugel_bridge.settings.not_yet import is_not_yet
from kugel_bridge.settings.tree import Settings, fields
from kugel_bridge.settings.voice import VoiceEntry

COLUMNS = 98

_SAMPLES: Mapping[str, tuple[type[BaseModel], str]] = {
    "zones": (Zone, "main"),
    "alerts": (Alert, "smoke"),
    "phrases": (Phrase, "door"),
    "gateway": (VoiceEntry, "voices.anna"),
}
"""Sections with names of the user's, and a name for the sample."""

_CHOICES = ("engine", "sink")
"""Keys of which only some values are not supported yet; their descriptions name the others."""

_HEAD = """\
kugel-bridge configuration.

Every key is shown with its default and commented out: an empty file is valid. "(not set)" marks
keys without a default, shown with an example.

Each key may also be set by a variable KUGEL_BRIDGE_<SECTION>__<KEY>, as
KUGEL_BRIDGE_MQTT__HOST=broker.local; the variable wins. Secrets are better kept elsewhere: in
$KUGELAUDIO_API_KEY, or in the credential files cloud_api_key and mqtt_password of systemd.
`kugel-bridge config check` finds mistakes, `kugel-bridge config show` shows what is in effect.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key."""

    section: str
    """As in the file's header, with `<name>` where people choose the name."""
    key: str
    default: Any
    """None = not set."""
    fixed: bool
    """False where the default depends on the machine."""
    example: Any
    description: str
    not_yet: bool


def entries() -> Iterator[Entry]:
    """Every key there is, in the order of the sections."""
    for name, info in fields(Settings).items():
        if name == "priority":
            yield from _of(Level(), "priority.<level>")
        elif name != "zones" and isinstance(
            default := info.get_default(call_default_factory=True), BaseModel
        ):
            yield from _of(default, name)
        if name in _SAMPLES:
            kind, sample = _SAMPLES[name]
            yield from _of(kind, _any_name(name, sample, "<name>"))


def example_file() -> str:
    """The commented configuration file."""
    lines = _comment(_HEAD)
    for name, info in fields(Settings).items():
        default = info.get_default(call_default_factory=True)
        lines += ["", *_comment(_summary(name, default, info.description))]
        if name == "priority":
            for level in type(default).model_fields:
                lines += [
                    f"[priority.{level}]",
                    *_keys(getattr(default, level), level != "critical"),
                    "",
                ]
            lines.pop()
        elif name == "words":
            lines += ["#[words.en]", '#"KNX" = "K N X"']
        elif name != "zones" and isinstance(default, BaseModel):
            lines += [f"[{name}]", *_keys(default)]
        if name in _SAMPLES:
            kind, sample = _SAMPLES[name]
            header = f"[{name}.{sample}]"
            lines += (
                [header, *_keys(kind())] if name == "zones" else ["", f"#{header}", *_keys(kind)]
            )
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A value as TOML; JSON's strings and lists are TOML too."""
    if isinstance(value, SecretStr):
        return '"********"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return json.dumps(value.value)
    if isinstance(value, int | float):
        return f"{value:g}" if value == int(value) and abs(value) < 1e6 else repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    # TOML forbids DEL unescaped, which JSON leaves as it is.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(key: str) -> str:
    """A key as TOML, in quotes where it needs them."""
    return (
        key
        if key.isascii() and key.replace("_", "").replace("-", "").isalnum()
        else json.dumps(key)
    )


def _any_name(section: str, sample: str, name: str) -> str:
    """The path of a table with a name of the user's, as `zones.<name>`."""
    return ".".join([section, *sample.split(".")[:-1], name])


def _of(section: BaseModel | type[BaseModel], name: str) -> Iterator[Entry]:
    for field, info in fields(section).items():
        key = info.alias or field
        if get_origin(info.annotation) is dict:
            continue  # tables with names of the user's have a sample of their own
        if isinstance(section, BaseModel):
            default = getattr(section, field)
        else:
            default = None if info.is_required() else info.get_default(call_default_factory=True)
        fixed = info.default_factory is None
        yield Entry(
            section=name,
            key=key,
            default=default,
            fixed=fixed,
            example=(info.examples or [None])[0],
            description=info.description or "",
            not_yet=is_not_yet((*name.replace("<name>", "any").split("."), key)),
        )


def _keys(section: BaseModel | type[BaseModel], bare: bool = False) -> list[str]:
    lines: list[str] = []
    for entry in _of(section, _name_of(section)):
        unset = entry.default is None or not entry.fixed
        value = entry.example if unset else entry.default
        if not bare:
            note = " (not set)" if entry.default is None else ""
            choice = entry.key in _CHOICES
            later = " Not yet supported." if entry.not_yet and not choice else ""
            lines += _comment(f"{entry.description}{later}{note}")
        # Two signs: uncommenting everything must leave a file that loads.
        sign = "##" if entry.not_yet and entry.key not in ("enabled", *_CHOICES) else "#"
        lines.append(f"{sign}{entry.key} = {toml_value(value)}")
    return lines


def _name_of(section: BaseModel | type[BaseModel]) -> str:
    kind = section if isinstance(section, type) else type(section)
    for name, info in fields(Settings).items():
        if info.annotation is kind:
            return name
    return next(
        (
            _any_name(name, sample, "any")
            for name, (other, sample) in _SAMPLES.items()
            if other is kind
        ),
        "",
    )


def _summary(name: str, default: Any, description: str | None) -> str:
    if isinstance(default, BaseModel) and name != "priority":
        return inspect.getdoc(type(default)) or ""
    if name == "zones":
        return "A table for each place with a loudspeaker; the first one is the default zone."
    if name == "priority":
        return "How announcements of each level are treated unless they say otherwise."
    return description or ""


def _comment(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.rstrip("\n").split("\n"):
        lines += textwrap.wrap(paragraph, COLUMNS - 2, break_on_hyphens=False) or [""]
    return [f"# {line}".rstrip() for line in lines]
