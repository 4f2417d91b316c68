"""Where a host gets an image's bytes: a port that the composer fills with an image service, near or far.

It only streams; checking and keeping is the image cache's work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from kilonova.compute.virt.driver import Image, ReportProgress
from kilonova.model.guest import ImageRef

PIECE = 1 << 20


class ImageSource(Protocol):
    """Streams images by id."""

    def open(self, image_id: str) -> AsyncIterator[bytes]:
        """Yield the file in pieces of at most 1 MiB. Raises Refused("image_gone") or Transient."""


class Images(Protocol):
    """The host's cache of checked images."""

    async def get(self, image: ImageRef, progress: ReportProgress) -> Image:
        """Return the image on this host's disk, fetched and checked if need be. Raises DriverError."""
