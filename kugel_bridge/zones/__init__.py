"""A place in the house: its sink, its volume, its silence."""
