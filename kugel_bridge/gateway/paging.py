"""`limit` and `offset` of a list, with the API's bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kugel_bridge.kugelaudio.catalogue import DEFAULT_PAGE, MAX_PAGE
from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.messages import invalid

MAX_OFFSET = 999_999_999
_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    limit: int
    offset: int


def page_of(query: Mapping[str, str]) -> Page | Refusal:
    """What a query asks for, or why it cannot have it."""
    limit = _whole(query.get("limit"), DEFAULT_PAGE)
    offset = _whole(query.get("offset"), 0)
    if limit is None or not 1 <= limit <= MAX_PAGE:
        return invalid(f"limit must be between 1 and {MAX_PAGE}")
    if offset is None:
        return invalid(f"offset must be between 0 and {MAX_OFFSET}")
    return Page(limit, offset)


def _whole(text: str | None, default: int) -> int | None:
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None
