"""The commands around a cloud: detach, status, logs, env, openstack, console, down, purge."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_api import account
from cloud_process import KILONOVA, CloudProcess, call, place, wait_for


@pytest.fixture
def alone() -> Iterator[CloudProcess]:
    """A DIR of its own; whatever a test leaves is purged."""
    with place() as parent:
        made = CloudProcess(parent / "cloud")
        try:
            yield made
        finally:
            call("down", "--dir", str(made.folder))
            made.remove()


def in_a_shell(exports: str) -> str:
    """A shell's environment after it took the exports."""
    environment = {"EXPORTS": exports, "PATH": os.environ["PATH"]}
    return subprocess.check_output(["bash", "-c", 'eval "$EXPORTS"; env'], env=environment, text=True)


async def test_from_up_to_purge(alone: CloudProcess, client: None) -> None:
    folder = ("--dir", str(alone.folder))
    done = call(*alone.words, "--detach")
    assert done.returncode == 0, done.stderr
    assert alone.url in done.stdout and "server create" in done.stdout and "Traceback" not in done.stderr
    assert call(*alone.words, "--detach").returncode == 1

    facts = json.loads(call("status", *folder, "--json").stdout)
    assert facts["state"] == "running" and facts["url"] == alone.url and facts["driver"] == "sim"
    shown = call("status", *folder)
    assert shown.returncode == 0 and "running" in shown.stdout and alone.url in shown.stdout
    logged = call("logs", *folder, "-n", "1000")
    assert logged.returncode == 0 and logged.stdout

    exports = call("env", *folder).stdout
    assert f"OS_AUTH_URL={alone.url}/identity/v3" in in_a_shell(exports)
    assert "kilonova-guest" in call("openstack", *folder, "image", "list").stdout
    admin = {**os.environ, "OS_CLOUD": "kilonova-admin"}
    assert "sim-0001" in call("openstack", *folder, "hypervisor", "list", env=admin).stdout
    for name in ("clouds.yaml", "openrc", "kilonova.db", "keys"):
        assert (alone.folder / name).stat().st_mode & 0o077 == 0, name

    async with account(alone) as demo:
        uuid = (await demo.create("seen")).json()["server"]["id"]
        await demo.until(uuid, "ACTIVE")
    for name in (uuid, "seen"):
        assert "seen login:" in call("console", *folder, name).stdout
    assert "no server 'unseen'" in call("console", *folder, "unseen").stderr

    done = call("down", *folder)
    assert done.returncode == 0 and "Stopped" in done.stdout
    assert call("status", *folder).returncode == 1
    assert "seen login:" in call("console", *folder, "seen").stdout
    done = call(*alone.words, "--detach")
    assert done.returncode == 0, done.stderr
    async with account(alone) as demo:
        assert (await demo.server(uuid) or {})["status"] == "ACTIVE"

    (alone.folder / "thesis.txt").write_text("mine")
    done = call("down", *folder, "--purge")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in alone.folder.iterdir()] == ["thesis.txt"]
    assert "thesis.txt" in done.stdout
    assert call("down", *folder, "--purge").returncode == 0


@pytest.mark.parametrize("broken", ["database", "world", "everything"])
def test_purge_with_broken_files(alone: CloudProcess, broken: str) -> None:
    alone.start()
    alone.kill()
    for path in sorted(alone.folder.rglob("*")):
        wanted = {"database": "kilonova.db" in path.name, "world": "world.db" in path.name, "everything": True}
        if wanted[broken] and path.is_file() and path.name != "cloud-id":
            path.write_bytes(os.urandom(9000))
    done = call("down", "--purge", "--dir", str(alone.folder))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and not alone.folder.exists()


def test_a_detached_cloud_that_fails_says_why(alone: CloudProcess) -> None:
    alone.folder.mkdir()
    (alone.folder / "kilonova.db").write_bytes(os.urandom(20000))
    done = call(*alone.words, "--detach")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "file is not a database" in done.stderr.splitlines()[-1]


def test_a_logs_reader_that_goes_away(alone: CloudProcess) -> None:
    alone.start()
    done = subprocess.run(
        ["sh", "-c", f"'{KILONOVA}' logs --dir '{alone.folder}' | head -1"], capture_output=True, text=True, check=False
    )
    assert done.stdout and not done.stderr


def test_it_goes_on_where_it_moved_to(alone: CloudProcess) -> None:
    alone.start()
    alone.stop()
    other = CloudProcess(alone.folder)
    other.start()
    try:
        assert other.account("kilonova")["auth_url"].startswith(other.url)
        assert wait_for(lambda: call("status", "--dir", str(alone.folder)).returncode == 0, "the cloud")
    finally:
        other.stop()


def test_files_that_a_cloud_makes_are_all_purged(alone: CloudProcess) -> None:
    """Whatever file a later version adds to DIR must be in purge's list."""
    from kilonova.cli.purge import OWNED

    alone.start()
    alone.stop()
    known = {p.name for pattern in OWNED for p in Path(alone.folder).glob(pattern)} | {"instances"}
    assert {p.name for p in alone.folder.iterdir()} <= known
