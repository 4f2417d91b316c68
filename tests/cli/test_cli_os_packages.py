"""Operating-system packages: named exactly, installed only where that is allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kilonova.cli import apt, os_packages
from kilonova.cli.errors import MissingPackagesError
from kilonova.cli.os_packages import Need
from kilonova.cli.progress import Phase


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """A Debian without anything, where root installs into the returned set."""
    there: set[str] = set()
    monkeypatch.setattr(os_packages, "is_debian", lambda: True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(apt, "install", there.update)
    return there


def needs(there: set[str]) -> list[Need]:
    return [
        Need("guests", ("qemu", "libvirt"), lambda: "qemu" in there),
        Need("disks", ("qemu-utils", "qemu"), lambda: "qemu-utils" in there),
    ]


def test_root_on_debian_installs_what_is_missing(machine: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    os_packages.ensure(needs(machine))
    assert machine == {"qemu", "libvirt", "qemu-utils"}
    assert capsys.readouterr().err == "Missing for guests, disks: installing qemu libvirt qemu-utils\n"
    os_packages.ensure(needs(machine))
    assert capsys.readouterr().err == ""


def test_a_plain_user_gets_the_command(machine: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingPackagesError, match=r"run: sudo apt-get install -y qemu libvirt qemu-utils$") as error:
        os_packages.ensure(needs(machine))
    assert error.value.code == 3
    assert not machine


def test_another_distribution_is_told_the_names(machine: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os_packages, "is_debian", lambda: False)
    with pytest.raises(MissingPackagesError, match=r"what Debian calls qemu libvirt qemu-utils$"):
        os_packages.ensure(needs(machine))


def test_an_installation_that_does_not_help_is_an_error(machine: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "install", lambda packages: None)
    with pytest.raises(MissingPackagesError, match="still missing after the installation: guests, disks"):
        os_packages.ensure(needs(machine))


def test_a_need_is_judged_by_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os_packages, "PROGRAM_PATH", str(tmp_path))
    need = os_packages.by_programs("x", ["p"], ["tool"])
    assert not need.present()
    (tmp_path / "tool").touch(0o755)
    assert need.present()
    assert os_packages.by_files("x", ["p"], [f"{tmp_path}/t*l"]).present()
    assert not os_packages.by_files("x", ["p"], [f"{tmp_path}/t*l", f"{tmp_path}/none"]).present()


def fake_apt(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "apt-get"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_apt_is_patient_with_the_lists_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = f'[ -e {tmp_path}/free ] && exit 0; touch {tmp_path}/free; echo "E: Could not get lock /x"; exit 100'
    fake_apt(tmp_path, busy, monkeypatch)
    waits: list[float] = []
    monkeypatch.setattr(apt.time, "sleep", waits.append)
    with Phase("x") as phase:
        assert apt.patiently(["update"], phase) == (0, "")
    assert len(waits) == 1


def test_apt_runs_without_questions_and_shows_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Status lines go to the descriptor that apt was told; its scripts' output is another one.
    status = 'fd=$(echo "$*" | sed "s/.*Status-Fd=//; s/ .*//"); echo pmstatus:a:50.0:unpacking > /proc/self/fd/$fd'
    said = f'echo "$DEBIAN_FRONTEND $*" >> {tmp_path}/calls; {status}; echo "E: no such thing"'
    fake_apt(tmp_path, f'{said}; [ "${{*#*update}}" != "$*" ] || exit 100', monkeypatch)
    with pytest.raises(MissingPackagesError, match=r"apt-get install .* failed:\n  E: no such thing"):
        apt.install(["qemu"])
    update, install = (tmp_path / "calls").read_text().splitlines()
    assert update.startswith("noninteractive -q -y -o DPkg::Lock::Timeout=600")
    assert install.endswith("install --no-install-recommends qemu")
