"""The queue: it only wakes people up and carries calls to hosts; the database holds the truth."""
