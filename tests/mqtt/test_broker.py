"""How a broker is described."""

from __future__ import annotations

import ssl

from kugel_bridge.mqtt.broker import Broker, Tls
from tests.broker import Certificates


def test_a_password_is_never_shown() -> None:
    broker = Broker("house", 1883, "bridge", username="anna", password="geheim")
    assert "geheim" not in repr(broker)
    assert str(broker) == "house:1883"


def test_a_certificate_is_always_verified(certificates: Certificates) -> None:
    for tls in (Tls(), Tls(certificates.ca)):
        context = tls.context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
