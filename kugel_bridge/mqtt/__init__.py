"""The MQTT door: topics, payloads, and the connection."""
