"""The SDK: ``AsyncLanser`` and ``Lanser``, context managers with the command's verbs, each returning a typed bundle.

    with Lanser("path/to/repo", server="ty") as lanser:
        print(lanser.definition("py://pkg.mod#Class.method").facts)

The server starts at the first question and stays warm. Long-lived, so on the pygls client. Invariant: a verb never
raises for what was asked or what the server did; the bundle's ``status`` and ``error`` say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from lsp.bundle import Bundle, validate
from lsp.client import PyglsClient
from lsp.facts import Loop
from lsp.host import Options
from lsp.mutations import Guard, code_action, prepare_rename, rename
from lsp.queries import run_verb
from lsp.session import Session


class AsyncLanser:
    """One warm server for one workspace."""

    def __init__(self, workspace: str | Path = ".", server: str = "basedpyright", timeout: float = 30.0) -> None:
        """``LanserError`` with ``BAD_INPUT`` for an unknown server or a workspace that is no folder."""
        self.session = Session(workspace, server, Options(timeout=timeout, connect=PyglsClient.start))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def ask(self, verb: str, **args: Any) -> Bundle:
        """Any verb by its name on the command line."""
        return validate(await run_verb(self.session, verb, args))

    async def definition(self, selector: str) -> Bundle:
        return await self.ask("def", selector=selector)

    async def references(self, selector: str) -> Bundle:
        return await self.ask("refs", selector=selector)

    async def hover(self, selector: str) -> Bundle:
        return await self.ask("hover", selector=selector)

    async def locate(self, selector: str) -> Bundle:
        return await self.ask("locate", selector=selector)

    async def symbols(self, path: str) -> Bundle:
        return await self.ask("symbols", path=path)

    async def diagnostics(self, paths: Sequence[str] = ()) -> Bundle:
        return await self.ask("diag", paths=list(paths))

    async def prepare_rename(self, selector: str) -> Bundle:
        return validate(await prepare_rename(self.session, selector))

    async def rename(self, selector: str, name: str, guard: Guard | None = None) -> Bundle:
        """Preview unless ``guard.apply``."""
        return validate(await rename(self.session, selector, name, guard))

    async def code_action(self, selector: str, title: str | None = None, guard: Guard | None = None) -> Bundle:
        """List without ``title``; preview with one unless ``guard.apply``."""
        return validate(await code_action(self.session, selector, title, None, guard))


class Lanser:
    """:class:`AsyncLanser` for callers without an event loop."""

    def __init__(self, workspace: str | Path = ".", server: str = "basedpyright", timeout: float = 30.0) -> None:
        self._inner = AsyncLanser(workspace, server, timeout)
        self._loop = Loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server. Idempotent."""
        if self._loop.running:
            self._loop.run(self._inner.session.close())
            self._loop.close()

    def ask(self, verb: str, **args: Any) -> Bundle:
        return self._loop.run(self._inner.ask(verb, **args))

    def definition(self, selector: str) -> Bundle:
        return self._loop.run(self._inner.definition(selector))

    def references(self, selector: str) -> Bundle:
        return self._loop.run(self._inner.references(selector))

    def hover(self, selector: str) -> Bundle:
        return self._loop.run(self._inner.hover(selector))

    def locate(self, selector: str) -> Bundle:
        return self._loop.run(self._inner.locate(selector))

    def symbols(self, path: str) -> Bundle:
        return self._loop.run(self._inner.symbols(path))

    def diagnostics(self, paths: Sequence[str] = ()) -> Bundle:
        return self._loop.run(self._inner.diagnostics(paths))

    def prepare_rename(self, selector: str) -> Bundle:
        return self._loop.run(self._inner.prepare_rename(selector))

    def rename(self, selector: str, name: str, guard: Guard | None = None) -> Bundle:
        return self._loop.run(self._inner.rename(selector, name, guard))

    def code_action(self, selector: str, title: str | None = None, guard: Guard | None = None) -> Bundle:
        return self._loop.run(self._inner.code_action(selector, title, guard))
