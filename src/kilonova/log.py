"""Structured logs that never block the event loop.

Every record is one line of key=value pairs (or JSON) carrying the request and operation ids of the
task that wrote it. Records go through a bounded queue to a writer thread; when the queue is full the
newest are counted and dropped, never waited for. Secrets are never passed to a logger.
"""

from __future__ import annotations

import logging


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module. Pass facts as ``extra={"kn": {...}}``, not in the message."""
    return logging.getLogger(name)
