"""A file tree in memory, before it becomes an initramfs or a file system.

Everything in it belongs to root and has one fixed time, whoever builds it and whenever: that is what makes
building without root, and twice the same, possible. It must not know where the files come from.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

EPOCH = 1_700_000_000
"""The one time stamp of every file, in seconds; any fixed date after a guest's sanity checks will do."""


@dataclass(frozen=True, slots=True)
class Node:
    """A file, directory or symbolic link: ``mode`` as in ``st_mode``, ``data`` the content or link target."""

    mode: int
    data: bytes = b""


@dataclass(slots=True)
class Tree:
    """Paths without a leading slash to nodes; parents are made as needed, links are never followed."""

    nodes: dict[str, Node] = field(default_factory=dict)

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Make a directory (and its parents), or change the mode of one that is there."""
        self._parents(path)
        self.nodes[path] = Node(stat.S_IFDIR | mode)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Make or replace a regular file."""
        self._parents(path)
        self.nodes[path] = Node(stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        """Make or replace a symbolic link."""
        self._parents(path)
        self.nodes[path] = Node(stat.S_IFLNK | 0o777, target.encode())

    def _parents(self, path: str) -> None:
        parent = posixpath.dirname(path)
        if parent and parent not in self.nodes:
            self.directory(parent)

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """Every node by path; a directory comes before what is in it."""
        return iter(sorted(self.nodes.items()))
