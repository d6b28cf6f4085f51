"""The settings as plain values: what the daemon carries once they have been checked.

Checking takes pydantic, a fifth of a second and ten megabytes on a small machine, and is over when
the daemon begins. So it happens in a child process that ends with it (`reader.py`), and what comes
back has the same attributes and nothing behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn


class Section:
    """A table of the configuration: settings and what follows from them, as attributes."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        vars(self).update(values)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"settings are fixed; {name} cannot be changed")

    def __reduce__(self) -> tuple[type[Section], tuple[dict[str, Any]]]:
        return Section, (vars(self),)


class Secret:
    """A value that does not show itself."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """The value; named as in pydantic, whose secrets are used in the same places."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self._value,)
