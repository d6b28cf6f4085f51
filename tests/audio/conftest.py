"""The simulated sound card, built once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simcard import SimCard, built_simcard


@pytest.fixture(scope="session")
def simcard_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_simcard(tmp_path_factory.mktemp("simcard"))


@pytest.fixture
def card(tmp_path: Path, simcard_library: Path, monkeypatch: pytest.MonkeyPatch) -> SimCard:
    """A fresh card that ALSA knows as `sim`, `sim48`, `plugsim48` and `default`."""
    card = SimCard(tmp_path / "card", simcard_library)
    for name, value in card.environment().items():
        monkeypatch.setenv(name, value)
    return card
