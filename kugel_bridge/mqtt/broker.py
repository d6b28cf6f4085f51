"""Which broker to talk to, and how to prove who we are and who it is."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from kugel_bridge.model.errors import ConfigurationError

KEEPALIVE_S = 8
"""A dead broker or cable is noticed after twice this time; the network carries 4 bytes for it."""
SESSION_EXPIRY_S = 3_600
"""How long the broker keeps messages for us while we are away: the longest time worth speaking."""
RECEIVE_MAXIMUM = 20
"""Unacknowledged messages we take at a time; the most Mosquitto sends anyway."""
MAX_PACKET_BYTES = 128 * 1024
"""Larger messages stay in the broker (MQTT 5): what is a little too large can still be refused."""


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        """As in the standard library."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for an encrypted connection. The broker's certificate is always verified."""

    ca_file: Path | None = None
    """Who vouches for the broker; None = the system's authorities."""
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """What `ssl` needs; reads the files, raises ConfigurationError."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ConfigurationError(
                f'mqtt.ca_file: "{self.ca_file}" cannot be used: {error}'
            ) from error
        if self.ca_file is not None:
            # New in Python 3.13, and certificates of home-made authorities often lack what it
            # wants (an authority key identifier). Signature, dates and name are still verified.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.cert_file is not None:
            try:
                # An empty password instead of none: OpenSSL would ask on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except OSError as error:
                raise ConfigurationError(
                    f'mqtt.cert_file: "{self.cert_file}" with mqtt.key_file '
                    f'"{self.key_file}" cannot be used: {error}'
                ) from error
        context.sslsocket_class = _TlsSocket
        return context


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and how we introduce ourselves."""

    host: str
    port: int
    client_id: str
    """Fixed, and of one bridge only: the broker keeps our messages under it."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    keepalive_s: int = KEEPALIVE_S
    connect_timeout_s: float = 5.0
    """For the TCP and TLS handshakes, and again for each of the first answers."""
    session_expiry_s: int = SESSION_EXPIRY_S

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
