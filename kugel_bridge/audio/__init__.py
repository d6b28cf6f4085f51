"""Sound: PCM conversion, sinks, the jitter buffer and the player."""
