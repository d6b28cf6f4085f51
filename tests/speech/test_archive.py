from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.errors import BridgeError, RejectedError, StorageError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmFormat
from kugel_bridge.speech.archive import Fate, Member, members, packed, unpacked
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.entry import CachedPhrase, description, written
from kugel_bridge.speech.phrase import PhraseKey
from tests.speech.sounds import heard, key, noise

TEXTS = ("Es klingelt.", "Die Waschmaschine ist fertig.", "Gute Nacht!")
MB = 1_000_000


@contextlib.asynccontextmanager
async def opened(
    path: Path, max_bytes: int = 10 * MB, **options: int
) -> AsyncIterator[PhraseCache]:
    cache = PhraseCache(
        path, max_bytes, lookup_timeout_s=10, keep_free_bytes=options.get("keep_free_bytes", 0)
    )
    await cache.open()
    assert cache.problem == ""
    try:
        yield cache
    finally:
        await cache.close()


async def keep(cache: PhraseCache, *phrases: PhraseKey) -> None:
    for number, phrase in enumerate(phrases):
        recording = cache.begin(phrase)
        assert recording is not None
        recording.add(noise(1.5, seed=number))
        assert await recording.commit()


async def archive_of(cache: PhraseCache) -> bytes:
    file = io.BytesIO()
    digests = [entry.digest for entry in await cache.entries()]
    assert {m.fate async for m in packed(cache, digests, file)} <= {Fate.TAKEN}
    return file.getvalue()


async def taken(cache: PhraseCache, archive: bytes) -> list[Member]:
    return [member async for member in unpacked(cache, io.BytesIO(archive))]


def entry(phrase: PhraseKey, **changes: object) -> bytes:
    """An entry file; `changes` are to what it says of itself."""
    about = {**description(phrase, 1_700_000_000), **changes}
    return written(
        CachedPhrase(phrase.digest, SPEECH_FORMAT, memoryview(noise(1.5).data), json.dumps(about))
    )


def tar_of(*files: tuple[str, bytes], **header: object) -> bytes:
    """A tar with these files; `header` changes fields of every member's header."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in header.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


async def test_what_one_machine_packed_the_other_has(tmp_path: Path) -> None:
    keys = [key(text) for text in TEXTS]
    async with opened(tmp_path / "one") as one, opened(tmp_path / "other") as other:
        await keep(one, *keys)
        found = await taken(other, await archive_of(one))
        assert [member.fate for member in found] == [Fate.TAKEN] * 3
        assert sorted(member.digest for member in found) == sorted(k.digest for k in keys)
        for number, phrase in enumerate(keys):
            entry = await other.lookup(phrase)
            assert entry is not None
            assert await heard(entry.chunks()) == noise(1.5, seed=number).data
        listed = {e.text: (e.language, e.voice, e.seconds) for e in await other.entries()}
        assert listed == dict.fromkeys(TEXTS, ("de", "1", 1.5))


async def test_an_archive_is_a_plain_tar_that_tells_nothing_to_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await keep(cache, key())
        archive = await archive_of(cache)
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        (info,) = tar.getmembers()
    assert (info.name, info.mode, info.isreg()) == (f"{key().digest}.pcm", 0o600, True)


async def test_a_folder_packed_by_hand_is_an_archive_too(tmp_path: Path) -> None:
    async with opened(tmp_path / "one") as one:
        await keep(one, *(key(text) for text in TEXTS))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(tmp_path / "one" / "phrases", "phrases")
    async with opened(tmp_path / "other") as other:
        found = await taken(other, out.getvalue())
        assert [member.fate for member in found] == [Fate.TAKEN] * 3


async def test_what_is_there_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await keep(cache, key())
        before = list((tmp_path / "phrases").iterdir())
        found = await taken(cache, tar_of((f"{key().digest}.pcm", entry(key()))))
        assert [member.fate for member in found] == [Fate.PRESENT]
        assert list((tmp_path / "phrases").iterdir()) == before


async def test_a_broken_phrase_is_not_packed(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await keep(cache, key("a"), key("b"))
        for file in (tmp_path / "phrases").glob(f"{key('a').digest}*"):
            file.write_bytes(b"broken")
        out = io.BytesIO()
        digests = [key(text).digest for text in ("a", "b", "c")]
        found = {m.digest: m.fate async for m in packed(cache, digests, out)}
    assert found == dict(zip(digests, [Fate.BROKEN, Fate.TAKEN, Fate.BROKEN], strict=True))


GOOD = f"{key('gut').digest}.pcm"


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


HOSTILE: dict[str, bytes] = {
    "a way out": tar_of((f"../../{key().digest}.pcm", entry(key()))),
    "an absolute path": tar_of((f"/tmp/{key().digest}.pcm", entry(key()))),
    "another name": tar_of(("cache.db", b"SQLite format 3\0")),
    "a name that is no text": tar_of(("\udcff.pcm", b"x")),
    "a link": tar_of((GOOD, b""), type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": tar_of((GOOD, b""), type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a device": tar_of((GOOD, b""), type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a named pipe": tar_of((GOOD, b""), type=tarfile.FIFOTYPE),
    "nothing": tar_of((GOOD, b"")),
    "another phrase's name": tar_of((GOOD, entry(key()))),
    "another phrase's words": tar_of((GOOD, entry(key("gut"), text="böse"))),
    "no words": tar_of((GOOD, entry(key("gut"), text=7))),
    "a speed that is none": tar_of((GOOD, entry(key("gut"), speed=float("inf")))),
    "damaged sound": tar_of((GOOD, flipped(entry(key("gut")), 5_000))),
    "a damaged header": tar_of((GOOD, flipped(entry(key("gut")), 3))),
    "a cut entry": tar_of((GOOD, entry(key("gut"))[:-2])),
    "something behind it": tar_of((GOOD, entry(key("gut")) + b"\0\0")),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_what_is_no_phrase_is_passed_over_with_a_reason(tmp_path: Path, what: str) -> None:
    good = tar_of((f"{key('danach').digest}.pcm", entry(key("danach"))))
    end = HOSTILE[what].rindex(HOSTILE[what].rstrip(b"\0")[-1:]) + 1
    hostile = HOSTILE[what][: end + -end % 512]
    (tmp_path / "cache").mkdir()
    async with opened(tmp_path / "cache") as cache:
        found = await taken(cache, hostile + good)
        assert [member.fate for member in found] == [Fate.BROKEN, Fate.TAKEN]
        assert found[0].reason
        assert [e.text for e in await cache.entries()] == ["danach"]
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    files = list((tmp_path / "cache" / "phrases").iterdir())
    assert [file.name[:64] for file in files] == [key("danach").digest]
    assert all(file.is_file() and not file.is_symlink() for file in files)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"pcm": memoryview(bytes(72_000))}, "silent"),
        ({"pcm": memoryview(noise(0.01).data)}, "too short"),
        ({"format": PcmFormat(100)}, "format"),
        ({"format": PcmFormat(24_000, 9)}, "format"),
        ({"format": PcmFormat(24_000, 1, 1)}, "format"),
        ({"about": "[]"}, "description"),
        ({"about": "[" * 5_000}, "description"),
        ({"about": json.dumps({"text": "x" * 70_000})}, "too long"),
    ],
)
async def test_sound_that_cannot_be_right_is_passed_over(
    tmp_path: Path, change: dict[str, object], why: str
) -> None:
    phrase = key("Ein Satz mit einigen Buchstaben.")
    parts = {
        "digest": phrase.digest,
        "format": SPEECH_FORMAT,
        "pcm": memoryview(noise(1.5).data[: 2 * 9 * 3_000]),
        "about": json.dumps(description(phrase, 0)),
    }
    data = written(CachedPhrase(**{**parts, **change}))  # type: ignore[arg-type]
    async with opened(tmp_path) as cache:
        (found,) = await taken(cache, tar_of((f"{phrase.digest}.pcm", data)))
        assert found.fate is Fate.BROKEN
        assert why in found.reason
        assert await cache.entries() == []


async def test_a_time_to_come_is_not_believed(tmp_path: Path) -> None:
    strange = [1e300, float("nan"), -5, "now", True]
    keys = [key(f"Satz {number}") for number in range(len(strange))]
    files = [
        (f"{phrase.digest}.pcm", entry(phrase, stored_s=time))
        for phrase, time in zip(keys, strange, strict=True)
    ]
    async with opened(tmp_path) as cache:
        assert {m.fate for m in await taken(cache, tar_of(*files))} == {Fate.TAKEN}
        assert all(0 <= e.stored_s < 1e11 for e in await cache.entries())


async def test_a_size_that_is_not_there_costs_no_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo(GOOD)
    for size in (1 << 50, 60 * MB):
        info.size = size
        file = io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 1_000)
        async with opened(tmp_path) as cache:
            with pytest.raises(RejectedError, match="middle"):
                await taken(cache, file.getvalue())
            assert await cache.entries() == []


async def test_an_extended_header_of_any_size_is_passed_over(tmp_path: Path) -> None:
    long_name = tar_of((f"{'x' * 500}/{GOOD}", entry(key("gut"))))
    assert long_name[156:157] == b"L"
    async with opened(tmp_path) as cache:
        assert [m.fate for m in await taken(cache, long_name)] == [Fate.BROKEN, Fate.BROKEN]


@pytest.mark.parametrize("cut", [1, 600, 1_024, 30_000])
async def test_a_cut_archive_gives_what_is_whole_and_an_error(tmp_path: Path, cut: int) -> None:
    async with opened(tmp_path / "one") as one:
        await keep(one, *(key(text) for text in TEXTS))
        archive = (await archive_of(one)).rstrip(b"\0")
    async with opened(tmp_path / "other") as other:
        with pytest.raises(RejectedError, match="middle"):
            await taken(other, archive[:-cut])
        assert len(await other.entries()) == 2


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b\x08" + bytes(600), b"PK" * 400, b"x" * 511])
async def test_what_is_no_tar_is_refused(tmp_path: Path, data: bytes) -> None:
    async with opened(tmp_path) as cache:
        with pytest.raises(RejectedError, match="not an archive"):
            await taken(cache, data)


async def test_a_heap_of_other_files_is_given_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        with pytest.raises(RejectedError, match="no archive"):
            await taken(cache, tar_of(*[(f"photo{n}.jpg", b"x") for n in range(1_001)]))


async def test_nothing_has_to_go_for_what_comes_from_elsewhere(tmp_path: Path) -> None:
    files = [(f"{key(str(n)).digest}.pcm", entry(key(str(n)))) for n in range(5)]
    async with opened(tmp_path, max_bytes=250_000) as cache:
        await keep(cache, key())
        with pytest.raises(StorageError, match=r"cache\.max_mb"):
            await taken(cache, tar_of(*files))
        texts = {e.text for e in await cache.entries()}
        assert key().text in texts
        assert len(texts) == len(list((tmp_path / "phrases").iterdir())) < 5
        assert cache.problem == ""


async def test_the_disk_is_not_filled(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_free_bytes=1 << 60) as cache:
        with pytest.raises(StorageError, match=r"free some space, or set cache\.dir"):
            await taken(cache, tar_of((GOOD, entry(key("gut")))))
    assert not list((tmp_path / "phrases").iterdir())


async def test_a_running_cache_finds_what_another_process_took_in(tmp_path: Path) -> None:
    async with opened(tmp_path) as daemon, opened(tmp_path) as command:
        await keep(daemon, key("a"))
        await taken(command, tar_of((GOOD, entry(key("gut")))))
        assert await daemon.lookup(key("gut")) is not None
        assert await command.lookup(key("a")) is not None


async def test_through_a_pipe_it_works_too(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as target:
        # Small enough for the pipe: nobody reads while it is written.
        phrase = key("gut")
        sound = CachedPhrase(
            phrase.digest,
            PcmFormat(8_000),
            memoryview(noise(1.0).data[:16_000]),
            json.dumps(description(phrase, 0)),
        )
        target.write(tar_of(("photo.jpg", b"x" * 700), (f"{phrase.digest}.pcm", written(sound))))
        target.close()
        async with opened(tmp_path) as cache:
            found = [member.fate async for member in unpacked(cache, source)]
    assert found == [Fate.BROKEN, Fate.TAKEN]


WHOLE = tar_of((GOOD, b"some content"), ("x", b"y"))


@given(
    st.binary(max_size=2_000)
    | st.lists(st.tuples(st.integers(0, 1_100), st.integers(0, 255)), max_size=20).map(
        lambda changes: _changed(changes)
    )
)
def test_any_bytes_are_members_or_refused(data: bytes) -> None:
    with contextlib.suppress(BridgeError):
        for member in members(io.BytesIO(data)):
            assert isinstance(member, Member) or len(member[1]) <= len(data)


def _changed(changes: list[tuple[int, int]]) -> bytes:
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    # Sums fit again: what lies behind the checksum is to be reached.
    for start in (0, 1_024):
        block = data[start : start + 512]
        block[148:156] = b" " * 8
        data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(data)
