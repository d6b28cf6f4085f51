"""The many spellings of one request: which foreign field names mean which of ours.

From the conventions of Home Assistant, Chime TTS, Music Assistant, Rhasspy, sonos2mqtt,
tts-ultimate and OpenAI-style servers. Where several spellings are present, the first counts.
"""

from __future__ import annotations

from collections.abc import Mapping

ANNOUNCEMENT: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "message", "msg", "speech", "say", "input", "payload", "tts"),
    "segments": ("segments",),
    "phrase": ("phrase",),
    "vars": ("vars",),
    # No `tag` here, though others use it so: two announcements with one tag are not the same
    # announcement, the newer replaces the older.
    "id": ("id", "request_id", "requestId", "transaction"),
    "priority": ("priority", "level", "urgency"),
    "voice": ("voice", "voice_id", "voiceId", "speaker"),
    "language": ("language", "lang", "locale", "LOCALE"),
    "speed": ("speed", "rate", "speaking_rate"),
    "speed_percent": ("tts_speed",),
    "volume": ("volume", "volume_level", "vol", "vol_f", "announce_volume"),
    "zones": ("zones", "zone", "siteId", "site_id", "target", "room"),
    "chime": (
        "chime",
        "preannounce",
        "use_pre_announce",
        "preannounce_media_id",
        "chime_path",
        "sound",
        "hailing",
        "sonoshailing",
    ),
    "no_chime": ("nohailing",),
    "end_chime": ("end_chime", "end_chime_path"),
    "ttl": ("ttl",),
    "expires": ("expire", "expires"),
    "expires_at": ("expires_at",),
    "timeout": ("timeout",),
    "not_before": ("not_before",),
    "tag": ("tag", "group"),
    "dedupe": ("dedupe",),
    "repeat": ("repeat", "repeats", "count"),
    "cache": ("cache", "use_cache"),
    "offline": ("offline",),
    "preempt": ("preempt", "interrupt", "stop"),
    "reply_to": ("reply_to", "replyTopic", "response_topic"),
    "format": ("format", "text_format", "textType"),
    "ssml": ("ssml",),
}

ALERT: Mapping[str, tuple[str, ...]] = {
    **ANNOUNCEMENT,
    "alert": ("name", "tone", "alert"),
    "state": ("state",),
}
"""A siren of Home Assistant sends `state`, `tone` and a `volume_level` that is a fraction."""

SEGMENT: Mapping[str, tuple[str, ...]] = {
    "type": ("type",),
    "text": ANNOUNCEMENT["text"],
    "voice": ANNOUNCEMENT["voice"],
    "language": ANNOUNCEMENT["language"],
    "speed": ANNOUNCEMENT["speed"],
    "speed_percent": ANNOUNCEMENT["speed_percent"],
    "pause": ("pause", "delay", "length"),
    "chime": ("chime", "chime_path", "path"),
    "alert": ("alert",),
    "repeat": ANNOUNCEMENT["repeat"],
}
"""Parts of a text, as ours and as Chime TTS writes them."""

REPEAT: Mapping[str, tuple[str, ...]] = {
    "count": ("count",),
    "pause_s": ("pause_s", "pause"),
}
