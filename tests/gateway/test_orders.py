from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kugel_bridge.gateway.orders import KINDS, At, Body, Do, Garbage, Order, from_words, parse
from kugel_bridge.model.errors import ConfigurationError

OWN = {
    "status": st.integers(400, 599).map(str),
    "error_code": st.sampled_from(["RATE_LIMITED", "X"]),
    "retry_after": st.sampled_from(["17", "date", "nonsense", "huge"]),
    "body": st.sampled_from(list(Body)).map(str),
    "code": st.sampled_from(["1000", "1011", "4029"]),
    "reason": st.sampled_from(
        ["", "too many", "it's", '"'],
    ),
    "ms": st.integers(0, 1000).map(str),
    "rate": st.integers(1, 1000).map(str),
    "kind": st.sampled_from(list(Garbage)).map(str),
    "seconds": st.integers(1, 600).map(str),
    "bytes": st.integers(1, 1 << 20).map(str),
    "frames": st.integers(1, 9).map(str),
}


@st.composite
def words(draw: st.DrawFn) -> dict[str, str]:
    do = draw(st.sampled_from(list(Do)))
    kind = KINDS[do]
    given = {"do": str(do), "at": str(draw(st.sampled_from(kind.at)))}
    optional = {
        "on": st.sampled_from(["any", "/ws/tts", "/ws/*"]),
        "skip": st.integers(0, 9).map(str),
        "times": st.sampled_from(["always", "1", "20"]),
        **{name: OWN[name] for name in kind.names},
    }
    if given["at"] == At.SOUND:
        optional["after"] = st.sampled_from(["0", "3", "0b", "5000b"])
    for name, values in optional.items():
        if draw(st.booleans()):
            given[name] = draw(values)
    return given


@settings(deadline=None)
@given(words())
def test_an_order_written_and_read_again_is_the_same(given: dict[str, str]) -> None:
    order = from_words(given)
    assert parse(order.text) == order


@settings(deadline=None)
@given(
    st.text()
    | st.lists(
        st.tuples(st.sampled_from([*OWN, "do", "on", "at", "skip", "times", "after"]), st.text()),
        max_size=4,
    ).map(lambda pairs: "do=reset " + " ".join(f"{name}={value}" for name, value in pairs))
)
def test_nothing_but_a_configuration_error_comes_of_a_wrong_order(line: str) -> None:
    try:
        order = parse(line)
    except ConfigurationError as error:
        assert "fault" in str(error)
    else:
        assert isinstance(order, Order)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "needs do="),
        ("on=/ws/tts", "needs do="),
        ("do=explode", "do='explode': must be one of refuse"),
        ("do=reset do=eof", "do is given twice"),
        ("reset", "'reset' must look like name=value"),
        ("do=reset 'x", "mend the quotes"),
        ("do=reset ms=3", "do=reset knows do, on, at, skip, times, after"),
        ("do=reset after=-1", "after='-1': must be a number from 0"),
        ("do=reset at=door after=3", "needs at=sound"),
        ("do=refuse at=sound", "do=refuse acts at door"),
        ("do=refuse status=99", "status='99': must be a number from 200"),
        ("do=refuse retry_after=later", "seconds or one of date, nonsense, huge"),
        ("do=close code=1006", "try do=eof"),
        ("do=close reason=" + "x" * 124, "at most 123 bytes"),
        ("on=ws do=reset", "on='ws': must be a path"),
        ("on=/a*b do=reset", "on='/a*b': must be a path"),
        ("on=/v1/models do=garbage", "do=garbage is for WebSockets"),
        ("on=/v1/* do=delay at=open", "at=open is for WebSockets"),
        ("do=refuse status=200", "status=200: is no error; 400 to 599 are"),
        ("on=/ws/tts do=error status=302", "status=302: is no error"),
        ("do=garbage kind=slime", "kind='slime': must be one of text"),
        ("x" * 3_000, "3000 characters"),
    ],
)
def test_an_error_names_the_word_and_the_remedy(line: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(line)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("line", "path", "acts"),
    [
        ("do=reset", "/ws/tts", True),
        ("do=reset", "/v1/models", True),
        ("on=any do=close", "/v1/models", False),
        ("on=/ws/tts do=reset", "/ws/tts", True),
        ("on=/ws/tts do=reset", "/ws/tts/stream", False),
        ("on=/ws/* do=reset", "/ws/tts/stream", True),
        ("on=/* do=garbage", "/v1/models", False),
    ],
)
def test_an_order_acts_where_it_says(line: str, path: str, acts: bool) -> None:
    assert parse(line).acts_on(path) is acts


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("do=refuse", (503, "MODEL_UNAVAILABLE")),
        ("do=error", (500, "INTERNAL_ERROR")),
        ("do=error error_code=TOO_MANY_CONTEXTS", (429, "TOO_MANY_CONTEXTS")),
        ("do=error error_code=NEW_ONE", (500, "NEW_ONE")),
        ("do=refuse status=429", (429, "RATE_LIMITED")),
        ("do=refuse status=418", (418, None)),
        ("do=refuse status=400 error_code=RATE_LIMITED", (400, "RATE_LIMITED")),
    ],
)
def test_status_and_code_of_a_refusal_complete_each_other(
    line: str, fields: tuple[int, str | None]
) -> None:
    refusal = parse(line).refusal
    assert (refusal.status, refusal.code) == fields


def test_the_manual_and_the_grammar_say_the_same() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "gateway-faults.md").read_text(encoding="utf-8")
    rows = {
        name: (at, own)
        for name, at, own in re.findall(
            r"(?m)^\| `([a-z-]+)` \| [^|]+ \| ([^|]*) \| ([^|]*)\|$", manual
        )
        if name in set(Do)
    }
    assert set(rows) == {str(do) for do in Do}
    for do, kind in KINDS.items():
        at, own = rows[do]
        assert re.findall(r"`(\w+)`", at) == list(kind.at), do
        assert [
            name for name in re.findall(r"`([\w-]+)`(?= \(|,|\s*$)", own) if name in OWN
        ] == list(kind.names), do
    for word in (*At, *Garbage, *Body):
        assert f"`{word}`" in manual, word
