"""What can't work is told in one clear line, with an exit code, and without a traceback."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_api import account
from cloud_process import CloudProcess, free_port, place, wait_for

from kilonova.cli import up

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def refused(cloud: CloudProcess, *more: str) -> str:
    """Start what can't start; its one line, after seeing that it is one."""
    cloud.words += more
    child = cloud.spawn()
    try:
        code = child.wait(60)
    finally:
        cloud.kill()
    said = cloud.said().strip()
    assert code not in (0, None), said
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("kilonova: ")]
    assert len(line) < 300
    return line


@pytest.fixture
def other(tmp_path: Path) -> Iterator[CloudProcess]:
    made = CloudProcess(tmp_path / "other")
    yield made
    made.remove()


def test_a_second_up_on_the_same_dir(cloud: CloudProcess, tmp_path: Path) -> None:
    second = CloudProcess(cloud.folder)
    second.output = tmp_path / "second.out"
    assert "already runs" in refused(second)
    assert "already runs" in refused(second, "--detach")


def test_a_second_up_on_the_same_port(cloud: CloudProcess, other: CloudProcess) -> None:
    assert f"port {cloud.port} on 127.0.0.1 is in use" in refused(other, "--port", str(cloud.port))
    assert "in use" in refused(other, "--detach")


def test_an_address_that_is_not_ours(other: CloudProcess) -> None:
    assert "cannot listen on 192.0.2.1" in refused(other, "--host", "192.0.2.1", "--insecure")


def test_beyond_loopback_only_with_tls_or_on_purpose(other: CloudProcess) -> None:
    assert "needs --tls" in refused(other, "--host", "0.0.0.0")


def test_a_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cloud = CloudProcess(tmp_path / "file")
    cloud.output = tmp_path / "out"
    assert "cannot be used" in refused(cloud)


@root_only
def test_an_unreadable_dir(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    weak = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    cloud = CloudProcess(folder, prefix=weak)
    assert "Permission denied; choose another with --dir" in refused(cloud)


@root_only
def test_a_dir_with_anothers_files(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    (folder / "lock").touch(mode=0o600)
    os.chown(folder / "lock", 65534, 65534)
    weak = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    assert "lock: Permission denied" in refused(CloudProcess(folder, prefix=weak))


def test_a_networked_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "file_system", lambda folder: "nfs4")
    with pytest.raises(up.CliError, match=r"network file system \(nfs4\)"):
        up.check_folder(tmp_path)
    monkeypatch.undo()
    assert up.file_system(Path("/proc/self")) == "proc"


def test_a_dir_of_a_newer_kilonova(other: CloudProcess) -> None:
    other.start()
    other.stop()
    with sqlite3.connect(other.folder / "kilonova.db") as database:
        database.execute("UPDATE schema_version SET version = 999")
    database.close()
    assert "made by a newer kilonova" in refused(other)


def test_a_broken_database(other: CloudProcess) -> None:
    other.folder.mkdir()
    (other.folder / "kilonova.db").write_bytes(os.urandom(20000))
    assert "kilonova.db: file is not a database" in refused(other)


def test_wrong_settings_are_named_with_their_place(tmp_path: Path) -> None:
    cloud = CloudProcess(tmp_path / "cloud", settings="[quota]\ninstances = 'many'\n")
    assert "cloud.toml:2" in refused(cloud)


@pytest.mark.parametrize("words", [["up", "--driver", "abacus"], ["nothing"], ["up", "--port", "x"]])
def test_wrong_words(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "kilonova", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr


def in_small_disk(folder: Path, megabytes: int) -> tuple[str, ...]:
    """A command that runs others where `folder` is a disk of that size, seen by nobody else."""
    script = f'mount -t tmpfs -o size={megabytes}m,mode=711 none "$1" && shift && exec "$@"'
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(folder))


@root_only
def test_a_full_disk(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    assert "are free in" in refused(CloudProcess(folder, prefix=in_small_disk(folder, 60)))


@root_only
async def test_a_disk_that_fills_while_the_cloud_runs() -> None:
    with place() as parent:
        folder = parent / "small"
        folder.mkdir()
        cloud = CloudProcess(folder, prefix=in_small_disk(folder, 300))
        try:
            cloud.start()
            assert cloud.child is not None
            outside = cloud.folder
            cloud.folder = Path(f"/proc/{cloud.child.pid}/root{folder}")
            async with account(cloud) as api:
                uuid = (await api.create("before")).json()["server"]["id"]
                await api.until(uuid, "ACTIVE")
                filler = cloud.folder / "filler"
                fill(filler)
                # What fits into pages the database has already still goes through.
                for _ in range(200):
                    answer = await api.create("meanwhile")
                    if answer.status_code == 503:
                        break
                    assert answer.status_code in (202, 403)
                    await api.http.delete(f"/compute/v2.1/servers/{uuid}")
                assert answer.status_code == 503, answer.text
                assert answer.headers["retry-after"] and "full" in answer.text
                assert await api.servers() is not None
                assert (await api.http.get("/healthcheck")).status_code in (200, 503)
                filler.unlink()
                await api.settled()
                await api.delete_all()
                after = await api.create("after")
                assert after.status_code == 202, after.text
                await api.until(after.json()["server"]["id"], "ACTIVE")
                assert cloud.child.poll() is None
            cloud.stop()
            cloud.folder = outside
        finally:
            cloud.remove()


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_every_service_says_what_it_misses() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "kilonova", "status", "--dir", f"/nonexistent/{free_port()}"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "none was made there" in done.stdout
    assert wait_for(lambda: True, "nothing") is True
