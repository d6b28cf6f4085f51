"""The addresses of one service, and the key that goes with them.

Source: API reference, "Hosts, keys, authentication".
"""

from __future__ import annotations

import ipaddress
import socket
import urllib.parse

from kugel_bridge.model.errors import ConfigurationError

_SOCKET_SCHEMES = {"http": "ws", "https": "wss"}
_HTTP_SCHEMES = {"http": "http", "https": "https"}
_USUAL_PORTS = {"http": 80, "https": 443}


def checked_key(api_key: str) -> str:
    """The key, fit for a URL and a header; empty for a server of one's own that asks for none.

    Raises ConfigurationError, without the key in its text, for one that no service can have given.
    """
    if not all("!" <= c <= "~" for c in api_key):
        raise ConfigurationError("cloud.api_key has characters that no key has")
    return api_key


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_same_server(base_url: str, host: str, port: int) -> bool:
    """Whether a base URL leads to who listens on `host` and `port` of this machine."""
    try:
        parts = urllib.parse.urlsplit(base_url.strip())
        aim, at = parts.hostname or "", parts.port or _USUAL_PORTS.get(parts.scheme)
    except ValueError:
        return False
    if at != port:
        return False
    is_everywhere = host in ("", "0.0.0.0", "::")
    ours = {host, socket.gethostname().lower()} if is_everywhere else {host}
    return aim in ours or (is_loopback(aim) and (is_everywhere or is_loopback(host)))


def http_url(base_url: str, path: str) -> str:
    """The address of a REST endpoint; raises ConfigurationError for an unusable base URL."""
    return _joined(base_url, path, _HTTP_SCHEMES)


def socket_url(base_url: str, path: str, **query: str) -> str:
    """The address of a WebSocket, without empty parameters.

    Raises ConfigurationError for an unusable base URL.
    """
    given = urllib.parse.urlencode({name: value for name, value in query.items() if value})
    return f"{_joined(base_url, path, _SOCKET_SCHEMES)}?{given}"


def is_address(base_url: str) -> bool:
    """Whether the host of a usable base URL is an IP address and not a name."""
    try:
        ipaddress.ip_address(urllib.parse.urlsplit(base_url.strip()).hostname or "")
    except ValueError:
        return False
    return True


def _joined(base_url: str, path: str, schemes: dict[str, str]) -> str:
    try:
        parts = urllib.parse.urlsplit(base_url.strip())
        port = f":{parts.port}" if parts.port is not None else ""
        # What the resolver does with it, which would fail there only when it is asked.
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise ConfigurationError(f"cloud.base_url {base_url!r} is no address: {error}") from error
    if parts.scheme not in schemes or not parts.hostname:
        raise ConfigurationError(f"cloud.base_url {base_url!r} must look like https://host:port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{schemes[parts.scheme]}://{host}{port}{parts.path.rstrip('/')}{path}"
