"""Modules that libraries import at once and that we may never need: loaded when first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any


class _Postponed(ModuleType):
    """Stands in for a module; becomes it as soon as anything of it is asked for."""

    _functions: Collection[str]

    def __getattr__(self, name: str) -> Any:
        if name in self._functions:
            return self._later(name)
        if self._functions and name == "__path__":
            # Asked for by every `from ... import`, to see whether it means a module inside.
            raise AttributeError(name)
        return getattr(self._loaded(), name)

    def _later(self, name: str) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            return getattr(self._loaded(), name)(*positional, **named)

        return call

    def _loaded(self) -> ModuleType:
        own = self.__name__
        # Threads may meet here: importing takes the lock of the module.
        if sys.modules.get(own) is self:
            del sys.modules[own]
        return importlib.import_module(own)


def postpone(name: str, functions: Collection[str] = ()) -> None:
    """Let `import <name>` cost nothing until the module is used; nothing if it is loaded already.

    `functions` may be taken out of it (`from name import function`) without loading it; they
    load it when they are called.
    """
    if name in sys.modules:
        return
    module = _Postponed(name)
    module._functions = functions
    sys.modules[name] = module
    package, _, child = name.rpartition(".")
    if package:
        setattr(importlib.import_module(package), child, module)
