from __future__ import annotations

from urllib.parse import quote

import pytest

from kugel_bridge.kugelaudio.codes import Refusal, RefusedError
from kugel_bridge.kugelaudio.discretion import MASK, Discretion
from kugel_bridge.model.errors import BridgeError, RateLimitedError

KEY = "ka_se/cret+key"


@pytest.mark.parametrize("text", [KEY, f"'{KEY}'", f"?api_key={KEY}&x", quote(KEY, ""), f"a {KEY}"])
def test_the_key_is_masked_wherever_it_is_quoted(text: str) -> None:
    error = RateLimitedError(f"refused: {text}", retry_after_s=3)
    Discretion(KEY).keep(error)
    assert str(error) == f"refused: {text}".replace(KEY, MASK).replace(quote(KEY, ""), MASK)
    assert error.retry_after_s == 3


def test_the_refusal_that_customers_get_is_masked_too() -> None:
    error = Refusal(404, "NOT_FOUND", f"no voice for {KEY}").as_error()
    Discretion(KEY).keep(error)
    assert isinstance(error, RefusedError)
    assert error.refusal is not None
    assert KEY not in f"{error} {error.refusal}"


@pytest.mark.parametrize("key", ["", "a"])
def test_a_short_key_or_none_leaves_words_whole(key: str) -> None:
    error = BridgeError("at that rate")
    Discretion(key).keep(error)
    assert str(error) == "at that rate"


@pytest.mark.parametrize("length", range(8, len(KEY)))
def test_a_quotation_that_ends_inside_the_key_gives_nothing_away(length: int) -> None:
    error = BridgeError(f"not JSON: '?api_key={KEY[:length]}' (JSONDecodeError)")
    Discretion(KEY).keep(error)
    assert str(error) == f"not JSON: '?api_key={MASK}' (JSONDecodeError)"
