from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.speech.inventory import CacheEntry, Use, entry_from, least_worth

DAY_S = 86_400.0
NOW_S = 1e9


def entry(name: str, hits: int = 0, age_days: float = 0, *, pinned: bool = False) -> CacheEntry:
    return CacheEntry(
        digest=name,
        file="",
        text=name,
        language="de",
        voice="",
        model="",
        speed=1.0,
        source="",
        stored_s=0,
        bytes=100,
        seconds=1,
        hits=hits,
        last_used_s=NOW_S - age_days * DAY_S,
        pinned=pinned,
    )


def leaving(entries: list[CacheEntry], surplus: int, spare: str = "") -> list[str]:
    return [e.digest for e in least_worth(entries, surplus, NOW_S, spare)]


def test_the_least_used_leaves_first() -> None:
    assert leaving([entry("a", 5), entry("b", 1), entry("c", 3)], 150) == ["b", "c"]


def test_of_equally_used_ones_the_oldest_leaves_first() -> None:
    assert leaving([entry("new"), entry("old", 0, 2)], 1) == ["old"]


def test_old_glory_fades() -> None:
    assert leaving([entry("winter", 50, 300), entry("now", 1, 1)], 1) == ["winter"]


def test_pinned_and_new_ones_stay() -> None:
    assert leaving([entry("a", pinned=True), entry("b"), entry("c", 1)], 10_000, "b") == ["c"]


def test_nobody_leaves_without_need() -> None:
    assert leaving([entry("a")], 0) == []


def test_a_clock_in_the_future_does_no_harm() -> None:
    assert entry("a", 1, -5000).worth(NOW_S) == 2


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 33))
def test_uses_are_read_as_written(hits: int, last_s: int) -> None:
    assert Use.parsed(str(Use(hits, last_s))) == Use(hits, last_s)


@given(st.text())
def test_a_strange_note_is_no_use_or_a_use(text: str) -> None:
    assert Use.parsed(text).hits >= 0


@given(st.text() | st.sampled_from(['{"stored_s":"x"}', "[1]", "[" * 10_000, '{"bytes":null}']))
def test_a_strange_description_is_an_entry_without_one(about: str) -> None:
    assert entry_from("d", "f", about, Use(), pinned=False).digest == "d"
