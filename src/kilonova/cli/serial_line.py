"""This terminal on a guest's serial line, over libvirt's console stream, until Ctrl-] or the guest's end.

What always holds: the terminal is as it was when this returns, whatever happened. Knows no cloud: a URI and a
domain's uuid are all it is told.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any

from kilonova.cli.errors import CliError

ESCAPE = b"\x1d"  # Ctrl-]


def attach(uri: str, uuid: str, *, force: bool, connected: str) -> int:
    """Connect, print the line `connected`, pass keys and output; returns the exit code. Raises CliError."""
    try:
        import libvirt
    except ImportError:
        raise CliError("libvirt's Python binding isn't installed; `kilonova up --driver libvirt` sees to it") from None

    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    try:
        guest = libvirt.open(uri).lookupByUUIDString(uuid)
        stream = guest.connect().newStream(libvirt.VIR_STREAM_NONBLOCK)
        guest.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE if force else 0)
    except libvirt.libvirtError as error:
        if "Active console session exists" in str(error):
            raise CliError("somebody else is connected; --force takes the console from them") from None
        raise CliError(str(error)) from None
    print(connected, flush=True)
    with raw(sys.stdin.fileno()):
        said = _Session(libvirt, stream).run()
    print(f"\n{said}", flush=True)
    return 0


@contextlib.contextmanager
def raw(terminal: int) -> Iterator[None]:
    """Every key goes through, unseen and untranslated."""
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


class _Session:
    """Both directions; libvirt's event loop calls back."""

    def __init__(self, libvirt: Any, stream: Any) -> None:
        self._libvirt, self._stream = libvirt, stream
        self._typed = b""
        self._ended = ""

    def run(self) -> str:
        virt = self._libvirt
        readable = virt.VIR_STREAM_EVENT_READABLE
        self._watched = readable | virt.VIR_STREAM_EVENT_ERROR | virt.VIR_STREAM_EVENT_HANGUP
        self._stream.eventAddCallback(self._watched, self._happened, None)
        keys = virt.VIR_EVENT_HANDLE_READABLE | virt.VIR_EVENT_HANDLE_HANGUP | virt.VIR_EVENT_HANDLE_ERROR
        virt.virEventAddHandle(sys.stdin.fileno(), keys, self._key, None)
        while not self._ended:
            virt.virEventRunDefaultImpl()
        with contextlib.suppress(virt.libvirtError):
            self._stream.abort()
        return self._ended

    def _happened(self, stream: Any, events: int, _opaque: Any) -> None:
        virt = self._libvirt
        try:
            if events & virt.VIR_STREAM_EVENT_READABLE:
                piece = stream.recv(4096)
                if piece == -2:  # nothing now
                    return
                if not piece:
                    self._ended = "[the guest closed its console]"
                    return
                os.write(sys.stdout.fileno(), piece)
            if events & virt.VIR_STREAM_EVENT_WRITABLE:
                self._send()
            if events & (virt.VIR_STREAM_EVENT_ERROR | virt.VIR_STREAM_EVENT_HANGUP):
                self._ended = "[the guest is off]"
        except virt.libvirtError as error:
            self._ended = f"[{error}]"

    def _key(self, _watch: int, terminal: int, _events: int, _opaque: Any) -> None:
        keys = os.read(terminal, 1024)
        before, escape, _ = keys.partition(ESCAPE)
        self._typed += before
        self._send()
        if escape or not keys:
            self._ended = "[left]"

    def _send(self) -> None:
        virt = self._libvirt
        try:
            sent = self._stream.send(self._typed) if self._typed else 0
        except virt.libvirtError as error:
            self._ended = f"[{error}]"
            return
        self._typed = self._typed[max(0, sent) :]
        more = virt.VIR_STREAM_EVENT_WRITABLE if self._typed else 0
        self._stream.eventUpdateCallback(self._watched | more)
