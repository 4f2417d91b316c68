"""The hosts of a process: drivers, image cache, compute service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kilonova.bus.api import Bus
from kilonova.compute.service import ComputeService
from kilonova.compute.virt import registry
from kilonova.compute.virt.driver import Driver, Refused, Transient
from kilonova.image.port import ImageNotFound, ImagePort, ImageUnavailable


class PortSource:
    """A host's images straight from the image port: the embedded service, in the same process."""

    def __init__(self, images: ImagePort) -> None:
        self._images = images

    async def open(self, image_id: str) -> AsyncIterator[bytes]:
        try:
            async for piece in self._images.open(image_id):
                yield piece
        except ImageNotFound:
            raise Refused("image_gone", f"image {image_id} is not there") from None
        except ImageUnavailable as error:
            raise Transient("image_service", str(error)) from None


def sim_names(count: int, prefix: str = "sim") -> tuple[str, ...]:
    """sim-0001 ...: sorted as text and as numbers."""
    width = max(4, len(str(count)))
    return tuple(f"{prefix}-{n:0{width}d}" for n in range(1, count + 1))


def drivers(kind: str, folder: Path, names: tuple[str, ...], options: dict[str, Any]) -> dict[str, Driver]:
    """One driver a host."""
    return {name: registry.create(kind, folder, name, options) for name in names}


class Hosts:
    """All hosts that this process is."""

    def __init__(
        self, bus: Bus, process: str, kind: str, folder: Path, names: tuple[str, ...], images: ImagePort | None,
        options: dict[str, Any], source: Any = None,
    ) -> None:  # fmt: skip
        from kilonova.compute.imagecache import ImageCache

        self.bus, self.kind = bus, kind
        if source is None and images is not None:
            source = PortSource(images)
        self._cache = ImageCache(folder, source) if kind != "sim" and source is not None else None
        state = folder / "compute"
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.service = ComputeService(
            bus, process, drivers(kind, folder, names, options), state, images=self._cache, durable=kind != "sim"
        )

    async def start(self) -> None:
        await self.bus.start()
        if self._cache is not None:
            await self._cache.start()
        await self.service.start()

    async def stop(self) -> None:
        """Let go; guests keep running."""
        await self.service.stop()
        if self._cache is not None:
            await self._cache.stop()
        await self.bus.stop()
