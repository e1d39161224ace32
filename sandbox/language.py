"""lanser inside a sandbox: one warm session per sandbox, asked from a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from sandbox import processes


class Language:
    """Answers lanser verbs for one workspace; the language server starts at the first one and stays."""

    def __init__(self, root: str, extra_paths: tuple[str, ...] = ()) -> None:
        # On the import path only once the layer is: see the tool server.
        from lsp.inside import Inside

        self._inside = Inside(root, extra_paths)
        self._loop = asyncio.new_event_loop()

    def __call__(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._loop.run_until_complete(self._inside.ask(verb, **args))
        finally:
            # The server's own process group must survive a command's time-out.
            processes.HELPERS.update(self._inside.pids())
