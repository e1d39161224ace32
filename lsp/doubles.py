"""A scripted language server: a real process that misbehaves on demand (standard library only, so that it starts at
once).

    python -m lsp.doubles '{"textDocument/hover": ["hang", "ok"]}'

For each method a list of behaviours, one per request, the last one for ever; ``ok`` without a script. Behaviours:
``ok``, ``die``, ``hang``, ``flood`` (ten thousand notifications first), ``garbage`` (a frame that is no JSON first),
``half`` (half a header, then the end), ``swap`` (answers the next request first), ``wrong-id`` (answers something
nobody asked first), ``modified`` (the protocol's ContentModified), ``stderr`` (a megabyte there first).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

ANSWERS: dict[str, Any] = {
    "initialize": {"capabilities": {"positionEncoding": "utf-8", "hoverProvider": True, "definitionProvider": True}},
    "textDocument/hover": {"contents": "a hover"},
    "textDocument/definition": [],
    "textDocument/diagnostic": {"kind": "full", "items": []},
}


class Scripted:
    """Answers frames from ``source`` on ``sink`` as the script says."""

    def __init__(self, script: Mapping[str, Sequence[str]], source: BinaryIO, sink: BinaryIO) -> None:
        self._script = {method: list(steps) for method, steps in script.items()}
        self._source, self._sink = source, sink
        self._held: list[dict[str, Any]] = []

    def run(self) -> None:
        """Until the input ends."""
        while (message := self._read()) is not None:
            if "method" in message and "id" in message:
                self._handle(message)

    def _handle(self, message: dict[str, Any]) -> None:
        match self._next(message["method"]):
            case "die":
                sys.exit(3)
            case "hang":
                return
            case "half":
                self._sink.write(b"Content-Le")
                self._sink.flush()
                sys.exit(0)
            case "swap":
                self._held.append(message)
                return
            case "modified":
                self._send({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32801, "message": "modified"}})
                return
            case "flood":
                for _ in range(10_000):
                    self._send({"jsonrpc": "2.0", "method": "window/logMessage", "params": {"type": 4, "message": "x"}})
            case "garbage":
                self._raw(b"this is not JSON")
                self._raw(b"[]")
            case "wrong-id":
                self._send({"jsonrpc": "2.0", "id": 999_999, "result": None})
            case "stderr":
                sys.stderr.write("x" * 1_000_000)
                sys.stderr.flush()
            case _:
                pass
        self._answer(message)
        while self._held:
            self._answer(self._held.pop())

    def _next(self, method: str) -> str:
        steps = self._script.get(method) or ["ok"]
        return steps.pop(0) if len(steps) > 1 else steps[0]

    def _answer(self, message: Mapping[str, Any]) -> None:
        self._send({"jsonrpc": "2.0", "id": message["id"], "result": ANSWERS.get(message["method"])})

    def _send(self, message: Mapping[str, Any]) -> None:
        self._raw(json.dumps(message).encode())

    def _raw(self, body: bytes) -> None:
        self._sink.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._sink.flush()

    def _read(self) -> dict[str, Any] | None:
        length = 0
        while line := self._source.readline():
            if line in (b"\r\n", b"\n"):
                return json.loads(self._source.read(length))
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return None


def main() -> None:
    """Entry point of the process."""
    script = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    if "slow" in script:
        time.sleep(float(script.pop("slow")))
    Scripted(script, sys.stdin.buffer, sys.stdout.buffer).run()


if __name__ == "__main__":
    main()
