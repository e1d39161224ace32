"""A command's output, kept head and tail: whatever comes is taken at once, so that no writer ever waits for a
reader."""

from __future__ import annotations

import codecs
from collections import deque


class Capped:
    """Text of at most ``limit`` characters: the first and the last half, and the count of what was cut between them."""

    def __init__(self, limit: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._first, self._last = limit - limit // 2, limit // 2
        self._head: list[str] = []
        self._room = self._first
        self._tail: deque[str] = deque()
        self._kept = 0
        self.cut = 0

    def feed(self, data: bytes) -> str:
        """Take bytes; the text that they complete is returned."""
        text = self._decoder.decode(data)
        self._take(text)
        return text

    def _take(self, text: str) -> None:
        if self._room:
            self._head.append(text[: self._room])
            text, self._room = text[self._room :], self._room - len(self._head[-1])
        if text:
            self._tail.append(text)
            self._kept += len(text)
            self._trim()

    def _trim(self) -> None:
        while (over := self._kept - self._last) > 0:
            piece = self._tail.popleft()
            gone = min(over, len(piece))
            if gone < len(piece):
                self._tail.appendleft(piece[gone:])
            self._kept -= gone
            self.cut += gone

    def text(self) -> str:
        """What was kept; where something was cut, a line says how much."""
        self._take(self._decoder.decode(b"", True))
        middle = f"\n[... {self.cut} characters cut ...]\n" if self.cut else ""
        return "".join(self._head) + middle + "".join(self._tail)
