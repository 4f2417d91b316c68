"""The stories, one a file; each reads from top to bottom. Importing this package registers them all."""

from kilonova.conductor.operations import build, bury, delete, reboot, reset, schedule, start, stop

__all__ = ["build", "bury", "delete", "reboot", "reset", "schedule", "start", "stop"]
