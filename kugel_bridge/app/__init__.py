"""The composition root: builds everything from the settings, and stops it in mirror order."""
