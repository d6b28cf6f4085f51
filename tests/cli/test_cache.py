"""`cache`: the stored phrases, with and without a daemon beside it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kugel_bridge.model.errors import InvalidRequestError, ServiceUnavailableError
from tests.broker import Mosquitto, free_port
from tests.cli.conftest import Command, Said
from tests.gateway_server import ScriptedEngine, hum, serving
from tests.house import Caller, as_toml, living, settings_for

Cache = Callable[..., Awaitable[Said]]
DINNER, DOOR = "Dinner is ready", "Somebody is at the door"


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine([hum(1.0)])


@pytest.fixture
async def settings(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[dict[str, object]]:
    """A cloud, and a configuration that names it."""
    async with serving(engine) as gateway:
        found = settings_for(tmp_path, free_port(), gateway=gateway.url)
        (tmp_path / "cache.toml").write_text(as_toml(found))
        yield found


@pytest.fixture
def cache(command: Command, tmp_path: Path) -> Cache:
    async def run(*argv: str) -> Said:
        file = str(tmp_path / "cache.toml")
        return await asyncio.to_thread(command, "--config", file, "cache", *argv)

    return run


@pytest.fixture
async def digests(cache: Cache, settings: object, tmp_path: Path) -> dict[str, str]:
    """Two phrases in the cache: text to digest."""
    (tmp_path / "two.txt").write_text(f"{DINNER}\n{DOOR}\n")
    assert (await cache("warm", str(tmp_path / "two.txt"))).code == 0
    entries = json.loads((await cache("list", "--json")).out)
    return {entry["text"]: entry["digest"] for entry in entries}


async def test_warming_tells_of_each_phrase_and_sums_up(
    cache: Cache, settings: object, engine: ScriptedEngine, tmp_path: Path
) -> None:
    file = tmp_path / "phrases.txt"
    file.write_bytes(f"\ufeff# For the hall\n\n  {DINNER}  \n{DOOR}\n{DINNER}\n***\n".encode())
    said = await cache("warm", str(file))
    assert said.code == 1
    assert said.out.splitlines() == [
        f"made     {DINNER}",
        f"made     {DOOR}",
        "failed   ***: nothing is left to say of '***'",
        f"2 made, 0 present, 1 failed; {len(DINNER + DOOR)} characters sent to the cloud",
    ]
    file.write_text(f"{DINNER}\nNew\n")
    told = json.loads((await cache("warm", str(file), "--json")).out)
    assert [told[name] for name in ("made", "present", "failed", "characters")] == [1, 1, 0, 3]
    assert [row["result"] for row in told["phrases"]] == ["present", "made"]
    assert [text for text, *_ in engine.asked] == [DINNER, DOOR, "New"]


async def test_warming_takes_the_configured_file_voice_and_language(
    cache: Cache, settings: dict[str, dict[str, object]], engine: ScriptedEngine, tmp_path: Path
) -> None:
    said = await cache("warm")
    assert (said.code, said.err.count("\n"), "cache.warm" in said.err) == (2, 1, True)
    (tmp_path / "phrases.txt").write_text("Hallo\n")
    settings["cache"]["warm"] = str(tmp_path / "phrases.txt")
    (tmp_path / "cache.toml").write_text(as_toml(settings))
    said = await cache("warm", "--voice", "bert", "--language", "de", "--pin")
    assert said.code == 0
    assert [asked[:3] for asked in engine.asked] == [("Hallo", "Bert", "de")]
    (entry,) = json.loads((await cache("list", "--json")).out)
    assert (entry["voice"], entry["language"], entry["pinned"]) == ("bert", "de", True)


async def test_what_the_cloud_cannot_say_is_told(
    cache: Cache, settings: object, engine: ScriptedEngine, tmp_path: Path
) -> None:
    (tmp_path / "one.txt").write_text(f"{DINNER}\n")
    engine.chunks, engine.then = [], ServiceUnavailableError("gone fishing")
    said = await cache("warm", str(tmp_path / "one.txt"))
    assert said.code == 1
    assert said.out.startswith(f"failed   {DINNER}: ")
    assert "Traceback" not in said.err
    engine.then = InvalidRequestError("no")
    assert (await cache("warm", str(tmp_path / "one.txt"))).code == 1
    assert (await cache("list")).out == "the cache is empty\n"


async def test_phrases_come_from_standard_input(settings: object, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kugel_bridge", "--config", tmp_path / "cache.toml"),
        *("cache", "warm", "-"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate(f"{DINNER}\n".encode())
    assert process.returncode == 0
    assert out.decode().startswith(f"made     {DINNER}\n1 made")


async def test_a_phrase_fetched_is_what_the_daemon_says(
    cache: Cache, digests: dict[str, str], settings: dict[str, object], tmp_path: Path
) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        own = {**settings, "mqtt": {"host": "127.0.0.1", "port": broker.port}}
        async with living(own), Caller(broker.port) as caller:
            await caller.say({"text": f"**{DINNER}**", "id": "x"})
            assert (await caller.event("finished", "x"))["source"] == "cache"
            # Beside the running daemon, which notices at once.
            assert (await cache("purge", "--text", DINNER)).out == "1 phrase removed\n"
            await caller.say({"text": DINNER, "id": "y"})
            assert (await caller.event("finished", "y"))["source"] == "cloud"
            assert (await cache("pin", "--text", DINNER)).code == 0


async def test_the_list_is_a_table(cache: Cache, digests: dict[str, str]) -> None:
    said = await cache("list")
    assert said.code == 0
    head, *rows = said.out.splitlines()
    names = ["digest", "seconds", "KB", "hits", "pinned", "language", "voice", "text"]
    assert head.split() == names
    assert sorted(row.split(None, 7) for row in rows) == sorted(
        [digest[:12], "1.0", "48", "0", "no", "en", "anna", text]
        for text, digest in digests.items()
    )


async def test_one_phrase_is_shown_with_everything(cache: Cache, digests: dict[str, str]) -> None:
    digest = digests[DINNER]
    said = await cache("show", digest[:20].upper())
    assert said.code == 0
    told = dict(line.split(None, 1) for line in said.out.splitlines())
    assert (told["digest"], told["text"], told["rate"]) == (digest, DINNER, "24000")
    assert Path(told["path"]).is_file()
    assert json.loads((await cache("show", "--text", DINNER, "--json")).out)["digest"] == digest
    Path(told["path"]).write_bytes(b"damaged")
    said = await cache("show", digest)
    assert said.code == 1
    assert "problem" in said.out


async def test_a_prefix_has_to_mean_one_phrase(cache: Cache, digests: dict[str, str]) -> None:
    for argv in (("show", "zz"), ("pin", "0" * 64), ("show", ""), ("unpin", "--text", "Never")):
        said = await cache(*argv)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1), argv


async def test_a_prefix_of_several_is_told_with_all_of_them(
    cache: Cache, settings: object, tmp_path: Path
) -> None:
    (tmp_path / "many.txt").write_text("\n".join(f"Number {n}" for n in range(17)))
    await cache("warm", str(tmp_path / "many.txt"))
    entries = json.loads((await cache("list", "--json")).out)
    firsts = [entry["digest"][0] for entry in entries]
    shared = next(first for first in firsts if firsts.count(first) > 1)
    said = await cache("show", shared)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert f"{firsts.count(shared)} begin so" in said.err


async def test_pinned_phrases_stay(cache: Cache, digests: dict[str, str]) -> None:
    digest = digests[DINNER]
    assert (await cache("pin", digest[:12])).out == f"{digest[:12]}  pinned  {DINNER}\n"
    told = json.loads((await cache("pin", "--text", DOOR, "--json")).out)
    assert told == [{"digest": digests[DOOR], "text": DOOR, "pinned": True}]
    assert (await cache("purge", "--all")).out == "0 phrases removed\n"
    said = await cache("purge", digest)
    assert (said.code, said.err.count("\n"), "pinned" in said.err) == (1, 1, True)
    assert (await cache("unpin", digest)).out == f"{digest[:12]}  unpinned  {DINNER}\n"
    assert json.loads((await cache("purge", "--all", "--json")).out) == {"purged": 1}
    assert (await cache("purge", "--all", "--pinned")).out == "1 phrase removed\n"
    assert (await cache("list")).out == "the cache is empty\n"


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("lst",),
        ("purge",),
        ("purge", "--pinned"),
        ("purge", "--all", "abc"),
        ("purge", "--all", "--text", "x"),
        ("show",),
        ("pin",),
        ("pin", "abc", "--text", "x"),
        ("export",),
        ("import",),
    ],
)
def test_wrong_use_is_one_line_and_2(command: Command, argv: tuple[str, ...]) -> None:
    said = command("cache", *argv)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)


async def test_stats_count(cache: Cache, digests: dict[str, str]) -> None:
    stats = json.loads((await cache("stats", "--json")).out)
    assert (stats["entries"], stats["pinned"], stats["phrases_written"]) == (2, 0, 2)
    said = await cache("stats")
    assert said.code == 0
    assert "phrases          2\n" in said.out
    assert "of 16 MB" in said.out
    assert f"counted since    {stats['counted_since']}\n" in said.out
    assert datetime.fromisoformat(stats["counted_since"]) <= datetime.now(UTC)


async def test_counts_keep_their_beginning(
    cache: Cache, digests: dict[str, str], tmp_path: Path
) -> None:
    long_ago = "2020-01-01T00:00:00+00:00"
    with contextlib.closing(sqlite3.connect(tmp_path / "cache" / "cache.db")) as index, index:
        assert index.execute("UPDATE Cache SET value = ? WHERE key = 'since'", (long_ago,)).rowcount
    for _ in range(2):
        assert json.loads((await cache("stats", "--json")).out)["counted_since"] == long_ago


async def test_what_one_machine_exports_the_other_imports(
    cache: Cache, digests: dict[str, str], settings: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    tar = tmp_path / "phrases.tar"
    said = await cache("export", str(tar))
    assert (said.code, said.out) == (0, f"2 phrases exported to {tar}\n")
    assert tar.stat().st_mode & 0o777 == 0o600
    settings["cache"]["dir"] = str(tmp_path / "other")
    (tmp_path / "cache.toml").write_text(as_toml(settings))
    assert (await cache("import", str(tar))).out == (
        "2 phrases taken, 0 were there already, 0 skipped\n"
    )
    told = json.loads((await cache("import", str(tar), "--json")).out)
    assert told == {"taken": 0, "present": 2, "broken": []}
    entries = json.loads((await cache("list", "--json")).out)
    assert {entry["text"]: entry["digest"] for entry in entries} == digests
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


async def test_through_a_pipe_from_one_to_the_other(
    digests: dict[str, str], settings: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    settings["cache"]["dir"] = str(tmp_path / "other")
    (tmp_path / "other.toml").write_text(as_toml(settings))
    bridge = f"{sys.executable} -m kugel_bridge --config {tmp_path}"
    process = await asyncio.create_subprocess_shell(
        f"{bridge}/cache.toml cache export - | {bridge}/other.toml cache import -",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert out == b"2 phrases taken, 0 were there already, 0 skipped\n"
    assert err == b"2 phrases exported to standard output\n"


async def test_a_broken_member_is_skipped_with_a_line(
    cache: Cache, settings: object, tmp_path: Path
) -> None:
    tar = tmp_path / "hostile.tar"
    with tarfile.open(tar, "w") as out:
        for name in ("../../evil\x1b[31m.pcm", f"{'0' * 64}.pcm"):
            info = tarfile.TarInfo(name)
            info.size = 100
            out.addfile(info, io.BytesIO(bytes(100)))
    said = await cache("import", str(tar))
    assert (said.code, said.err.count("\n")) == (1, 2)
    assert "\x1b" not in said.err
    assert said.out == "0 phrases taken, 0 were there already, 2 skipped\n"
    told = json.loads((await cache("import", str(tar), "--json")).out)
    assert [row["name"] for row in told["broken"]] == ["../../evil\x1b[31m.pcm", f"{'0' * 64}.pcm"]


async def test_files_that_cannot_be_used_are_one_line(
    cache: Cache, digests: object, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("this is no archive")
    for argv in (
        ("import", str(tmp_path / "nope")),
        ("import", str(tmp_path)),
        ("import", str(tmp_path / "text")),
        ("export", str(tmp_path / "no" / "x.tar")),
        ("export", str(tmp_path)),
        ("warm", str(tmp_path / "nope")),
        ("warm", str(tmp_path)),
    ):
        said = await cache(*argv)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1), argv


async def test_an_export_to_a_device_does_not_replace_it(
    cache: Cache, digests: object, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
    assert (await cache("export", str(pipe))).code == 0
    assert len(await reading) > 90_000
    assert pipe.is_fifo()


@pytest.mark.parametrize("argv", [("list",), ("stats",), ("warm", "x"), ("purge", "--all")])
def test_a_cache_that_is_switched_off_is_told(
    command: Command, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    monkeypatch.setenv("KUGEL_BRIDGE_CACHE__MAX_MB", "0")
    said = command("cache", *argv)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "cache.max_mb = 0" in said.err


async def test_a_cache_that_cannot_be_opened_is_one_line(
    cache: Cache, settings: object, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    said = await cache("list")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert str(tmp_path / "cache") in said.err


async def test_without_a_cloud_there_is_nothing_to_fetch(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    file.write_text(f'[cache]\ndir = "{tmp_path}/cache"\n')
    for argv in (("warm", "x"), ("pin", "--text", "x")):
        said = await asyncio.to_thread(command, "--config", str(file), "cache", *argv)
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "cloud.api_key" in said.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files others cannot use")
async def test_root_leaves_nothing_that_the_daemon_cannot_use(
    cache: Cache, settings: object, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    os.chown(folder, 12_345, 23_456)
    (tmp_path / "one.txt").write_text(f"{DINNER}\n")
    assert (await cache("warm", str(tmp_path / "one.txt"), "--pin")).code == 0
    made = list(folder.rglob("*"))
    assert len(made) >= 3
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(12_345, 23_456)}


def test_help_has_examples(command: Command) -> None:
    for argv in ((), ("warm",), ("show",), ("pin",), ("purge",), ("export",), ("import",)):
        said = command("cache", *argv, "--help")
        assert (said.code, "examples:" in said.out) == (0, True), argv
