"""The manual and the program say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from kugel_bridge import __version__
from kugel_bridge.cli.commands import COMMANDS
from kugel_bridge.conductor.controls import Controls
from kugel_bridge.gateway.app import METERED_PATHS
from kugel_bridge.gateway.metrics import Metrics
from kugel_bridge.gateway.openapi import document
from kugel_bridge.kugelaudio.catalogue import Model
from kugel_bridge.model.report import Outcome, SourceKind, Step
from kugel_bridge.model.status import AudioStatus, CloudStatus, PlayState
from kugel_bridge.mqtt.aliases import ANNOUNCEMENT
from kugel_bridge.mqtt.setting import SETTINGS
from kugel_bridge.mqtt.topics import Topics
from kugel_bridge.settings.doors import Gateway
from kugel_bridge.settings.house import LEVEL_DEFAULTS
from kugel_bridge.settings.load import load
from kugel_bridge.settings.manual import entries, toml_value
from kugel_bridge.settings.not_yet import NOT_YET

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MQTT = (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
GATEWAY = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading."""
    found = re.search(rf"(?ms)^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text)
    assert found, f"there is no heading {heading!r}"
    return found[1]


def words(text: str) -> set[str]:
    """Everything that stands in backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


def test_every_command_is_in_the_readme() -> None:
    built = {f"kugel-bridge {entry.name}" for entry in COMMANDS if entry.module}
    later = {f"kugel-bridge {entry.name}" for entry in COMMANDS if not entry.module}
    assert words(section(README, "Commands")) & (built | later) == built
    assert words(section(README, "Not yet supported")) & (built | later) == later


def test_everything_refused_is_in_the_readme() -> None:
    listed = section(README, "Not yet supported")
    for entry in NOT_YET:
        assert entry.path in listed, entry.path


def test_nothing_built_is_listed_as_missing() -> None:
    listed = words(section(README, "Not yet supported"))
    keys = {word.split(" ")[0] for word in listed if re.match(r"[a-z_]+\.[a-z_*.]+", word)}
    assert keys == {entry.path for entry in NOT_YET}


def test_what_the_package_and_the_gateway_lack_is_listed_as_missing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = words(section(README, "Not yet supported"))
    assert ("snapcast" in listed) is not ("snapcast" in project["optional-dependencies"])
    front = document(Model("any", "Any", max_input_characters=200))["paths"]["/"]["get"]
    assert ("/" in listed) is ("text/html" not in front["responses"]["200"]["content"])


def documented_keys() -> dict[tuple[str, str], tuple[str, str]]:
    """(section, key) to (default, meaning), as the tables say."""
    found = {}
    for heading, body in re.findall(r"(?ms)^### `\[(.+?)\]`\n(.*?)(?=^##|\Z)", CONFIGURATION):
        for key, default, meaning in re.findall(r"(?m)^\| `(\w+)` \| (.*?) \| (.*) \|$", body):
            if key not in LEVEL_DEFAULTS:  # their table has other columns
                found[heading, key] = (default, meaning)
    return found


def test_every_setting_is_documented_with_its_default_and_meaning() -> None:
    documented = documented_keys()
    expected = {(entry.section, entry.key): entry for entry in entries()}
    assert set(documented) == set(expected)
    for name, entry in expected.items():
        default, meaning = documented[name]
        assert meaning.removesuffix(" *Not yet supported.*") == entry.description, name
        if entry.default is None:
            assert default == "not set", name
        elif entry.fixed:
            assert default == f"`{toml_value(entry.default)}`", name


def test_the_levels_defaults_are_documented() -> None:
    for level, rules in LEVEL_DEFAULTS.items():
        row = f"| `{level}` | {rules['ttl_s']:g} | {rules['first_sound_s']:g} | speak | 0 |"
        assert row in CONFIGURATION
        cells = f"| {_spoken(rules['ttl_s'])} | {rules['first_sound_s']:g} s |"
        assert re.search(rf"(?m)^\| `{level}` \|.*{re.escape(cells)}", README), level


def _spoken(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"


def topics_in(text: str) -> set[str]:
    """Documented topics, for a bridge `kitchen` in the group `up`."""
    found = {word for word in words(text) if word.startswith("<base>/")}
    names = {"<base>": "kugel", "<device>": "kitchen", "<group>": "up"}
    return {re.sub(r"<\w+>", lambda m: names.get(m[0], "+"), topic) for topic in found}


def test_every_topic_is_documented_and_every_documented_one_exists() -> None:
    topics = Topics("kugel", "kitchen", ["up"])
    read = {topic.replace("#", "+") for topic in topics.subscriptions()}
    assert topics_in(section(MQTT, "Topics the bridge reads")) == read
    written = {topics.availability, topics.state, topics.event, topics.info, topics.health}
    assert topics_in(section(MQTT, "Topics the bridge writes")) == {
        *written,
        topics.response("+"),
    }


def test_every_field_and_spelling_is_documented() -> None:
    known = words(section(MQTT, "An announcement"))
    for spellings in ANNOUNCEMENT.values():
        assert set(spellings) <= known, spellings


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Events", {*Step, *Outcome, *SourceKind}),
        ("State", {*PlayState, *CloudStatus, *AudioStatus}),
        ("Settings", set(SETTINGS)),
    ],
)
def test_every_word_of_the_bridge_is_documented(heading: str, names: set[str]) -> None:
    assert {str(name) for name in names} <= words(section(MQTT, heading))


def test_every_request_is_documented() -> None:
    # The table of verbs needs nothing of a running bridge.
    verbs = Controls.verbs(object.__new__(Controls))
    assert set(verbs) <= words(section(MQTT, "Requests"))


def test_every_path_of_the_gateway_is_documented() -> None:
    assert set(METERED_PATHS) <= words(section(GATEWAY, "Paths"))


def test_every_figure_of_the_gateway_is_documented_and_every_documented_one_exists() -> None:
    metrics = Metrics([])
    told = set(re.findall(r"# TYPE kugel_gateway_(\w+) ", metrics.text()))
    listed = {word.partition("{")[0] for word in words(section(GATEWAY, "Metrics"))}
    assert told <= listed
    assert {name for name in listed if name.endswith("_total")} <= told


@pytest.mark.parametrize(
    "key",
    [
        "requests_per_minute",
        "concurrent_generations",
        "connections",
        "characters_per_request",
        "characters_per_day",
    ],
)
def test_the_gateways_limits_are_told_with_their_defaults(key: str) -> None:
    default = getattr(Gateway(), key)
    row = next(line for line in section(GATEWAY, "Limits").splitlines() if f"`{key}`" in line)
    assert f"| {'none' if default is None else default} |" in row


def test_the_outcomes_in_the_readme_are_all_there_are() -> None:
    table = re.findall(r"(?m)^\| `(\w+)` \|", section(README, "Topics"))
    assert table == [outcome.value for outcome in Outcome]


def test_configurations_in_the_manual_load(tmp_path: Path) -> None:
    blocks = re.findall(r"(?ms)^```toml\n(.*?)^```", README + CONFIGURATION + GATEWAY)
    assert len(blocks) >= 2
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.toml"
        file.write_text(block, encoding="utf-8")
        assert load(file).settings


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path) if path else page
        assert aim.exists(), target
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", aim.read_text(encoding="utf-8"))
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, target


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__
    assert f"## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
