"""Which file is read, what overrides what, and what every key is without one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kugel_bridge.model.announcement import OfflineRule, Priority
from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.settings import load as load_module
from kugel_bridge.settings.load import Configuration, load
from kugel_bridge.settings.sink import SinkAddress, SinkKind
from kugel_bridge.settings.sources import readable_by_others
from kugel_bridge.settings.tree import leaves

Loader = Callable[[str], Configuration]


def test_an_empty_file_is_valid_and_everything_is_a_default(loaded: Loader) -> None:
    configuration = loaded("")
    assert {configuration.origin(path) for path, _ in leaves(configuration.settings)} == {"default"}
    assert list(configuration.settings.zones) == ["main"]
    assert str(configuration.settings.zones["main"].sink) == "alsa:default"


def test_without_a_file_there_are_defaults() -> None:
    assert load().file is None


@pytest.mark.parametrize("text", ["", "[zones]\n"])
def test_there_is_always_a_default_zone(loaded: Loader, text: str) -> None:
    assert loaded(text).settings.default_zone == "main"


def test_the_first_zone_of_the_file_is_the_default_one(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUGEL_BRIDGE_ZONES__ATTIC__SINK", "null:")
    zones = '[zones.kitchen]\nsink = "null:"\n[zones.attic]\nvolume = 30\n'
    settings = loaded(zones).settings
    assert settings.default_zone == "kitchen"
    assert settings.zones["attic"].volume == 30
    assert settings.zones["attic"].sink == SinkAddress(SinkKind.NULL, "")


def test_the_chosen_file_wins_over_the_variable_and_that_over_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / f"{name}.toml" for name in ("chosen", "variable", "system")}
    for name, path in files.items():
        path.write_text(f'[device]\nid = "{name}"\n')
    monkeypatch.setattr(load_module, "CONFIGURATION_FILE", files["system"])
    assert load().settings.device.id == "system"
    monkeypatch.setenv("KUGEL_BRIDGE_CONFIG", str(files["variable"]))
    assert load().settings.device.id == "variable"
    assert load(files["chosen"]).settings.device.id == "chosen"


def test_variables_override_the_file_key_by_key(
    loaded: Loader, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUGEL_BRIDGE_MQTT__PORT", "1999")
    monkeypatch.setenv("KUGEL_BRIDGE_MQTT__TLS", "true")
    monkeypatch.setenv("KUGEL_BRIDGE_DEVICE__GROUPS", "upstairs, all-rooms")
    monkeypatch.setenv("KUGEL_BRIDGE_MQTT__BASE_TOPIC", "")  # counts as not set
    configuration = loaded('[mqtt]\nhost = "broker"\nport = 1\nbase_topic = "house"\n')
    mqtt = configuration.settings.mqtt
    assert (mqtt.host, mqtt.port, mqtt.tls, mqtt.base_topic) == ("broker", 1999, True, "house")
    assert configuration.settings.device.groups == ["upstairs", "all-rooms"]
    assert configuration.origin(("mqtt", "host")) == f"{file}, line 2"
    assert configuration.origin(("mqtt", "port")) == "$KUGEL_BRIDGE_MQTT__PORT"
    assert configuration.origin(("mqtt", "keepalive_s")) == "default"


def test_a_list_in_a_variable_may_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUGEL_BRIDGE_DEVICE__GROUPS", '["a", "b"]')
    assert load().settings.device.groups == ["a", "b"]


def test_secrets_come_from_variable_then_credential_then_conventional_variable_then_file(
    loaded: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[cloud]\napi_key = "file"\n'

    def key() -> str:
        return loaded(text).settings.cloud.effective_key

    assert key() == "file"
    monkeypatch.setenv("KUGELAUDIO_API_KEY", "conventional")
    assert key() == "conventional"
    (tmp_path / "cloud_api_key").write_text("credential\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert key() == "credential"
    monkeypatch.setenv("KUGEL_BRIDGE_CLOUD__API_KEY", "variable")
    assert key() == "variable"


def test_the_broker_s_password_comes_from_its_credential(
    loaded: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mqtt_password").write_text("hunter2\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    configuration = loaded('[mqtt]\nusername = "kugel"\n')
    password = configuration.settings.mqtt.password
    assert password is not None
    assert password.get_secret_value() == "hunter2"
    assert str(tmp_path / "mqtt_password") in configuration.origin(("mqtt", "password"))


def test_an_empty_credential_counts_as_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cloud_api_key").write_text("\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load().settings.cloud.effective_key == ""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_credential_that_everybody_may_read_is_refused(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = open_folder / "cloud_api_key"
    secret.write_text("ka_hidden")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(open_folder))
    secret.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"cloud\.api_key.*chmod 600") as caught:
        load()
    assert "ka_hidden" not in str(caught.value)
    secret.chmod(0o600)
    assert load().settings.cloud.effective_key == "ka_hidden"


def test_a_file_in_a_folder_closed_to_others_is_not_exposed(open_folder: Path) -> None:
    secret = open_folder / "secret"
    secret.touch(0o644)
    assert readable_by_others(secret)
    open_folder.chmod(0o700)
    assert not readable_by_others(secret)


@pytest.mark.parametrize(
    ("level", "ttl_s", "first_sound_s"),
    [
        (Priority.CRITICAL, 3600, 1.5),
        (Priority.HIGH, 300, 2.5),
        (Priority.NORMAL, 900, 4),
        (Priority.LOW, 1800, 8),
        (Priority.STATUS, 60, 4),
    ],
)
def test_each_level_has_its_own_defaults(
    loaded: Loader, level: Priority, ttl_s: float, first_sound_s: float
) -> None:
    rules = loaded("").settings.priority.by_priority[level]
    assert (rules.ttl_s, rules.first_sound_s) == (ttl_s, first_sound_s)
    assert (rules.offline, rules.dedupe_s) == (OfflineRule.SPEAK, 0)


def test_one_key_of_a_level_leaves_its_others_alone(loaded: Loader) -> None:
    high = loaded('[priority.high]\noffline = "wait"\n').settings.priority.high
    assert (high.ttl_s, high.first_sound_s, high.offline) == (300, 2.5, OfflineRule.WAIT)


def test_files_lie_where_systemd_says(loaded: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", "/c/one:/c/two")
    monkeypatch.setenv("STATE_DIRECTORY", "/s")
    settings = loaded("").settings
    assert settings.cache.dir == Path("/c/one")
    assert settings.queue.path == Path("/s/queue.db")
    assert settings.alerts.dir == Path("/s/alerts")


def test_files_lie_in_the_user_s_folders_otherwise(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CACHE_DIRECTORY", "STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("HOME", "/home/me")
    settings = loaded("").settings
    assert settings.cache.dir == Path("/x/kugel-bridge")
    assert settings.queue.path == Path("/home/me/.local/state/kugel-bridge/queue.db")


def test_the_port_follows_tls(loaded: Loader) -> None:
    assert loaded("").settings.mqtt.effective_port == 1883
    assert loaded("[mqtt]\ntls = true\n").settings.mqtt.effective_port == 8883
    assert loaded("[mqtt]\ntls = true\nport = 1\n").settings.mqtt.effective_port == 1


def test_texts_of_the_user_s_are_kept_as_written(loaded: Loader) -> None:
    settings = loaded(
        '[words.de-DE]\nKNX = "K N X"\n[phrases.door]\ntext = "{who} is here"\nvoice = 7\n'
        '[alerts.smoke]\ntext = { de = "Rauch!", en = "Smoke!" }\n[alerts.bell]\ntext = "Bell"\n'
    ).settings
    assert settings.words == {"de": {"KNX": "K N X"}}
    assert settings.phrases["door"].voice == "7"
    assert list(settings.alerts.named) == ["smoke", "bell"]
    assert settings.alerts.named["smoke"].text == {"de": "Rauch!", "en": "Smoke!"}


@pytest.mark.parametrize(
    ("chime", "name"), [("false", False), ("true", "ding-dong"), ('"ding"', "ding")]
)
def test_a_chime_is_off_on_or_named(loaded: Loader, chime: str, name: str | bool) -> None:
    settings = loaded(f"[zones.a]\nchime = {chime}\n").settings
    assert settings.zones["a"].chime == name
    assert settings.shown["zones"]["a"]["chime"] == name


@pytest.mark.parametrize("keep_open_s", [-1, 0, 0.5])
def test_a_device_stays_open_always_or_for_a_time(loaded: Loader, keep_open_s: float) -> None:
    settings = loaded(f"[zones.a]\nkeep_open_s = {keep_open_s}\n").settings
    assert settings.zones["a"].keep_open_s == keep_open_s


def test_usage_is_counted_beside_the_queue_unless_told_otherwise(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/s")
    queue = "[queue]\npath = '~/a/q.db'\n"
    beside = loaded(f"{queue}[gateway]\nport = 8781\n")
    assert beside.settings.gateway.usage_path == Path.home() / "a" / "usage.db"
    assert beside.settings.gateway.port == 8781
    assert beside.origin(("gateway", "usage_path")) == "default"
    assert loaded(queue).settings.gateway.usage_path == Path.home() / "a" / "usage.db"
    assert loaded("").settings.gateway.usage_path == Path("/s/usage.db")
    own = loaded(f"{queue}[gateway]\nusage_path = '/u.db'\n")
    assert own.settings.gateway.usage_path == Path("/u.db")


def test_a_missing_directory_of_credentials_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load().warnings == ()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "gone"))
    [warning] = load().warnings
    assert warning.startswith(f"$CREDENTIALS_DIRECTORY = {tmp_path}/gone: no such directory")


def test_settings_cannot_be_changed(loaded: Loader) -> None:
    settings = loaded("").settings
    with pytest.raises(ValueError, match="frozen"):
        settings.mqtt.host = "other"


def test_secrets_are_known_for_the_log_and_printed_nowhere(loaded: Loader) -> None:
    settings = loaded(
        '[cloud]\napi_key = "eu-ka_1"\n[mqtt]\nusername = "u"\npassword = "pw2"\n'
        '[gateway]\nkeys = ["gw3"]\n'
    ).settings
    assert set(settings.secrets) == {"eu-ka_1", "ka_1", "pw2", "gw3"}
    printed = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert not any(secret in printed for secret in settings.secrets)


def test_a_file_with_a_secret_that_everybody_may_read_earns_a_warning(
    open_folder: Path,
) -> None:
    file = open_folder / "config.toml"
    file.write_text('[cloud]\napi_key = "ka_1"\n')
    (warning,) = load(file).warnings
    assert "cloud.api_key" in warning
    assert f"chmod 600 {file}" in warning
    file.chmod(0o600)
    assert load(file).warnings == ()


def test_an_alert_without_its_recording_earns_a_warning(loaded: Loader, tmp_path: Path) -> None:
    file = tmp_path / "smoke.wav"
    text = f"[alerts.smoke]\nfile = '{file}'\n"
    (warning,) = loaded(text).warnings
    assert warning.startswith(f"alerts.smoke.file = {file}: no such file")
    file.touch()
    assert loaded(text).warnings == ()


def test_a_file_without_secrets_may_be_read_by_everybody(open_folder: Path) -> None:
    file = open_folder / "config.toml"
    file.write_text('[device]\nid = "a"\n')
    assert load(file).warnings == ()


def test_a_key_sent_in_clear_earns_a_warning(loaded: Loader) -> None:
    text = '[cloud]\napi_key = "k"\nbase_url = "http://{}:8780"\n'
    assert any("unencrypted" in line for line in loaded(text.format("10.0.0.9")).warnings)
    assert not any("unencrypted" in line for line in loaded(text.format("127.0.0.1")).warnings)
