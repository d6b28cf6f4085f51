"""A configuration that only the test writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kugel_bridge.settings import load as load_module
from kugel_bridge.settings.load import Configuration, load
from kugel_bridge.settings.sources import KEY_VARIABLE, PREFIX

Loader = Callable[[str], Configuration]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of the machine reaches the test."""
    for name in list(os.environ):
        if name.startswith(PREFIX) or name in (KEY_VARIABLE, "CREDENTIALS_DIRECTORY"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(load_module, "CONFIGURATION_FILE", tmp_path / "none.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where `loaded` writes its text."""
    return tmp_path / "config.toml"


@pytest.fixture
def loaded(file: Path) -> Loader:
    """The configuration that a TOML text gives."""

    def read(text: str) -> Configuration:
        file.write_text(text, encoding="utf-8")
        return load(file)

    return read
