"""The account of a soak complains of everything that it is there to find."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tests.recital import Heard
from tests.soak_books import Books, Said, Window
from tests.vitals import FEWEST_SAMPLES, Vitals, growth

BEGAN_S = 1_800_000_000.0


def books(*, count: int = 3) -> Books:
    """So many announcements, ten seconds apart, each published, started and finished."""
    found = Books()
    for number in range(count):
        at_s = BEGAN_S + 10 * number
        found.said[f"a{number}"] = Said(f"Number {number}", "normal", at_s, is_acknowledged=True)
        tell(found, number, "started", at_s + 0.1)
        tell(found, number, "finished", at_s + 0.5)
    return found


def tell(found: Books, number: int, kind: str, at_s: float, source: str = "cloud") -> None:
    at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    step = {"event_type": kind, "id": f"a{number}", "at": at, "source": source}
    found.take_event(json.dumps(step).encode())


def heard(*texts: str) -> list[Heard]:
    return [Heard(text, 1.0) for text in texts]


ALL = heard("Number 0", "Number 1", "Number 2")


def test_when_all_agrees_it_has_no_complaint() -> None:
    assert books().complaints(ALL) == []


def test_a_repeat_of_the_broker_is_no_second_outcome() -> None:
    found = books()
    tell(found, 1, "finished", BEGAN_S + 10.5)
    assert found.complaints(ALL) == []


def test_it_finds_what_is_lost_doubled_or_disordered() -> None:
    silent = books()
    silent.said["a1"].steps.clear()
    unacknowledged = books()
    unacknowledged.said["a1"].is_acknowledged = False
    twice, failed = books(), books()
    tell(twice, 1, "finished", BEGAN_S + 11)
    failed.said["a1"].steps[-1]["event_type"] = "failed"
    broken = [ALL[0], Heard("Number 1", 0.5), ALL[2]]
    for found, sound, word in (
        (silent, ALL, "no outcome"),
        (unacknowledged, ALL, "never acknowledged"),
        (twice, ALL, "2 outcomes"),
        (failed, ALL, "ended otherwise"),
        (books(), [ALL[0], ALL[2]], "heard whole 0 times"),
        (books(), broken, "heard whole 0 times"),
        (books(), [*ALL, ALL[1]], "heard 2 times"),
        (books(), [ALL[1], ALL[0], ALL[2]], "was heard before"),
    ):
        (complaint,) = found.complaints(sound)
        assert word in complaint


def test_only_a_fault_at_that_time_excuses() -> None:
    for at_s, complaints in ((BEGAN_S + 10.2, 0), (BEGAN_S + 15, 1)):
        found = books()
        found.windows.append(Window("daemon killed", at_s, at_s + 0.3))
        assert len(found.complaints([*ALL, ALL[1]])) == complaints


def test_growth_is_found_and_a_first_use_is_none() -> None:
    small = Vitals(memory_mb=50.0, files=20, threads=5, children=0)
    assert growth([small] * FEWEST_SAMPLES) == ""
    for grown in (
        small._replace(memory_mb=70.0),
        small._replace(files=30),
        small._replace(threads=12),
        small._replace(children=1),
    ):
        assert growth([small] * FEWEST_SAMPLES + [grown] * FEWEST_SAMPLES)
        assert growth([grown] + [small] * FEWEST_SAMPLES + [grown, small]) == ""
