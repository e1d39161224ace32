"""Facts for an episode: a blocking facade over a :class:`lsp.session.Session` (standard library only until a selector
is used).

    meter = Diagnoser("/workspace", extra_paths=("/site",), command=("/opt/ty", "server"))
    bundle = meter.diagnose()        # bundle["facts"]["count"] is D; None when the server failed: missing, never 0
    bundle = meter.ask("def", selector="py://pkg.mod#Class.method")
    meter.close()

The first :meth:`Diagnoser.diagnose` fixes the targets and the start of the episode; later ones are measured against
it (:mod:`lsp.evasion`). The server's configuration is pinned outside the workspace. Invariants: a bundle is always
returned, with status ``error`` when the server failed; the server runs in a thread of its own, so that the caller may
have an event loop or none.
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
    """Diagnostics of a fixed target set, and answers to selectors, for one workspace."""

    def __init__(
        self,
        workspace: str | Path,
        *,
        server: str = "ty",
        extra_paths: Sequence[str] = (),
        python_version: str = PYTHON_VERSION,
        command: Sequence[str] = (),
        timeout: float = 10.0,
        severity: str = "error",
        targets: Sequence[str] | None = None,
    ) -> None:
        """``severity`` is the least that counts; ``targets`` default to all source files at the first measurement.

        ``BAD_INPUT`` for an unknown server, severity, or a workspace that is no folder.
        """
        if severity not in SEVERITIES[1:]:
            raise LanserError(Code.BAD_INPUT, f"severity is one of {', '.join(SEVERITIES[1:])}, not {severity!r}")
        options = Options(
            pinned=True,
            extra_paths=tuple(extra_paths),
            python_version=python_version,
            command=tuple(command),
            timeout=timeout,
        )
        self._session = Session(workspace, server, options)
        self._counted = SEVERITIES[1 : SEVERITIES.index(severity) + 1]
        self._severity = severity
        self._targets = sorted(targets) if targets is not None else None
        self._start: Baseline | None = None
        self._memo: tuple[str, Bundle] | None = None
        self._loop = Loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def diagnose(self) -> Bundle:
        """The bundle of ``diag`` over the targets as they are now. ``facts.count`` is D; equal contents are answered
        from memory.
        """
        return self._loop.run(self._diagnose())

    def ask(self, verb: str, **args: Any) -> Bundle:
        """The bundle of a selector verb (def, refs, hover, symbols, locate). ``args`` as the command line has them."""
        from lsp.queries import run_verb

        return self._loop.run(run_verb(self._session, verb, args))

    def close(self) -> None:
        """Stop the server. Idempotent."""
        if self._loop.running:
            self._loop.run(self._session.close())
            self._loop.close()

    async def _diagnose(self) -> Bundle:
        began = time.monotonic()
        asked = assemble.request("diag", None, {"pinned": True, "severity": self._severity, "targets": "episode"})
        try:
            self._session.workspace.scan()
            name = self._session.workspace.digest()
            if self._memo is None or self._memo[0] != name:
                measured = await self._measure()
                self._memo = (self._session.workspace.digest(), measured)
            return assemble.bundle(asked, self._session, facts=self._memo[1], began=began)
        except LanserError as error:
            return assemble.bundle(asked, self._session, facts={"count": None}, error=error, began=began)

    async def _measure(self) -> dict[str, Any]:
        if self._targets is None:
            self._targets = self._session.workspace.sources()
        found = (await diagnose(self._session, self._targets))["diagnostics"]
        found = [item for item in found if item["severity"] in self._counted]
        measured = facts(found, self._targets, self._session)
        places = [(item["uri"], item["range"][0]) for item in found]
        texts = self._texts()
        if self._start is None:
            self._start = baseline(places, texts)
        count = floor(self._start, places, texts)
        return {**measured, "count": count, "floor": count - len(places), "start": self._start.count}

    def _texts(self) -> dict[str, str]:
        documents = self._session.documents
        found = {path: documents.get(path) for path in self._targets or ()}
        return {path: document.text.text for path, document in found.items() if document is not None}
