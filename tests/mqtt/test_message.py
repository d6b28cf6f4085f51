"""Acknowledgements."""

from __future__ import annotations

from kugel_bridge.mqtt.message import Ack


def test_an_acknowledgement_is_sent_once() -> None:
    sent: list[None] = []
    ack = Ack(lambda: sent.append(None))
    assert ack.pending
    ack()
    ack()
    assert len(sent) == 1
    assert not ack.pending


def test_nobody_waits_for_one_at_qos_0() -> None:
    ack = Ack()
    assert not ack.pending
    ack()
