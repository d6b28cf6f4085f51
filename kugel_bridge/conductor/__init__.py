"""Decides: who speaks now, from which source, and what becomes of the rest."""
