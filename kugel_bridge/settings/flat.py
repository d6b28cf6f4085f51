"""From checked settings to plain ones; runs where pydantic is loaded anyway."""

from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel, SecretStr

from kugel_bridge.settings.plain import Secret, Section
from kugel_bridge.settings.tree import Settings


def flattened(settings: Settings) -> Settings:
    """The same attributes on plain objects, properties worked out; methods are left behind."""
    return cast(Settings, _plain(settings))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        names = [*type(value).model_fields, *_properties(type(value))]
        return Section({name: _plain(getattr(value, name)) for name in names})
    if isinstance(value, SecretStr):
        return Secret(value.get_secret_value())
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _properties(kind: type[BaseModel]) -> list[str]:
    """Those of our own classes; pydantic's say how a model was made."""
    own = [each for each in kind.__mro__ if each.__module__.startswith(__package__)]
    return [
        name
        for each in own
        for name, attribute in vars(each).items()
        if isinstance(attribute, property) and not name.startswith("_")
    ]
