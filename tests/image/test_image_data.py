"""The data of images over a real socket: streamed, interrupted, too much, and what a start finds afterwards."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from image.image_cloud import TOKENS, Cloud, ImageLimits, open_cloud
from image.live_server import serving
from kilonova.image import store as store_module

MIB = 1 << 20


def rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


async def test_200_mb_in_and_out_in_bounded_memory(cloud: Cloud) -> None:
    image = await cloud.new(disk_format="raw")
    zeros, mark = bytes(MIB), b"\x01" * 4096
    digest, size = hashlib.sha512(), 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal size
        for n in range(200):
            piece = mark if n % 50 == 49 else zeros
            digest.update(piece)
            size += len(piece)
            yield piece

    async with serving(cloud.app) as url:
        path = f"{url}/image/v2/images/{image}/file"
        headers = {"x-auth-token": "member", "content-type": "application/octet-stream"}
        async with httpx2.AsyncClient(timeout=60) as http:
            before, most = rss(), 0
            answer = await http.put(path, content=body(), headers=headers)
            assert answer.status_code == 204, answer.text
            most = max(most, rss())
            back = hashlib.sha512()
            async with http.stream("GET", path, headers=headers) as got:
                async for piece in got.aiter_bytes():
                    back.update(piece)
                    most = max(most, rss())
    shown = await cloud.show(image)
    assert shown["size"] == size and shown["os_hash_value"] == digest.hexdigest() == back.hexdigest()
    assert most - before < 40 * MIB, f"{(most - before) // MIB} MiB more"
    (name,) = cloud.files()
    held = (cloud.images.store.folder / name).stat()
    assert held.st_size == size and held.st_blocks * 512 < 8 * MIB


async def test_an_interrupted_upload_leaves_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await cloud.new()
    written, ended = asyncio.Event(), asyncio.Event()
    write, close = store_module.Incoming.write, store_module.Incoming.close

    async def told_write(self: store_module.Incoming, piece: bytes) -> None:
        await write(self, piece)
        written.set()

    async def told_close(self: store_module.Incoming) -> None:
        await close(self)
        ended.set()

    monkeypatch.setattr(store_module.Incoming, "write", told_write)
    monkeypatch.setattr(store_module.Incoming, "close", told_close)
    async with serving(cloud.app) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"PUT /image/v2/images/{image}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: member\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {100 * MIB}\r\n\r\n"
        )
        writer.write(head.encode() + bytes(5 * MIB))
        await writer.drain()
        async with asyncio.timeout(10):
            await written.wait()
        assert [name.endswith(".part") for name in cloud.files()] == [True]
        assert (await cloud.show(image))["status"] == "saving"
        assert (await cloud.call("PUT", f"/images/{image}/file", data=b"other")).status_code == 409
        writer.transport.abort()
        async with asyncio.timeout(10):
            await ended.wait()
        assert cloud.files() == []
    assert (await cloud.show(image))["status"] == "queued"
    assert (await cloud.call("PUT", f"/images/{image}/file", data=b"again")).status_code == 204


async def test_deleted_during_its_upload(cloud: Cloud) -> None:
    image = await cloud.new()
    started, go_on = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield bytes(2 * MIB)
        started.set()
        await go_on.wait()
        yield b"end"

    async with asyncio.TaskGroup() as group:
        upload = group.create_task(_outcome(cloud.images.receive(image, pieces(), None)))
        await started.wait()
        assert (await cloud.call("DELETE", f"/images/{image}")).status_code == 204
        go_on.set()
    assert "deleted" in str(upload.result())
    assert cloud.files() == []


async def _outcome(work: Any) -> Any:
    try:
        return await work
    except Exception as error:
        return error


async def test_changed_during_its_upload(cloud: Cloud) -> None:
    image = await cloud.new()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        assert (await cloud.call("PUT", f"/images/{image}/tags/late")).status_code == 204

    row = await cloud.images.receive(image, pieces(), None)
    assert row.status == "active" and row.tags == ["late"]


async def test_cancelled(cloud: Cloud) -> None:
    image = await cloud.new()
    started = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield bytes(MIB)
            started.set()

    task = asyncio.ensure_future(cloud.images.receive(image, pieces(), None))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cloud.files() == [] and (await cloud.show(image))["status"] == "queued"


async def test_a_disk_that_fills(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def full(fd: int, data: Any) -> int:
        if len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(store_module.os, "write", full)
    image = await cloud.new()
    answer = await cloud.call("PUT", f"/images/{image}/file", data=b"x" * 5000)
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    assert cloud.files() == [] and (await cloud.show(image))["status"] == "queued"
    monkeypatch.undo()
    assert (await cloud.call("PUT", f"/images/{image}/file", data=b"x" * 5000)).status_code == 204


async def test_room_is_left_for_the_databases(databases: Any, tmp_path: Path) -> None:
    cloud = await open_cloud(databases, tmp_path, reserve=1 << 60)
    image = await cloud.new()
    assert (await cloud.call("PUT", f"/images/{image}/file", data=b"x")).status_code == 503
    assert cloud.files() == []
    await cloud.close()


async def test_too_big(databases: Any, tmp_path: Path) -> None:
    cloud = await open_cloud(databases, tmp_path, limits=ImageLimits(size=1000, properties=2))
    image = await cloud.new()
    assert (await cloud.call("PUT", f"/images/{image}/file", data=b"x" * 1001)).status_code == 413

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 600
        yield b"x" * 600

    assert "1000 bytes" in str(await _outcome(cloud.images.receive(image, pieces(), None)))
    assert cloud.files() == [] and (await cloud.show(image))["status"] == "queued"
    answer = await cloud.call("POST", "/images", {"a": "1", "b": "2", "c": "3"})
    assert answer.status_code == 413
    await cloud.close()


async def test_a_start_after_a_crash(cloud: Cloud) -> None:
    kept = await cloud.active(data=b"kept")
    dead = await cloud.new()
    folder = cloud.images.store.folder

    def saving(row: Any) -> None:
        row.status, row.upload = "saving", "gone"

    await cloud.images.change(dead, saving)
    (folder / f"{dead}.gone.part").write_bytes(b"half")
    (folder / "orphan.upload").write_bytes(b"whole, but of no row")
    alive = await cloud.new()
    started, go_on = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        started.set()
        await go_on.wait()

    async with asyncio.TaskGroup() as group:
        upload = group.create_task(cloud.images.receive(alive, pieces(), None))
        await started.wait()
        await cloud.images.start()
        go_on.set()
    assert upload.result().status == "active"
    assert (await cloud.show(dead))["status"] == "queued"
    assert len(cloud.files()) == 2
    assert b"".join([piece async for piece in cloud.images.open(kept)]) == b"kept"


async def test_sizes_that_differ(cloud: Cloud) -> None:
    image = await cloud.new()
    answer = await cloud.call("PUT", f"/images/{image}/file", data=b"12345", headers={"x-openstack-image-size": "4"})
    assert answer.status_code == 400
    assert (await cloud.call("PUT", f"/images/{image}/file", data=b"x", media="text/plain")).status_code == 415
    bare = (await cloud.call("POST", "/images", {"name": "no formats"})).json()["id"]
    assert (await cloud.call("PUT", f"/images/{bare}/file", data=b"x")).status_code == 400


async def test_an_empty_image(cloud: Cloud) -> None:
    image = await cloud.active(data=b"")
    got = await cloud.call("GET", f"/images/{image}/file")
    assert (got.status_code, got.content, got.headers["content-length"]) == (200, b"", "0")
    assert (await cloud.images.show(image, TOKENS["member"])).size == 0


async def test_download_outlives_delete(cloud: Cloud) -> None:
    image = await cloud.active(data=bytes(3 * MIB))
    pieces = cloud.images.open(image)
    first = await anext(pieces)
    assert (await cloud.call("DELETE", f"/images/{image}")).status_code == 204
    rest = [piece async for piece in pieces]
    assert len(first) + sum(map(len, rest)) == 3 * MIB
