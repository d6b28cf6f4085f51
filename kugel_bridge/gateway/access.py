"""Who may use the gateway: keys, and what protects one without keys."""

from __future__ import annotations

import hashlib
import hmac
import urllib.parse
from collections.abc import Iterable

from kugel_bridge.kugelaudio.codes import FORBIDDEN, UNAUTHORIZED, Refusal
from kugel_bridge.kugelaudio.hosts import is_loopback
from kugel_bridge.model.errors import ConfigurationError

_HASHED = "sha256:"
_DIGEST_CHARACTERS = 64


class KeyRing:
    """The configured keys, each plain or as `sha256:` and 64 hexadecimal digits.

    Only digests are kept, so that no key can show up in a dump. Raises ConfigurationError for a
    malformed entry, without showing it.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest_of_entry(number, key) for number, key in enumerate(keys)]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accepts(self, key: str) -> bool:
        """Whether `key` is one of them; takes the same time whichever it is."""
        presented = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        # A sum instead of any(): no early end that tells the position of a match.
        return sum(hmac.compare_digest(presented, digest) for digest in self._digests) > 0


class Access:
    """Decides on requests; without keys only this machine may ask, and no web page on it."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def refusal(self, key: str | None, *, host: str | None, origin: str | None) -> Refusal | None:
        """Why a request is turned away; `host` and `origin` are the headers of these names."""
        if self._keys:
            return None if key is not None and self._keys.accepts(key) else UNAUTHORIZED
        # A page from elsewhere can make a browser ask loopback addresses; it cannot hide its
        # origin, and a name that it had resolved to 127.0.0.1 shows in Host.
        if host is not None and not is_loopback(_host_of("//" + host)):
            return FORBIDDEN
        if origin is not None and not is_loopback(_host_of(origin)):
            return FORBIDDEN
        return None


def _digest_of_entry(number: int, key: str) -> bytes:
    if not key.startswith(_HASHED):
        if not key.strip():
            raise ConfigurationError(f"gateway.keys[{number}] is empty")
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


def _host_of(url: str) -> str:
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return ""
