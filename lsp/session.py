"""One server, one workspace: answers for the content that is on disk now (standard library only).

Before every request the workspace is scanned and every difference is sent; after the answer it is scanned again, and
an answer that a change overtook is asked for anew. Invariants:

* No answer is given for other content than that on disk when it was given; what cannot be had ends in a
  :class:`LanserError`.
* A change that the server cannot be proved to take in (its configuration, or what its profile names) restarts it.
* A dead server is started again by the next request, after a pause that doubles with each failure in a row.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from lsp import servers
from lsp.documents import Documents
from lsp.errors import Code, LanserError
from lsp.host import Host, Options
from lsp.locations import name_uri
from lsp.positions import Text
from lsp.servers import Profile
from lsp.snapshots import Snapshots
from lsp.text import decode
from lsp.workspace import JOURNAL, SUFFIX, Changes, Workspace, uri_to_path

TRIES = 8
"""How often an answer that a change overtook is asked for again."""
PAUSE = 0.1
"""Seconds before the first restart after a crash."""
LONGEST_PAUSE = 5.0


class Session:
    """The server of one workspace. An async context manager; the server starts at the first request."""

    def __init__(
        self, root: Path | str, profile: Profile | str = "basedpyright", options: Options | None = None
    ) -> None:
        self.profile = servers.load(profile) if isinstance(profile, str) else profile
        self.options = options or Options()
        self.workspace = Workspace(Path(root), self.profile.suffixes, frozenset(self.profile.config_files))
        self.snapshots = Snapshots(self.workspace)
        self._host: Host | None = None
        self._documents: Documents | None = None
        self._crashes = 0
        self._lock = asyncio.Lock()
        self.starts = 0
        """How often a server was started."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop the server. Idempotent; the next request starts it again."""
        host, self._host = self._host, None
        if host is not None:
            await host.stop()

    @property
    def host(self) -> Host | None:
        """The running server, if one was started."""
        return self._host

    @property
    def documents(self) -> Documents:
        assert self._documents is not None, "no server was started yet"
        return self._documents

    async def answered[T](self, work: Callable[[Host], Awaitable[T]], paths: Iterable[str] | None = None) -> T:
        """Run ``work`` against a server that knows the disk; again when the disk changed meanwhile.

        ``paths`` are the documents that must be open; ``None`` opens what the profile says. ``CONTENT_MODIFIED`` when
        the files never rest.
        """
        wanted = None if paths is None else list(paths)
        async with self._lock:
            for _ in range(TRIES):
                host = await self._fresh(wanted)
                try:
                    result = await work(host)
                except LanserError as error:
                    if not await self._again(error):
                        raise
                    continue
                self._crashes = 0
                self.workspace.scan()
                if not self.documents.pending():
                    return result
        raise LanserError(Code.CONTENT_MODIFIED, "files of the workspace kept changing while the server was asked")

    async def start(self) -> Host:
        """A started server that knows the disk."""
        async with self._lock:
            return await self._fresh(None)

    def text_of(self, uri: str) -> Text | None:
        """The text behind ``uri`` as the server has it; read from disk outside the open documents."""
        path = self.workspace.relative(uri)
        document = self.documents.get(path) if path is not None else None
        if document is not None:
            return document.text
        full = uri_to_path(uri)
        try:
            return Text(decode(Path(full).read_bytes()).text) if full else None
        except (OSError, UnicodeError):
            return None

    def name(self, uri: str) -> str:
        """The portable name of ``uri``."""
        return name_uri(self.workspace, uri, self.options.extra_paths)

    def scrub(self, message: str) -> str:
        """``message`` without the place of this workspace."""
        return message.replace(f"{self.workspace.root}/", "").replace(str(self.workspace.root), ".")

    def document(self, path: str) -> Text:
        """The text of a workspace file that is open. ``NOT_FOUND`` when there is none."""
        document = self.documents.get(path)
        if document is None:
            raise LanserError(Code.NOT_FOUND, f"no readable source file {path!r} in the workspace")
        return document.text

    async def _fresh(self, paths: list[str] | None) -> Host:
        self._recover()
        self.workspace.scan()
        if self._host is not None and self._host.client.alive:
            changes = self.documents.pending()
            if self._must_restart(changes):
                await self.close()
            elif changes:
                self.documents.sync(changes, self._host.notify)
        if self._host is None or not self._host.client.alive:
            await self._restart()
        assert self._host is not None
        self.documents.open(self._to_open(paths), self._host.notify)
        try:
            await self._host.settle()
        except LanserError:
            # What it has taken in is not known: the next request gets a new server.
            await self.close()
            raise
        return self._host

    async def _restart(self) -> None:
        await self.close()
        if self._crashes:
            await asyncio.sleep(min(PAUSE * 2 ** (self._crashes - 1), LONGEST_PAUSE))
        self.workspace.scan()
        self._documents = Documents(self.workspace, self.profile, self.options.pinned)
        host = Host(self.profile, self.options, self.workspace)
        self._crashes += 1
        self.starts += 1
        await host.start()
        self._host = host

    def _recover(self) -> None:
        """Take back what a transaction that was killed left half done."""
        root = self.workspace.root
        if any(os.path.exists(f"{root}/{name}") for name in (JOURNAL, JOURNAL + SUFFIX)):  # noqa: PTH110
            from lsp.transaction import recover

            recover(self.workspace)

    def _must_restart(self, changes: Changes) -> bool:
        kinds: Mapping[str, tuple[str, ...]] = {
            "created": changes.created,
            "changed": changes.changed,
            "deleted": changes.deleted,
        }
        touched = [path for paths in kinds.values() for path in paths]
        if any(kinds[kind] for kind in self.profile.restart_on):
            return True
        if not self.profile.watch and any(self.documents.get(path) is None for path in touched):
            return True
        return not self.options.pinned and any(self.workspace.is_config(path) for path in touched)

    def _to_open(self, paths: list[str] | None) -> list[str]:
        sources = self.workspace.sources()
        if self.profile.open == "all" and len(sources) <= self.profile.open_limit:
            return sources
        changed = self.documents.changed.intersection(sources) if self.profile.open == "changed" else ()
        return [*(paths or ()), *sorted(changed)]

    async def _again(self, error: LanserError) -> bool:
        """Whether to ask once more: only an answer that the server itself called overtaken."""
        if error.code is Code.LS_TIMEOUT:
            # A server that hangs may answer the next request with this one's content: start afresh.
            await self.close()
        return error.code is Code.CONTENT_MODIFIED


def relative_argument(workspace: Workspace, path: str) -> str:
    """A path that a user gave, relative to the workspace. ``JAIL`` when it leads outside."""
    full = os.path.realpath(workspace.root / path)
    rest = os.path.relpath(full, workspace.root)
    if rest == ".." or rest.startswith("../"):
        raise LanserError(Code.JAIL, f"{path} lies outside the workspace")
    return rest


def as_dict(value: Any) -> dict[str, Any]:
    """``value`` when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
