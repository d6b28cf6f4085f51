"""A server that speaks the KugelAudio API."""
