"""Who may use the gateway: keys, and what protects one without keys."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import urllib.parse
from collections.abc import Iterable

from kugel_bridge.kugelaudio.codes import FORBIDDEN, UNAUTHORIZED, Refusal
from kugel_bridge.kugelaudio.hosts import is_loopback
from kugel_bridge.model.errors import ConfigurationError

_HASHED = "sha256:"
_DIGEST_CHARACTERS = 64
_ACCOUNT_DIGITS = 12
OPEN_ACCOUNT = "open"
"""Whose everything is while there are no keys; keys are told by the start of their digest."""

_HOUSE_ENDINGS = (".local", ".lan", ".home.arpa", ".internal")
"""Names under which nobody outside can register one."""


class KeyRing:
    """The configured keys, each plain or as `sha256:` and 64 hexadecimal digits.

    Only digests are kept, so that no key can show up in a dump. Raises ConfigurationError for a
    malformed entry, without showing it.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest_of_entry(number, key) for number, key in enumerate(keys)]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def account(self, key: str) -> str | None:
        """The account of `key`, None if it is not one of ours; takes the same time either way."""
        presented = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        # A sum instead of any(): no early end that tells the position of a match.
        known = sum(hmac.compare_digest(presented, digest) for digest in self._digests) > 0
        return presented.hex()[:_ACCOUNT_DIGITS] if known else None


class Access:
    """Decides on requests; without keys no web page from elsewhere may ask.

    Without keys only this machine is let in, or, with `open_to_all`, everybody in the house.
    """

    def __init__(self, keys: KeyRing, *, open_to_all: bool = False) -> None:
        self._keys = keys
        self._is_ours = _is_in_house if open_to_all else is_loopback

    def account(self, key: str | None, *, host: str | None, origin: str | None) -> str | Refusal:
        """Whose request it is, or why it is turned away; `host` and `origin` are the headers."""
        if self._keys:
            return (None if key is None else self._keys.account(key)) or UNAUTHORIZED
        # A page from elsewhere can make a browser ask addresses in here; it cannot hide its
        # origin, and a name that it had resolved to one of them shows in Host.
        asked = None if host is None else _host_of("//" + host)
        if asked is not None and not self._is_ours(asked):
            return FORBIDDEN
        if origin is not None and not is_loopback(page := _host_of(origin)) and page != asked:
            return FORBIDDEN
        return OPEN_ACCOUNT


def _digest_of_entry(number: int, key: str) -> bytes:
    if not key.startswith(_HASHED):
        if not key.strip():
            raise ConfigurationError(f"gateway.keys[{number}] is empty")
        if not key.isascii():
            # Clients do not agree on how such a one travels in a header.
            raise ConfigurationError(
                f"gateway.keys[{number}] has characters beyond ASCII; use A-Z a-z 0-9 - _ . ~"
            )
        return hashlib.sha256(key.encode()).digest()
    digits = key.removeprefix(_HASHED)
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if len(digits) != _DIGEST_CHARACTERS or len(digest) != hashlib.sha256().digest_size:
        raise ConfigurationError(
            f"gateway.keys[{number}] needs 64 hexadecimal digits after sha256:"
        )
    return digest


def _is_in_house(host: str) -> bool:
    """Whether no stranger can have chosen what the name means: an address, or a name of ours."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(_HOUSE_ENDINGS))
    return True


def _host_of(url: str) -> str:
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return ""
