"""Every error the bridge raises on purpose.

The class answers the one question a caller has: is the same request worth repeating?
It speaks of the same source; the ladder goes on to the next rung after either kind.
"""

from __future__ import annotations


class BridgeError(Exception):
    """Base of every error kugel-bridge raises on purpose; its text is fit for a person."""


class RetryableError(BridgeError):
    """The same request may succeed later."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """How long the other side asked us to wait (s), if it said so."""


class PermanentError(BridgeError):
    """Repeating the request unchanged is pointless."""


# --- what a speech service answers ------------------------------------------------------


class RateLimitedError(RetryableError):
    """The service wants fewer requests."""


class ServiceUnavailableError(RetryableError):
    """The service is down, unreachable, or failed at this request."""


class TooSlowError(ServiceUnavailableError):
    """A deadline passed: connecting, first audio, or a stall in the middle."""


class NoSoundError(ServiceUnavailableError):
    """The service took a text and there was nothing to hear; of other texts that says nothing."""


class LoopError(ServiceUnavailableError):
    """The service is a gateway that asks us in the end; the text names who asks whom."""


class ProtocolError(RetryableError):
    """The peer broke the protocol; a fresh connection may cure it."""


class UnauthorizedError(PermanentError):
    """The service refuses our key; a person has to act."""


class NoCreditsError(PermanentError):
    """The account is empty; a person has to act."""


class InvalidRequestError(PermanentError):
    """The service will never take this request: a bad field, an unknown voice, too long a text."""


class NotInCacheError(PermanentError):
    """`cache: "only"` was asked for, and the phrase is not in the cache."""


class OutdatedError(PermanentError):
    """It was true when it was asked for, and is not any more."""


# --- devices and disks ----------------------------------------------------------------


class DeviceError(RetryableError):
    """The sound card cannot take sound now."""


class DeviceMissingError(DeviceError):
    """There is no such card, or it was unplugged."""


class DeviceBusyError(DeviceError):
    """Somebody else holds the card."""


class StorageError(RetryableError):
    """The disk is full, read-only or damaged."""


class UnstorableError(PermanentError):
    """No disk would take it: a value that cannot be written down."""


# --- what people hand in -----------------------------------------------------------------


class RejectedError(PermanentError):
    """An announcement or request that cannot be carried out as it stands; the text says why."""


class NotSupportedError(RejectedError):
    """Named in the manual, but not built yet."""


class ConfigurationError(BridgeError):
    """A setting is wrong; the text names the key, its value, where it came from and the remedy."""
