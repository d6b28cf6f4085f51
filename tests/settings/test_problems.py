"""What a person reads when something in the configuration is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.settings.load import Configuration, load
from kugel_bridge.settings.problems import SettingsError

Loader = Callable[[str], Configuration]


def complaint(loaded: Loader, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(text)
    assert "\n" not in str(caught.value)
    # What would end up in a traceback must not hold what was read.
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[mqtt]\nport = 99999\n", "mqtt.port = 99999 ({file}, line 2): must be at most 65535"),
        (
            "[mqtt]\nprot = 1\n",
            "mqtt.prot = 1 ({file}, line 2): unknown key; did you mean mqtt.port?",
        ),
        ("[mqqt]\n", "mqqt ({file}, line 1): unknown section; did you mean mqtt?"),
        ("[cache]\nzzz = 1\n", "cache.zzz = 1 ({file}, line 2): unknown key; [cache] knows dir, "),
        ("[zones.a]\nvolumee = 1\n", "did you mean zones.a.volume?"),
        ("[alerts.a]\ntexxt = 'x'\n", "did you mean alerts.a.text?"),
        ("[alerts]\ndirr = 'x'\n", "did you mean alerts.dir?"),
        ("[priority.hihg]\n", "did you mean priority.high?"),
        ("[priority]\nhigh = true\n", "priority.high = true ({file}, line 2): must be a table"),
        ("[zones.a]\nvolume = true\n", "zones.a.volume = true ({file}, line 2): must be a number"),
        ("[zones.a]\nvolume = nan\n", "must be a finite number"),
        ("[mqtt]\ntls = 'maybe'\n", 'mqtt.tls = "maybe" ({file}, line 2): must be true or false'),
        ("[mqtt]\nhost = 7\n", "must be a text in quotes"),
        ("[device]\ngroups = 7\n", "must be a list"),
        ("mqtt = 7\n", "must be a table"),
        ("[device]\nid = 'My House'\n", "'my-house' would be a valid name"),
        ("[device]\nid = 'group'\n", 'device.id = "group" ({file}, line 2): '),
        ("[device]\ngroups = ['A b']\n", "device.groups.0"),
        ("[zones.'My Zone']\n", "'my-zone' would be a valid name"),
        ("[zones.all]\n", "zones.all ({file}, line 1): cannot be the name of a zone"),
        ("[zones.a]\nsink = 'pulse:x'\n", '"alsa:<card or PCM name>", "wav:<file>" or "null:"'),
        ("[zones.a]\nsink = 'wav:'\n", 'needs something after "wav:"'),
        ("[zones.a]\nsink = 'alsa:hw:0,0'\n", "by its index"),
        ("[zones.a]\nkeep_open_s = -0.5\n", "must be -1 (always open), or at least 0"),
        ("[zones.a]\nchime = 'gong'\n", "must be false, true or one of"),
        ("[cloud]\nregion = 'mars'\n", "must be 'default' or 'eu'"),
        ("[cloud]\nlanguage = 'german'\n", '"en" or "de"'),
        ("[cloud]\nvoice_id = true\n", "kugel-bridge voices"),
        ("[cloud]\nbase_url = 'ftp://x'\n", "must look like https://host"),
        ("[cloud]\nspeed = 3\n", "must be at most 1.2"),
        (
            "[local]\nengine = 'wyoming'\n",
            'local.engine = "wyoming" ({file}, line 2): needs a server; set local.wyoming_uri',
        ),
        ("[local]\nwyoming_uri = 'tcp://x:1'\n", 'set local.engine = "wyoming"'),
        ("[local]\nwyoming_uri = 'x:1'\n", '"tcp://127.0.0.1:10200"'),
        ("[log]\nlevel = 'loud'\n", "must be 'debug', 'info', 'warning' or 'error'"),
        ("[words]\ndeutsch = {}\n", "language code"),
        ("[phrases.a]\n", "phrases.a.text ({file}, line 1): must be set"),
        ("[phrases.a]\ntext = '{a.b}'\n", "a variable looks like {{who}}"),
        ("[phrases.a]\ntext = '{'\n", "a variable looks like {{who}}"),
        ("[alerts.a]\n", "alerts.a ({file}, line 1): needs either text or file"),
        ("[alerts.a]\ntext = 5\n", "must be a text, or a table"),
        (
            "[mqtt]\npassword = 'x'\n",
            "mqtt.password = ******** ({file}, line 2): needs a username; set mqtt.username",
        ),
        (
            "[mqtt]\nca_file = '/x'\n",
            'mqtt.ca_file = "/x" ({file}, line 2): needs tls; set mqtt.tls = true',
        ),
        ("[mqtt]\ntls = true\nca_file = '/no/such'\n", 'mqtt.ca_file = "/no/such"'),
        ("[mqtt]\nbase_topic = 'a/#'\n", "must be a topic without"),
        ("[mqtt]\nextra_topics = ['kugel/#']\n", "mqtt.extra_topics ({file}, line 2): "),
        (
            "[gateway]\nhost = '0.0.0.0'\n",
            'gateway.host = "0.0.0.0" ({file}, line 2): would be open to everybody',
        ),
        ("[gateway]\nkeys = ['sha256:12']\n", "64 hexadecimal digits"),
        ("[gateway]\nkeys = ['a-key', 'eu-key']\n", "begins with eu-, which clients take"),
        ("[gateway]\nkeys = ['us-key']\n", "begins with us-, which clients take"),
        ("[gateway]\nkeys = ['global-key']\n", "begins with global-, which clients take"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(
    loaded: Loader, file: Path, text: str, expected: str
) -> None:
    assert expected.format(file=file) in complaint(loaded, text)


@pytest.mark.parametrize(
    "text",
    [
        "[hermes]\nenabled = true\n",
        "[wyoming]\nenabled = true\n",
        "[home_assistant]\nenabled = true\n",
        "[cloud]\ncharacters_per_day = 5\n",
        "[quiet]\nfrom = '22:00'\n",
        "quiet = { passes = 'high' }\n",
        "[zones.a]\nsink = 'snapcast:host'\n",
    ],
)
def test_what_is_not_built_is_refused_by_name(loaded: Loader, text: str) -> None:
    key = text.partition("\n")[2].partition(" ")[0] or "passes"
    found = complaint(loaded, text)
    assert "not yet supported; " in found
    assert f".{key} = " in found


@pytest.mark.parametrize(
    "text",
    [
        "[hermes]\nenabled = false\n",
        "[local]\nengine = 'none'\n",
        "[gateway]\nengine = 'local'\n",
        "[quiet]\n",
    ],
)
def test_the_off_value_of_what_is_not_built_is_fine(loaded: Loader, text: str) -> None:
    assert loaded(text).settings


@pytest.mark.parametrize(
    "text",
    [
        "[cloud]\napi_key = 'hunter2 x'\n",
        "[cloud]\napi_key = ['hunter2']\n",
        "[cloud]\napikey = 'hunter2'\n",
        "[mqtt]\npasword = 'hunter2'\n",
        "[mqtt]\nuser_pwd = 'hunter2'\n",
        "[cloud]\nkey = { value = 'hunter2' }\n",
        "[gateway]\nkeys = ['hunter2 x']\n",
        "[gateway]\nkeys = 'hunter2 x'\n",
        "[cloud]\nvoise = 'ka_hunter2'\n",
        "cloud = 'x'\nmqtt = { password = 'hunter2' }\n",
        "[mqtt]\npassword = 'hunter2\n",
    ],
)
def test_no_complaint_shows_a_secret(loaded: Loader, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(text)
    problems = getattr(caught.value, "problems", ())
    assert "hunter2" not in " ".join([str(caught.value), repr(problems)])


def test_the_right_name_with_a_wrong_value_is_not_called_a_slip(loaded: Loader) -> None:
    assert "did you mean" not in complaint(loaded, "[priority]\nhigh = true\n")


def test_a_complaint_about_a_variable_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUGEL_BRIDGE_MQTT__PORT", "many")
    with pytest.raises(
        ConfigurationError, match=r'mqtt\.port = "many" \(\$KUGEL_BRIDGE_MQTT__PORT\)'
    ):
        load()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("KUGEL_BRIDGE_MQTT_HOST", "KUGEL_BRIDGE_MQTT__HOST"),
        ("KUGEL_BRIDGE_HOME_ASSISTANT_ENABLED", "KUGEL_BRIDGE_HOME_ASSISTANT__ENABLED"),
        ("KUGEL_BRIDGE_MQTT", "KUGEL_BRIDGE_MQTT__<KEY>"),
    ],
)
def test_a_variable_that_nearly_names_a_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ConfigurationError, match=f"did you mean {meant}"):
        load()


def test_a_variable_that_names_nothing_of_ours_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUGEL_BRIDGE_IMAGE", "x")
    assert load().settings


def test_broken_toml_is_told_with_its_line(loaded: Loader, file: Path) -> None:
    found = complaint(loaded, "[mqtt]\nhost = \n")
    assert found.startswith(f"{file}: is not valid TOML")
    assert "line 2" in found


def test_a_file_that_is_no_text_is_told_with_its_line(file: Path) -> None:
    file.write_bytes(b"[mqtt]\nhost = '\xff'\n")
    with pytest.raises(ConfigurationError, match="line 2: is not UTF-8"):
        load(file)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file; `kugel-bridge config init"):
        load(tmp_path / "missing.toml")


def test_a_folder_in_the_file_s_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_all_mistakes_are_kept_and_the_first_one_is_told(loaded: Loader) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded("[mqtt]\nport = 0\nhots = 'x'\n[log]\nlevel = 1\n")
    assert len(caught.value.problems) == 3
    assert "(and 2 more: `kugel-bridge config check`)" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("[gateway]\nengine = 'upstream'\n", "set cloud.api_key"),
        (
            "[cloud]\nbase_url = 'http://127.0.0.1:8780'\n[gateway]\nengine = 'upstream'\n",
            "would ask itself",
        ),
    ],
)
def test_a_gateway_in_front_of_nothing_or_of_itself_is_refused(
    loaded: Loader, text: str, remedy: str
) -> None:
    found = complaint(loaded, text)
    assert "gateway.engine = " in found
    assert remedy in found


@pytest.mark.parametrize(
    "text",
    [
        "[cloud]\napi_key = 'ka_x'\n[gateway]\nengine = 'upstream'\nfallback = false\n",
        "[cloud]\nbase_url = 'http://127.0.0.1:8781'\n[gateway]\nengine = 'upstream'\n",
        "[cloud]\napi_key = 'ka_x'\n[gateway]\nengine = 'upstream'\nhidden_voices = ['samantha']\n",
    ],
)
def test_a_gateway_in_front_of_a_service_is_fine(loaded: Loader, text: str) -> None:
    assert loaded(text).settings.gateway.engine == "upstream"


def test_a_gateway_without_keys_is_open_to_others_only_if_told_so(loaded: Loader) -> None:
    everywhere = "[gateway]\nenabled = true\nhost = '0.0.0.0'\n"
    assert "gateway.open_to_all = true" in complaint(loaded, everywhere)
    assert not loaded(everywhere + "keys = ['my-key']\n").warnings
    [warning] = loaded(everywhere + "open_to_all = true\n").warnings
    assert "gateway.open_to_all" in warning
