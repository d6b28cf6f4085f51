"""What still has to be said: its order, and its copy on disk."""
