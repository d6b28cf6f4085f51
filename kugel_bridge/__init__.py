"""kugel-bridge: the voice of a house."""

__version__ = "0.1.0"
