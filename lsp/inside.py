"""lanser inside a sandbox: what the tool server asks (standard library only).

One object per sandbox. ``diag`` without arguments is the episode's measurement of :class:`lsp.facts.Meter`; every
other verb is what the command line knows, mutations included. The environment variable ``LANSER_SITE`` names further
import roots (separated by ``:``), ``LANSER_SERVER`` another server than ty.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lsp import assemble
from lsp.errors import Code, LanserError
from lsp.facts import Meter, pinned

SITE = "/opt/site"
"""Where a sandbox has the packages that its task needs."""


class Inside:
    """A warm session for one workspace. Every method runs on the caller's event loop, always the same one."""

    def __init__(self, root: str | Path, extra_paths: tuple[str, ...] | None = None, server: str | None = None) -> None:
        """``extra_paths`` and ``server`` default to the environment, then to :data:`SITE` and ty."""
        site = os.environ.get("LANSER_SITE", SITE if Path(SITE).is_dir() else "")
        paths = tuple(filter(None, site.split(":"))) if extra_paths is None else extra_paths
        self._meter = Meter(root, server or os.environ.get("LANSER_SERVER", "ty"), pinned(extra_paths=paths))

    async def ask(self, verb: str, **args: Any) -> dict[str, Any]:
        """The bundle of one verb; never raises for what was asked or what the server did.

        ``diag`` takes ``severity`` and ``paths`` (the targets) at its first call, which fix the episode's measurement.
        """
        try:
            if verb in ("diag", "diagnostics") and not args.keys() - {"severity", "paths"}:
                return await self._meter.measure(args.get("severity", "error"), args.get("paths"))
            from lsp.verbs import call

            return await call(self._meter.session, verb, args)
        except LanserError as error:
            return assemble.bundle(assemble.request(verb, args=args), None, error=error, began=time.monotonic())
        except TypeError as error:
            wrong = LanserError(Code.BAD_INPUT, f"{verb} was asked with arguments that do not fit: {error}")
            return assemble.bundle(assemble.request(verb, args=args), None, error=wrong, began=time.monotonic())

    def pids(self) -> list[int]:
        """Process ids of the running server, so that its process group can be spared or reaped."""
        host = self._meter.session.host
        pid = host.client.pid if host is not None and host.client.alive else None
        return [] if pid is None else [pid]

    async def close(self) -> None:
        """Stop the server. Idempotent."""
        await self._meter.session.close()
