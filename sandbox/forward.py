"""From a port of the sandbox's own 127.0.0.1 to the host's proxy: bytes are passed on and nothing is decided here.

Standard library only: this runs inside, as one thread of the tool server. It is there because programs take a proxy by
an address and a port; what may be reached is decided by :mod:`sandbox.gate`, on the host.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Any

GATE = "gate"
"""Name of the host's socket."""
FOLDER = "/run/network"
"""Where the folder of the host's socket is mounted."""
CHUNK = 1 << 16
MOST = 128
"""Connections at a time; more wait."""


class _End:
    """One side of a connection: what it is sent, and who sends it."""

    def __init__(self, own: socket.socket) -> None:
        self.socket = own
        self.peer: _End = self
        self.rest = b""
        self.over = False
        """Whether nothing more comes from it."""


class Forwarder:
    """Listens on ``port``, and joins each visitor to the socket at ``path``."""

    def __init__(self, port: int, path: str) -> None:
        self._path, self._count = path, 0
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=MOST)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        threading.Thread(target=self._serve, name="forward", daemon=True).start()

    def _serve(self) -> None:
        while True:
            for key, events in self._selector.select():
                if key.data is None:
                    self._welcome()
                elif key.fileobj in self._selector.get_map():
                    self._move(key.data, events)

    def _welcome(self) -> None:
        near = far = None
        try:
            near, _ = self._listener.accept()
            far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            far.connect(self._path)
        except OSError:
            for opened in (near, far):
                if opened is not None:
                    opened.close()
            return
        ends = _End(near), _End(far)
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        for end in ends:
            end.socket.setblocking(False)
            self._selector.register(end.socket, selectors.EVENT_READ, end)
        self._count += 1
        if self._count >= MOST:
            self._selector.unregister(self._listener)

    def _move(self, end: _End, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                end.rest = end.rest[end.socket.send(end.rest) :]
            if events & selectors.EVENT_READ and not end.peer.rest:
                end.peer.rest = end.socket.recv(CHUNK)
                end.over = not end.peer.rest
            for side in (end, end.peer):
                if side.peer.over and not side.rest:
                    with contextlib.suppress(OSError):
                        side.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(end)
            return
        if end.over and end.peer.over and not (end.rest or end.peer.rest):
            self._close(end)
        else:
            for side in (end, end.peer):
                self._watch(side)

    def _watch(self, end: _End) -> None:
        """Read from whom the other side can take more, write to whom something is owed."""
        events = selectors.EVENT_WRITE if end.rest else 0
        events |= 0 if end.over or end.peer.rest else selectors.EVENT_READ
        known: Any = self._selector.get_map().get(end.socket)
        if known is None and events:
            self._selector.register(end.socket, events, end)
        elif known is not None and not events:
            self._selector.unregister(end.socket)
        elif known is not None:
            self._selector.modify(end.socket, events, end)

    def _close(self, end: _End) -> None:
        for side in (end, end.peer):
            if self._selector.get_map().get(side.socket) is not None:
                self._selector.unregister(side.socket)
            side.socket.close()
        self._count -= 1
        if self._listener not in self._selector.get_map():
            self._selector.register(self._listener, selectors.EVENT_READ)
