"""Facts for an episode: D over a fixed target set, by a session or a blocking facade (standard library only).

    meter = Diagnoser("/workspace", extra_paths=("/site",), command=("/opt/ty", "server"))
    bundle = meter.diagnose()        # bundle["facts"]["count"] is D; None when the server failed: missing, never 0
    bundle = meter.ask("def", selector="py://pkg.mod#Class.method")
    meter.close()

The first measurement fixes the targets and the start of the episode; later ones are measured against it
(:mod:`lsp.evasion`). The server's configuration is pinned outside the workspace. Invariants: a bundle is always
returned, with status ``error`` when the server failed; equal contents are answered from memory; the facade's server
runs in a thread of its own, so that the caller may have an event loop or none.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Self

from lsp import assemble
from lsp.diagnose import SEVERITIES, diagnose, facts
from lsp.errors import Code, LanserError
from lsp.evasion import Baseline, baseline, floor
from lsp.host import PYTHON_VERSION, Options
from lsp.session import Session

Bundle = dict[str, Any]


def pinned(
    *,
    extra_paths: Sequence[str] = (),
    python_version: str = PYTHON_VERSION,
    command: Sequence[str] = (),
    timeout: float = 10.0,
) -> Options:
    """Options of a session whose configuration nothing in the workspace can loosen."""
    return Options(
        pinned=True,
        extra_paths=tuple(extra_paths),
        python_version=python_version,
        command=tuple(command),
        timeout=timeout,
    )


class Meter:
    """Measures D for one episode."""

    def __init__(self, workspace: str | Path, server: str = "ty", options: Options | None = None) -> None:
        """``BAD_INPUT`` for an unknown server or a workspace that is no folder."""
        self.session = Session(workspace, server, options or pinned())
        self._targets: list[str] | None = None
        self._severity = "error"
        self._start: Baseline | None = None
        self._memo: tuple[str, dict[str, Any]] | None = None

    async def measure(self, severity: str = "error", targets: Sequence[str] | None = None) -> Bundle:
        """The bundle of ``diag`` over the targets as they are now; ``facts.count`` is D.

        The first call fixes ``severity`` (the least that counts) and ``targets`` (default: all source files); later
        arguments are ignored.
        """
        began = time.monotonic()
        self._fix(severity, targets)
        asked = assemble.request("diag", None, {"pinned": True, "severity": self._severity, "targets": "episode"})
        try:
            return assemble.bundle(asked, self.session, facts=await self._remembered(), began=began)
        except LanserError as error:
            return assemble.bundle(asked, self.session, facts={"count": None}, error=error, began=began)

    def _fix(self, severity: str, targets: Sequence[str] | None) -> None:
        if severity not in SEVERITIES[1:]:
            raise LanserError(Code.BAD_INPUT, f"severity is one of {', '.join(SEVERITIES[1:])}, not {severity!r}")
        named = None if targets is None else sorted(targets)
        if self._start is None:
            self._severity, self._targets = severity, named
        elif severity != self._severity or (named is not None and named != self._targets):
            message = "the targets and the severity of an episode are fixed by its first measurement"
            raise LanserError(Code.BAD_INPUT, message)

    async def _remembered(self) -> dict[str, Any]:
        workspace = self.session.workspace
        workspace.scan()
        name = workspace.digest()
        if self._memo is None or self._memo[0] != name:
            measured = await self._measure()
            self._memo = (workspace.digest(), measured)
        return self._memo[1]

    async def _measure(self) -> dict[str, Any]:
        if self._targets is None:
            self._targets = self.session.workspace.sources()
        counted = SEVERITIES[1 : SEVERITIES.index(self._severity) + 1]
        found = (await diagnose(self.session, self._targets))["diagnostics"]
        found = [item for item in found if item["severity"] in counted]
        places = [(item["uri"], item["range"][0]) for item in found]
        texts = self._texts()
        if self._start is None:
            self._start = baseline(places, texts)
        count = floor(self._start, places, texts)
        measured = facts(found, self._targets, self.session)
        return {**measured, "count": count, "floor": count - len(places), "start": self._start.count}

    def _texts(self) -> dict[str, str]:
        documents = self.session.documents
        found = {path: documents.get(path) for path in self._targets or ()}
        return {path: document.text.text for path, document in found.items() if document is not None}


class Loop:
    """An event loop in a daemon thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lanser", daemon=True)
        self._thread.start()

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` there and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        if self.running:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class Diagnoser:
    """The blocking facade: diagnostics of a fixed target set, and answers to selectors, for one workspace."""

    def __init__(
        self,
        workspace: str | Path,
        *,
        server: str = "ty",
        severity: str = "error",
        targets: Sequence[str] | None = None,
        extra_paths: Sequence[str] = (),
        python_version: str = PYTHON_VERSION,
        command: Sequence[str] = (),
        timeout: float = 10.0,
    ) -> None:
        """As :class:`Meter` and :func:`pinned`."""
        options = pinned(extra_paths=extra_paths, python_version=python_version, command=command, timeout=timeout)
        self._meter = Meter(workspace, server, options)
        self._severity, self._targets = severity, targets
        self._loop = Loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def diagnose(self) -> Bundle:
        """The bundle of the episode's measurement now."""
        return self._loop.run(self._meter.measure(self._severity, self._targets))

    def ask(self, verb: str, **args: Any) -> Bundle:
        """The bundle of a selector verb (def, refs, hover, symbols, locate). ``args`` as the command line has them."""
        from lsp.queries import run_verb

        return self._loop.run(run_verb(self._meter.session, verb, args))

    def close(self) -> None:
        """Stop the server. Idempotent."""
        if self._loop.running:
            self._loop.run(self._meter.session.close())
            self._loop.close()
