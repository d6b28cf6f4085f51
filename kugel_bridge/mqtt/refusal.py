"""The no to an announcement, with what is needed to tell whoever sent it."""

from __future__ import annotations

from kugel_bridge.model.announcement import Announcement, Priority, ReplyAddress
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.errors import RejectedError

EVENT_TEXT_CHARACTERS = 200
"""So much of a text is told in events."""


class RefusedAnnouncementError(RejectedError):
    """An announcement that cannot be taken, with what is needed to tell its caller."""

    def __init__(
        self,
        reason: str,
        *,
        id: str,  # noqa: A002  its name everywhere
        received: Instant,
        text: str = "",
        zones: tuple[str, ...] = (),
        priority: Priority = Priority.NORMAL,
        reply_to: tuple[ReplyAddress, ...] = (),
        ignored: tuple[str, ...] = (),
    ) -> None:
        super().__init__(reason)
        self.id, self.received, self.text = id, received, text
        self.zones, self.priority = zones, priority
        self.reply_to, self.ignored = reply_to, ignored


def refusal_of(announcement: Announcement, reason: str) -> RefusedAnnouncementError:
    """The refusal of an announcement that was read, and still cannot be taken."""
    return RefusedAnnouncementError(
        reason,
        id=announcement.id,
        received=announcement.received,
        text=announcement.text[:EVENT_TEXT_CHARACTERS],
        zones=announcement.zones,
        priority=announcement.priority,
        reply_to=announcement.reply_to,
        ignored=announcement.ignored,
    )
