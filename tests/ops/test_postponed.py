"""A module that is postponed costs nothing until it is used, and is itself from then on."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kugel_bridge.ops.postponed import postpone

NAME = "kugel_bridge_test_shelf"
LOADED = "kugel_bridge_test_loaded"
"""Counts how often the module was executed."""


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    package = tmp_path / NAME
    package.mkdir()
    count = f"import sys; getattr(sys, {LOADED!r}).append(__name__)\n"
    (package / "__init__.py").write_text(f"{count}size = 3\ndef grown(by): return size + by\n")
    (package / "inner.py").write_text(f"{count}depth = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    loaded: list[str] = []
    monkeypatch.setattr(sys, LOADED, loaded, raising=False)
    yield loaded
    for name in [name for name in sys.modules if name.startswith(NAME)]:
        del sys.modules[name]


def test_nothing_is_loaded_before_something_of_it_is_used(shelf: list[str]) -> None:
    postpone(NAME)
    module = importlib.import_module(NAME)
    assert shelf == []
    assert (module.size, module.grown(4)) == (3, 7)
    assert shelf == [NAME]
    assert sys.modules[NAME] is not module
    assert importlib.import_module(NAME).size == 3


def test_what_it_does_not_have_is_missing_as_ever() -> None:
    postpone(NAME)
    module = importlib.import_module(NAME)
    with pytest.raises(AttributeError, match="colour"):
        _ = module.colour


def test_functions_may_be_taken_out_of_it_and_load_it_when_called(shelf: list[str]) -> None:
    postpone(NAME, functions=["grown"])
    namespace: dict[str, object] = {}
    exec(f"from {NAME} import grown", namespace)
    assert shelf == []
    assert eval("grown(by=1)", namespace) == 4
    assert shelf == [NAME]


def test_other_names_are_taken_out_of_the_module_itself(shelf: list[str]) -> None:
    postpone(NAME, functions=["grown"])
    namespace: dict[str, object] = {}
    exec(f"from {NAME} import size", namespace)
    assert (namespace["size"], shelf) == (3, [NAME])


def test_a_module_inside_of_a_package_is_found_there(shelf: list[str]) -> None:
    package = importlib.import_module(NAME)
    postpone(f"{NAME}.inner")
    assert shelf == [NAME]
    assert package.inner.depth == 7
    assert shelf == [NAME, f"{NAME}.inner"]


def test_a_module_that_is_loaded_already_stays(shelf: list[str]) -> None:
    module = importlib.import_module(NAME)
    postpone(NAME)
    assert sys.modules[NAME] is module


def test_threads_that_meet_at_its_first_use_all_get_it(shelf: list[str]) -> None:
    postpone(NAME)
    module, together = importlib.import_module(NAME), threading.Barrier(8)
    sizes: list[int] = []

    def use() -> None:
        together.wait()
        sizes.append(module.size)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sizes, shelf) == ([3] * 8, [NAME])
