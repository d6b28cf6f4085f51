"""The phrases read last, kept in memory: what is said every day needs no disk at all."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from kugel_bridge.speech.entry import CachedPhrase
from kugel_bridge.speech.folder import PhraseFolder, Stamp

LARGEST_PART = 4
"""A phrase may take this part of the room at most, or one long text would push out the rest."""


@dataclass(frozen=True, slots=True)
class _Kept:
    name: str
    stamp: Stamp
    phrase: CachedPhrase


class Recall:
    """At most `max_bytes` of sound; a phrase counts only while its file is what was read.

    The event loop asks, and the thread that reads the disk fills it.
    """

    def __init__(self, folder: PhraseFolder, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, digest: str) -> CachedPhrase | None:
        """The phrase, if it is here and its file was neither changed nor removed."""
        with self._lock:
            kept = self._kept.get(digest)
            if kept is None:
                return None
            # Another process may have purged it; asking for a file's times touches no disk.
            if self._folder.stamp(kept.name) != kept.stamp:
                self._forget(digest)
                return None
            self._kept.move_to_end(digest)
            return kept.phrase

    def keep(self, name: str, phrase: CachedPhrase) -> None:
        """Remember a phrase that was read from `name` and found whole."""
        size = len(phrase.pcm)
        stamp = self._folder.stamp(name)
        if stamp is None or size * LARGEST_PART > self._max_bytes:
            return
        with self._lock:
            self._forget(phrase.digest)
            self._kept[phrase.digest] = _Kept(name, stamp, phrase)
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._forget(next(iter(self._kept)))

    def _forget(self, digest: str) -> None:
        kept = self._kept.pop(digest, None)
        if kept is not None:
            self._bytes -= len(kept.phrase.pcm)
