"""The image cache: what it accepts, what it shares, what a failure leaves."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonova.compute.imagecache import ImageCache
from kilonova.compute.imageformat import inspect
from kilonova.compute.virt.driver import Image, Refused, ReportProgress, Transient
from kilonova.model.guest import ImageRef

RAW = bytes(3 << 20)


def quiet(_percent: int, _detail: str) -> None:
    pass


needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


class Store:
    """An image service that can be stopped in the middle."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.opened = 0
        self.go = asyncio.Event()
        self.go.set()
        self.first = asyncio.Event()

    async def open(self, image_id: str) -> AsyncIterator[bytes]:
        self.opened += 1
        for at in range(0, len(self.content), 1 << 20):
            yield self.content[at : at + (1 << 20)]
            self.first.set()
            await self.go.wait()

    def ref(self, **changes: object) -> ImageRef:
        values: dict[str, object] = {
            "id": "11111111-1111-4111-8111-111111111111",
            "size": len(self.content),
            "checksum": hashlib.sha512(self.content).hexdigest(),
            "hash_algo": "sha512",
        }
        return ImageRef(**{**values, **changes})  # type: ignore[arg-type]  # values of several types


class Sources:
    """The source the cache has at the moment: each test sets its own."""

    def __init__(self) -> None:
        self.now: Store | None = None

    def open(self, image_id: str) -> AsyncIterator[bytes]:
        assert self.now
        return self.now.open(image_id)


class Cache(ImageCache):
    """A cache that is told its source with every call."""

    def __init__(self, directory: Path) -> None:
        self.sources = Sources()
        super().__init__(directory, self.sources, reserve=0)

    async def of(self, store: Store, progress: ReportProgress = quiet, **changes: object) -> Image:
        self.sources.now = store
        return await self.get(store.ref(**changes), progress)


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache]:
    made = Cache(tmp_path)
    await made.start()
    yield made
    await made.stop()


def left(cache: Cache) -> list[str]:
    return sorted(p.name for p in cache.root.iterdir())


async def test_an_image_is_fetched_once_and_shared(cache: Cache) -> None:
    store = Store(RAW)
    store.go.clear()
    seen: list[int] = []
    several = [asyncio.create_task(cache.of(store, lambda percent, _: seen.append(percent))) for _ in range(5)]
    await store.first.wait()
    several[0].cancel()
    store.go.set()
    images = await asyncio.gather(*several[1:])
    assert {(i.format, i.virtual_size) for i in images} == {("raw", len(RAW))}
    assert (await cache.of(store)) == images[0]
    assert store.opened == 1 and seen[-1] == 100
    assert images[0].path.read_bytes() == RAW and len(left(cache)) == 1


async def test_nobody_waits_any_more(cache: Cache) -> None:
    store = Store(RAW)
    store.go.clear()
    task = asyncio.create_task(cache.of(store))
    await store.first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left(cache) == []
    store.go.set()
    assert (await cache.of(store)).format == "raw"


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"checksum": "00"}, Refused, "image_invalid"),
        ({"size": len(RAW) - 1}, Refused, "image_invalid"),
        ({"size": len(RAW) + 1}, Transient, "image_gone"),
        ({"size": 1 << 60}, Transient, "no_space"),
    ],
)
async def test_what_does_not_fit_its_description(
    cache: Cache, change: dict[str, object], error: type[Exception], code: str
) -> None:
    store = Store(RAW)
    with pytest.raises(error) as raised:
        await cache.of(store, **change)
    assert raised.value.code == code  # type: ignore[attr-defined]  # both have it
    assert left(cache) == []


async def test_a_failing_service_is_passed_on_to_all(cache: Cache) -> None:
    class Away(Store):
        async def open(self, image_id: str) -> AsyncIterator[bytes]:
            yield b"x"
            raise Transient("image_service", "away")

    tries = (cache.of(Away(RAW)) for _ in range(3))
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(r) for r in results] == [Transient] * 3
    assert left(cache) == []


async def test_ids_are_not_paths(cache: Cache) -> None:
    store = Store(RAW)
    image = await cache.of(store, id="../../etc/x", checksum="../y", hash_algo=None)
    assert image.path.parent == cache.root


async def test_a_crash_leaves_only_parts_and_the_next_start_removes_them(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.part").touch()
    cache = Cache(tmp_path)
    await cache.start()
    assert left(cache) == []
    await cache.stop()


def qemu_img(*words: str) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True)


def judged(path: Path) -> str:
    with path.open("rb") as file:
        try:
            facts = inspect(file, path.stat().st_size)
        except Refused as refused:
            return refused.message
    return f"{facts.format} {facts.virtual_size}"


def patched(path: Path, offset: int, form: str, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(form, value))


@needs_qemu_img
@pytest.mark.parametrize(
    ("options", "patch", "verdict"),
    [
        ((), None, "qcow2 8388608"),
        (("-o", "compat=0.10"), None, "qcow2 8388608"),
        (("-o", "compression_type=zstd"), None, "qcow2 8388608"),
        (("-o", "extended_l2=on"), None, "qcow2 8388608"),
        ((), (8, ">Q", 512), "backing file"),
        ((), (72, ">Q", 1 << 2), "external data file"),
        ((), (72, ">Q", 1 << 9), "unknown features"),
        ((), (24, ">Q", 1 << 60), "virtual size"),
        ((), (4, ">I", 9), "version 9"),
        ((), (20, ">I", 31), "clusters"),
        ((), (32, ">I", 2), "encrypted"),
        ((), (36, ">I", 0xFFFFFFFF), "tables"),
    ],
)
def test_qcow2_by_its_header(
    tmp_path: Path, options: tuple[str, ...], patch: tuple[int, str, int] | None, verdict: str
) -> None:
    path = tmp_path / "called.raw"
    qemu_img("create", "-f", "qcow2", *options, str(path), "8M")
    if patch:
        patched(path, *patch)
    assert verdict in judged(path)


@needs_qemu_img
def test_qcow2_that_names_other_files(tmp_path: Path) -> None:
    base, over, data = tmp_path / "base", tmp_path / "over", tmp_path / "data"
    qemu_img("create", "-f", "qcow2", str(base), "8M")
    qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(over))
    assert "backing" in judged(over)
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'd'}", str(data), "8M")
    assert "external data file" in judged(data)
    patched(data, 72, ">Q", 0)
    assert "external data file" in judged(data)


@needs_qemu_img
@pytest.mark.parametrize("kind", ["monolithicSparse", "streamOptimized"])
async def test_a_vmdk_is_converted(tmp_path: Path, cache: Cache, kind: str) -> None:
    raw, path = tmp_path / "raw", tmp_path / "x.vmdk"
    raw.write_bytes(os.urandom(1 << 20))
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={kind}", str(raw), str(path))
    store = Store(path.read_bytes())
    image = await cache.of(store)
    assert (image.format, image.virtual_size) == ("qcow2", 1 << 20)
    back = tmp_path / "back"
    qemu_img("convert", "-O", "raw", str(image.path), str(back))
    assert back.read_bytes() == raw.read_bytes() and len(left(cache)) == 1


@needs_qemu_img
@pytest.mark.parametrize("kind", ["monolithicFlat", "twoGbMaxExtentSparse", "monolithicSparse"])
def test_a_vmdk_that_names_other_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.vmdk"
    qemu_img("create", "-f", "vmdk", "-o", f"subformat={kind}", str(path), "8M")
    if kind == "monolithicSparse":
        path.write_bytes(path.read_bytes().replace(b'"x.vmdk"', b'"/etc/x"'))
    assert "vmdk" in judged(path) and not judged(path).startswith("vmdk ")


@given(st.binary(max_size=2048), st.sampled_from([b"", b"QFI\xfb\0\0\0\3", b"KDMV\1\0\0\0", b"# Disk DescriptorFile"]))
def test_nothing_breaks_the_readers(tail: bytes, head: bytes) -> None:
    with contextlib.suppress(Refused):
        inspect(io.BytesIO(head + tail), len(head + tail))
