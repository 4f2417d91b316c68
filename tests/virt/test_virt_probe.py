"""The KVM probe: believes only a kernel it saw, and waits for nothing."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
import pytest

from kilonova.compute.virt.libvirt import daemon, probe


def saying(text: str, then: str = "time.sleep(60)") -> list[str]:
    return [sys.executable, "-c", f"import time, sys; sys.stdout.write({text!r}); sys.stdout.flush(); {then}"]


async def test_a_kernel_that_came_up_is_seen_at_once() -> None:
    began = time.monotonic()
    assert await probe.kernel_runs(saying("Linux version 6\nRun /init as init process\n"), 30.0)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("command", [saying("Linux version 6.1\n"), saying("no", "pass"), ["/no/such/program"]])
async def test_anything_else_is_no_kernel(command: list[str]) -> None:
    began = time.monotonic()
    assert not await probe.kernel_runs(command, 0.5)
    assert time.monotonic() - began < 5


async def test_a_child_that_ignores_everything_is_given_up() -> None:
    stubborn = "import signal; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; time.sleep(60)"
    began = time.monotonic()
    assert not await probe.kernel_runs(saying("x", stubborn), 0.3)
    assert time.monotonic() - began < 5


async def test_a_verdict_is_kept_for_this_boot_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path | None] = []

    async def find_out(directory: Path, kernel: Path | None, disk: Path | None) -> probe.Verdict:
        asked.append(kernel)
        return probe.Verdict(virt_type="qemu", why="because", tried=kernel is not None)

    monkeypatch.setattr(probe, "_find_out", find_out)
    assert (await probe.decide(tmp_path)).virt_type == "qemu"
    kernel = tmp_path / "vmlinuz"
    for _ in range(2):
        assert (await probe.decide(tmp_path, kernel=kernel)).why == "because"
    assert asked == [None, kernel]
    kept = probe.read(tmp_path)
    assert kept and kept.boot_id
    old = msgspec.structs.replace(kept, boot_id="another boot")
    (tmp_path / "libvirt" / "virt-type.json").write_bytes(msgspec.json.encode(old))
    assert probe.read(tmp_path) is None
    (tmp_path / "libvirt" / "virt-type.json").write_bytes(os.urandom(20))
    assert probe.read(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/kvm").exists(), reason="needs root and /dev/kvm")
def test_a_node_that_qemus_group_may_open_is_lent_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "answers", lambda uri: False)
    user = daemon.qemu_user(daemon.SYSTEM)
    lent = daemon.may_lend_kvm(tmp_path)
    assert not (tmp_path / "libvirt" / "kvm").exists()
    if user is None or Path("/run/systemd/system").exists():
        assert not lent
        return
    before = os.stat("/dev/kvm")
    node = daemon.lend_kvm(tmp_path).stat()
    assert (node.st_rdev, node.st_gid, node.st_mode & 0o777) == (before.st_rdev, user.pw_gid, 0o660)
    after = os.stat("/dev/kvm")
    assert (after.st_mode, after.st_gid) == (before.st_mode, before.st_gid)
    monkeypatch.setattr(daemon, "answers", lambda uri: True)
    assert not daemon.may_lend_kvm(tmp_path)
