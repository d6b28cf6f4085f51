"""What the bridge tells about itself."""

from __future__ import annotations

import json

from kugel_bridge.app import news
from kugel_bridge.model.announcement import Announcement, TextSegment
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.report import Outcome, Report, SourceKind
from kugel_bridge.model.status import AudioStatus, PlayState
from kugel_bridge.ops.secrets import MASK
from kugel_bridge.settings.tree import Settings

SECRETS = ("ka_secret-key", "broker-secret", "gateway-secret")


def settings() -> Settings:
    key, password, gateway = SECRETS
    return Settings.model_validate(
        {
            "cloud": {"api_key": key},
            "mqtt": {"username": "kugel", "password": password},
            "gateway": {"keys": [gateway]},
            "alerts": {"smoke": {"text": {"en": "Smoke!"}}},
        }
    )


def test_info_tells_the_whole_configuration_and_no_secret() -> None:
    text = json.dumps(news.info(settings()))
    assert not [secret for secret in SECRETS if secret in text]
    config = json.loads(text)["config"]
    assert config["mqtt"]["username"] == "kugel"
    assert config["mqtt"]["password"] == MASK
    assert config["gateway"]["keys"] == [MASK]
    assert config["alerts"]["smoke"]["text"] == {"en": "Smoke!"}


def test_several_zones_are_told_as_one() -> None:
    assert news.busiest([PlayState.IDLE, PlayState.SPEAKING]) is PlayState.SPEAKING
    assert news.busiest([PlayState.PAUSED, PlayState.IDLE]) is PlayState.PAUSED
    assert news.worst([AudioStatus.OK, AudioStatus.BUSY]) is AudioStatus.BUSY
    assert news.worst([AudioStatus.OK]) is AudioStatus.OK


def test_the_last_outcome_names_what_is_known_only() -> None:
    now = Instant(1.0, 1.0)
    announcement = Announcement(id="a", segments=(TextSegment("Hi"),), received=now)
    report = Report(
        event=Outcome.FINISHED,
        announcement=announcement,
        zone="hall",
        at=now,
        source=SourceKind.CACHE,
        first_sound_ms=3,
    )
    assert news.last_outcome(report) == {
        "id": "a",
        "outcome": "finished",
        "zone": "hall",
        "text": "Hi",
        "source": "cache",
        "first_sound_ms": 3,
    }


def test_the_figures_of_the_process_are_plausible() -> None:
    figures = news.process_figures()
    assert 5 < figures["process"]["memory_used_mb"] < 2_000
    assert figures["process"]["open_files"] > 2
    json.dumps(figures)
