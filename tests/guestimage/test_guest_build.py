"""What is built: small, cached, the same again, and not at all without what it needs."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from kilonova.guestimage import BuildError, GuestImage, build, current, recipe

pytestmark = pytest.mark.libvirt


def test_it_is_a_small_qcow2_that_says_what_it_is(image: GuestImage) -> None:
    path = Path(image.path)
    facts = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(path)]))
    assert facts["format"] == "qcow2"
    assert "backing-filename" not in facts
    assert facts["virtual-size"] == image.virtual_size < 512 * 2**20
    assert path.stat().st_size == image.size < 40 * 10**6
    assert hashlib.sha256(path.read_bytes()).hexdigest() == image.sha256
    assert image.kernel.split("-")[0][0].isdigit()
    assert "busybox-static" in image.packages


def test_it_comes_from_the_cache_without_asking_anybody(
    image: GuestImage, image_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    steps: list[tuple[str, float]] = []
    again = build(tmp_path / "x" / "again.qcow2", cache=image_cache, progress=lambda *step: steps.append(step))
    assert again.digest == image.digest
    assert Path(again.path).read_bytes() == Path(image.path).read_bytes()
    assert not any("package" in what for what, _part in steps)
    assert steps[-1][1] == 1.0


def test_the_same_packages_and_files_give_the_same_bytes(image: GuestImage, image_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(image_cache / "packages", tmp_path / "packages")
    parts: list[float] = []
    again = build(tmp_path / "again.qcow2", cache=tmp_path, progress=lambda _what, part: parts.append(part))
    assert again.packages == image.packages
    assert again.sha256 == image.sha256
    assert parts == sorted(parts)
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == [
        "again.qcow2", "guest", "guest.json", "lock", "packages",
    ]  # fmt: skip


def test_a_cache_from_other_files_is_not_used(
    image: GuestImage, image_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert current(image_cache) is not None
    monkeypatch.setattr("kilonova.guestimage.builder._files_digest", lambda: "other")
    assert current(image_cache) is None


def test_a_machine_whose_guests_could_not_run_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe.platform, "machine", lambda: "riscv64")
    with pytest.raises(BuildError, match="x86_64"):
        build(tmp_path / "no.qcow2", cache=tmp_path / "cache", progress=lambda _what, _part: None)
