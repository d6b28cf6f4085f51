"""Typed configuration: its sections, where values come from, and what is wrong with them."""
