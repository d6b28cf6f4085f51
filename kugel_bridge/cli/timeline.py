"""The way of announcements as lines for people: milliseconds since arrival, and what happened."""

from __future__ import annotations

from kugel_bridge.model.report import Outcome, Report, SourceKind, Step

_FROM = {
    None: "first sound",
    SourceKind.CACHE: "first sound, from the cache",
    SourceKind.CLOUD: "first sound, streamed from the cloud",
    SourceKind.LOCAL: "first sound, from the local engine",
    SourceKind.ALERT: "first sound, from a stored alert",
    SourceKind.TONE: "a tone: nothing could say it",
}


class Timeline:
    """Turns reports into lines; remembers who was heard already."""

    def __init__(self) -> None:
        self._heard: set[tuple[str, str]] = set()

    def line(self, report: Report, name: str = "") -> str:
        """One line; `name` stands before what happened."""
        key = report.announcement.id, report.zone
        at_ms = (report.at.monotonic_s - report.announcement.received.monotonic_s) * 1000
        what = self._what(report)
        if report.event is Step.STARTED and key not in self._heard:
            self._heard.add(key)
            at_ms = report.first_sound_ms or 0
        if report.is_outcome:
            self._heard.discard(key)
        return f"  {at_ms:7.0f} ms  {name}{what}"

    def _what(self, report: Report) -> str:
        match report.event:
            case Step.QUEUED:
                return "received over MQTT"
            case Step.STARTED:
                if (report.announcement.id, report.zone) in self._heard:
                    return "goes on with the sentence that was cut"
                return _FROM[report.source]
            case Step.PREEMPTED:
                return "makes way for something more urgent"
            case Step.DEFERRED:
                return f"put off: {report.reason}"
            case Outcome.FINISHED:
                heard_s = (report.duration_ms or 0) / 1000
                cost = report.characters or "no"
                return f"finished: {heard_s:.1f} s heard, {cost} characters sent to the cloud"
            case event:
                return f"{event}: {report.reason}"
