"""What is wrong with a configuration, in words a person can act on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.ops.secrets import MASK
from kugel_bridge.settings.house import Alert, Alerts
from kugel_bridge.settings.sources import SECRET_PATHS
from kugel_bridge.settings.tree import Settings, fields
from kugel_bridge.settings.values import WrongKeyError

KeyPath = tuple[str, ...]

MAX_SHOWN = 60
"""Longer values are cut: the line has to stay readable."""
_SECRET_NAME = re.compile(r"key|pass|pwd|secret|token|cred|auth", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"(?:eu-|us-|global-)?(?:ka|kgl|sk)_|sha256:|\S{32,}$")


@dataclass(frozen=True, slots=True)
class Problem:
    """One setting that cannot stay as it is."""

    path: KeyPath
    value: str
    """As it may be shown; empty = nothing to show."""
    remedy: str
    """What is wrong, and what would be right."""
    origin: str = ""

    def __str__(self) -> str:
        where = f" ({self.origin})" if self.origin else ""
        shown = f" = {self.value}" if self.value else ""
        return f"{'.'.join(self.path)}{shown}{where}: {self.remedy}"


class SettingsError(ConfigurationError):
    """One or more wrong settings; its text is the first one, and how many there are more."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        more = len(problems) - 1
        rest = f" (and {more} more: `kugel-bridge config check`)" if more else ""
        super().__init__(f"{problems[0]}{rest}")
        self.problems = tuple(problems)


def problems_of(error: ValidationError, origins: Mapping[KeyPath, str]) -> list[Problem]:
    """Every finding of pydantic, in our words."""
    found: dict[KeyPath, Problem] = {}
    for item in error.errors(include_url=False):
        path = tuple(str(part) for part in item["loc"] if part != "[key]")
        kind, value = item["type"], item["input"]
        if isinstance(error_of_ours := item.get("ctx", {}).get("error"), WrongKeyError):
            path = (*path, error_of_ours.key)
            value = value.get(error_of_ours.key) if isinstance(value, Mapping) else None
        # A union reports once for each of its members; the first one is enough.
        if path in found:
            continue
        if kind == "extra_forbidden":
            text, remedy = _shown_unknown(path, value), _unknown(path)
        else:
            # For a wrong name pydantic hands in the name, which the path shows already.
            text = "" if item["loc"][-1:] == ("[key]",) else shown(path, value)
            remedy = _remedy(item) + (_near_key(path) if kind == "model_type" else "")
        found[path] = Problem(path, text, remedy, origin_of(path, origins))
    return list(found.values())


def shown(path: KeyPath, value: Any) -> str:
    """A value as it may be printed; empty for tables, stars for secrets."""
    if isinstance(value, dict | BaseModel):
        return ""
    if isinstance(value, SecretStr) or path[:2] in SECRET_PATHS:
        return MASK
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def origin_of(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """Where a setting, or else what holds it, or something in it, was written."""
    for length in range(len(path), 0, -1):
        if origin := origins.get(path[:length]):
            return origin
    return next((text for key, text in origins.items() if key[: len(path)] == path), "")


def known_keys(path: KeyPath) -> list[str]:
    """The names that may stand below `path`; empty where any name may."""
    kind: Any = Settings
    for part in path:
        kind = _below(kind, part)
    return [info.alias or name for name, info in fields(kind).items()] if _is_model(kind) else []


def _below(kind: Any, part: str) -> Any:
    if _is_model(kind):
        named = {info.alias or name: info.annotation for name, info in fields(kind).items()}
        if part in named:
            return next(_tables(named[part]), None)
        return Alert if kind is Alerts else None
    if get_origin(kind) is dict:
        return next(_tables(get_args(kind)[1]), None)
    return None


def _tables(annotation: Any) -> Iterator[Any]:
    if _is_model(annotation) or get_origin(annotation) is dict:
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from _tables(inner)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _unknown(path: KeyPath) -> str:
    *above, _ = path
    known = known_keys(tuple(above))
    what = "key" if above else "section"
    if near := _near_key(path):
        return f"unknown {what}{near}"
    if not above:
        return f"unknown section; there are {', '.join(known)}"
    return f"unknown key; [{'.'.join(above)}] knows {', '.join(known)}"


def _near_key(path: KeyPath) -> str:
    import difflib

    *above, name = path
    known = known_keys(tuple(above))
    if name in known:
        return ""
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {'.'.join([*above, *near])}?" if near else ""


def _shown_unknown(path: KeyPath, value: Any) -> str:
    import difflib

    # A secret under a mistyped name is still a secret.
    if not isinstance(value, bool | int | float) and (
        _SECRET_NAME.search(path[-1])
        or any(difflib.get_close_matches(path[-1], [secret[-1]]) for secret in SECRET_PATHS)
        or _SECRET_VALUE.match(str(value))
    ):
        return "" if isinstance(value, dict) else MASK
    return shown(path, value)


_REMEDIES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "must be set",
    "greater_than": lambda ctx: f"must be more than {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']:g}",
    "less_than": lambda ctx: f"must be less than {ctx['lt']:g}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']:g}",
    "literal_error": lambda ctx: f"must be {ctx['expected']}",
    "enum": lambda ctx: f"must be {ctx['expected']}",
    "string_too_short": lambda _: "must not be empty",
    "string_pattern_mismatch": lambda _: 'must be a time of day, as "22:30"',
    "finite_number": lambda _: "must be a finite number",
    "value_error": lambda ctx: str(ctx["error"]),
}
_TYPES = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be a text in quotes",
    "list": 'must be a list, as ["a", "b"]',
    "dict": "must be a table",
    "model": "must be a table",
    "path": "must be a path in quotes",
}


def _remedy(item: Mapping[str, Any]) -> str:
    kind: str = item["type"]
    if kind in _REMEDIES:
        return _REMEDIES[kind](item.get("ctx", {}))
    return _TYPES.get(kind.split("_", maxsplit=1)[0], str(item["msg"]))
