"""The initramfs archive ("newc" cpio), written here because cpio(1) as a plain user cannot give files to root.

Same tree, same bytes. Source: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import stat

from kilonova.guestimage.tree import EPOCH, Node, Tree


def archive(tree: Tree) -> bytes:
    """Return the uncompressed archive of a tree; every node is root's."""
    out = bytearray()
    for inode, (path, node) in enumerate(tree, start=1):
        _append(out, inode, path, node)
    _append(out, 0, "TRAILER!!!", Node(0))
    return bytes(out)


def _append(out: bytearray, inode: int, path: str, node: Node) -> None:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(node.mode) else 1
    fields = (inode, node.mode, 0, 0, links, EPOCH if inode else 0, len(node.data), 0, 0, 0, 0, len(name), 0)
    out += b"070701" + b"".join(b"%08X" % value for value in fields) + name
    out += bytes(-len(out) % 4)
    out += node.data
    out += bytes(-len(out) % 4)
