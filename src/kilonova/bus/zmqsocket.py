"""One ZeroMQ socket on the event loop, by its file descriptor.

The descriptor is edge-triggered: it says "look again", and only once; so a look follows every
send and ends only when the socket is empty. A look takes at most `TURN` frames before others get the loop.
Nothing here waits: a full queue or an unknown address is False.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import zmq

TURN = 32


class LoopSocket:
    """Sends at once or not at all; hands what comes in to `received` as a list of parts.

    `gone` is told the address (first part) that a router no longer has anybody at.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        received: Callable[[list[bytes]], None],
        gone: Callable[[bytes], None] | None = None,
    ) -> None:
        self._socket, self._loop, self._received, self._gone = socket, loop, received, gone
        descriptor: Any = socket.getsockopt(zmq.FD)
        self._fd = int(descriptor)
        self._looking = False
        self.closed = False
        loop.add_reader(self._fd, self._look)
        self._look_soon()

    def send(self, parts: list[bytes]) -> bool:
        """Queue one message; False if there is no room for it or nobody at the address."""
        if self.closed:
            return False
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            if error.errno == zmq.EHOSTUNREACH and self._gone is not None:
                self._loop.call_soon(self._gone, parts[0])
            return False
        finally:
            self._look_soon()
        return True

    def _look_soon(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        for _ in range(TURN):
            if self.closed:
                return
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._received(parts)
        self._look_soon()

    def close(self) -> None:
        """Stop listening; what is queued to go out has 100 ms."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._fd)
            self._socket.close(linger=100)


class AllowList:
    """ZeroMQ's authentication hook (RFC 27): only enrolled transport keys may connect."""

    def __init__(
        self, context: zmq.Context[Any], loop: asyncio.AbstractEventLoop, who: Callable[[bytes], str | None]
    ) -> None:
        socket = context.socket(zmq.REP)
        socket.bind("inproc://zeromq.zap.01")
        self._who = who
        self.refused = 0
        self._socket = LoopSocket(socket, loop, self._asked)

    def _asked(self, parts: list[bytes]) -> None:
        version, request, *_ = parts
        name = None
        if len(parts) == 7 and parts[5] == b"CURVE":
            name = self._who(parts[6])
        if name is None:
            self.refused += 1
            self._socket.send([version, request, b"400", b"not enrolled", b"", b""])
        else:
            self._socket.send([version, request, b"200", b"", name.encode(), b""])

    def close(self) -> None:
        self._socket.close()
