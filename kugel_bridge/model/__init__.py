"""The words everybody shares: announcements, PCM, reports, errors, time."""
