"""The pieces that need no packages: cpio, partition table, ELF, module closure, what apt says."""

from __future__ import annotations

import lzma
import stat
import struct
from pathlib import Path

import pytest

from kilonova.guestimage import cpio, disk, elf, rootfs
from kilonova.guestimage.errors import BuildError
from kilonova.guestimage.modules import ModuleStore, install
from kilonova.guestimage.packages import Apt
from kilonova.guestimage.toolbox import Toolbox, run
from kilonova.guestimage.tree import Tree


def _module(**facts: str | list[str]) -> bytes:
    """A minimal ELF file with a .modinfo section."""
    lines = [(key, one) for key, many in facts.items() for one in ([many] if isinstance(many, str) else many)]
    info = b"".join(f"{key}={value}".encode() + b"\0" for key, value in lines)
    names = b"\0.modinfo\0.shstrtab\0"
    table = 64 + len(info) + len(names)
    sections = [(0, 0, 0, 0), (1, 1, 64, len(info)), (10, 3, 64 + len(info), len(names))]
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, len(sections), 2)
    rows = (struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0) for name, kind, at, size in sections)
    return header + info + names + b"".join(rows)


def _entries(archive: bytes) -> list[tuple[str, int, bytes]]:
    found, at = [], 0
    while True:
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        at = (at + 110 + fields[11] + 3) // 4 * 4
        data = archive[at : at + fields[6]]
        at = (at + fields[6] + 3) // 4 * 4
        assert fields[2:4] == [0, 0], "everything is root's"
        if name == "TRAILER!!!":
            assert at == len(archive)
            return found
        found.append((name, fields[1], data))


def test_an_initramfs_has_parents_before_children_and_odd_lengths_padded() -> None:
    tree = Tree()
    tree.file("a/b/c", b"12345", 0o755)
    tree.link("a/link", "b/c")
    tree.file("z", b"")
    assert _entries(cpio.archive(tree)) == [
        ("a", stat.S_IFDIR | 0o755, b""),
        ("a/b", stat.S_IFDIR | 0o755, b""),
        ("a/b/c", stat.S_IFREG | 0o755, b"12345"),
        ("a/link", stat.S_IFLNK | 0o777, b"b/c"),
        ("z", stat.S_IFREG | 0o644, b""),
    ]


def test_the_disk_has_two_partitions_the_last_of_which_ends_it(tmp_path: Path) -> None:
    boot, root, raw = (tmp_path / name for name in ("boot", "root", "raw"))
    boot.write_bytes(b"B" * 512 * 3000)
    root.write_bytes(b"R" * 512 * 4096)
    disk.assemble(raw, code=b"\xfa" * 440, signature=0x01020304, boot=boot, root=root)
    data = raw.read_bytes()
    assert data[:440] == b"\xfa" * 440
    assert data[440:446] == bytes([4, 3, 2, 1, 0, 0])
    assert data[510:512] == b"\x55\xaa"
    first, second = (struct.unpack_from("<B3xB3xII", data, 446 + 16 * i) for i in range(2))
    assert first == (0x80, 0x0E, 2048, 3000)
    assert second == (0, 0x83, 6144, 4096)
    assert len(data) == (6144 + 4096) * 512
    assert data[2048 * 512 :][:4] == b"BBBB"
    assert data[6144 * 512 :].strip(b"R") == b""
    with pytest.raises(BuildError, match="boot code"):
        disk.master_boot_record(b"x" * 441, 0, [])


def test_modules_come_with_what_they_need_and_without_compression(tmp_path: Path) -> None:
    folder = tmp_path / "modules"
    (folder / "kernel").mkdir(parents=True)
    (folder / "kernel/top-one.ko").write_bytes(_module(depends="mid,other", alias=["pci:v1*", "pci:v2*"]))
    (folder / "kernel/mid.ko.xz").write_bytes(lzma.compress(_module(depends="low-one")))
    (folder / "kernel/low_one.ko").write_bytes(_module(depends=""))
    (folder / "kernel/other.ko").write_bytes(_module(depends="low_one"))
    (folder / "kernel/unwanted.ko").write_bytes(b"not read")
    store = ModuleStore(folder, Toolbox(tmp_path, tmp_path))
    chosen = store.closure(["top_one", "built_in_here"])
    assert [module.name for module in chosen] == ["low_one", "mid", "other", "top_one"]
    tree = Tree()
    install(tree, "1.2", chosen)
    base = "usr/lib/modules/1.2"
    assert tree.nodes[f"{base}/kernel/mid.ko"].data == _module(depends="low-one")
    lines = tree.nodes[f"{base}/modules.dep"].data.decode().splitlines()
    assert lines[3] == "kernel/top-one.ko: kernel/mid.ko kernel/other.ko kernel/low_one.ko"
    assert tree.nodes[f"{base}/modules.alias"].data == b"alias pci:v1* top_one\nalias pci:v2* top_one\n"


@pytest.mark.parametrize("image", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01", _module(a="b")[:-100]])
def test_what_is_no_elf_file_is_a_clear_error(image: bytes) -> None:
    with pytest.raises(BuildError):
        elf.modinfo(image)


def test_what_apt_would_download_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "'http://a/b/busybox-static_1.35.0-4%2bdeb12u1_amd64.deb' busybox-static_1%3a1.35.0-4+deb12u1_amd64.deb 928188 "
        "SHA256:" + "3d" * 32,
        "E: noise",
        "'http://a/x_1_all.deb' x_1_all.deb 5 SHA512:" + "0" * 128,
    ]
    monkeypatch.setattr(Apt, "_run", lambda *_args, **_more: "\n".join(lines))
    first, second = Apt(tmp_path, private=False).packages(["busybox-static", "x"])
    assert (first.name, first.version, first.size) == ("busybox-static", "1:1.35.0-4+deb12u1", 928188)
    assert (second.name, second.hash_kind) == ("x", "sha512")


def test_a_tool_that_fails_or_is_missing_says_so_in_one_line() -> None:
    with pytest.raises(BuildError, match=r"/bin/sh|sh failed with exit code 3: first \| second"):
        run(["/bin/sh", "-c", "echo first >&2; echo second >&2; exit 3"])
    with pytest.raises(BuildError, match="no-such-tool is missing"):
        run(["no-such-tool"])


def test_our_own_scripts_are_shell_that_parses() -> None:
    scripts = [path for path in OWN if path.read_bytes().startswith(b"#!") or path.name in {"facts", "network"}]
    assert len(scripts) >= 8
    for script in scripts:
        run(["sh", "-n", str(script)])


OWN = [path for path in rootfs.OWN_FILES.rglob("*") if path.is_file()]


def test_no_account_has_a_password() -> None:
    for line in (rootfs.OWN_FILES / "etc/shadow").read_text().splitlines():
        assert line.split(":")[1] == "*"
    for line in (rootfs.OWN_FILES / "etc/passwd").read_text().splitlines():
        assert line.split(":")[1] == "x"
