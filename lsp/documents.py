"""What the server has been told of each document (standard library only).

Invariant: after :meth:`Documents.sync` the server has been sent every difference between the disk and what it knew,
in order: changes of open documents as ``didChange`` with the whole text, everything else as ``didOpen``, ``didClose``
and ``didChangeWatchedFiles``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from lsp.canonical import digest_bytes
from lsp.errors import LanserError
from lsp.positions import Text
from lsp.servers import Profile
from lsp.suppress import mask
from lsp.text import decode
from lsp.workspace import Changes, Workspace, compare

CREATED, CHANGED, DELETED = 1, 2, 3

Notify = Callable[[str, object], None]


@dataclass
class Document:
    """An open document as the server knows it."""

    version: int
    text: Text
    """The text on disk; what is sent has its suppression comments masked."""
    digest: str
    """Of the bytes that were sent, which a writer may have made newer than the scan."""


class Documents:
    """The open documents of one server process."""

    def __init__(self, workspace: Workspace, profile: Profile, pinned: bool) -> None:
        self._workspace = workspace
        self._profile = profile
        self._pinned = pinned
        self._open: dict[str, Document] = {}
        self._told: dict[str, str] = {path: entry.digest for path, entry in workspace.entries.items()}
        self._version = 0
        self.changed: set[str] = set()
        """Source files that were created or changed since the server started."""
        self.unreadable: set[str] = set()
        """Source files whose bytes do not decode: the server reads them itself, if at all."""

    def get(self, path: str) -> Document | None:
        return self._open.get(path)

    def opened(self) -> list[str]:
        return sorted(self._open)

    def pending(self) -> Changes:
        """What differs between the last scan and what the server was told."""
        entries = self._workspace.entries
        stale = (
            path for path, document in self._open.items() if path in entries and document.digest != entries[path].digest
        )
        changes = compare(self._told, {path: entry.digest for path, entry in entries.items()})
        return Changes(changes.created, tuple(sorted({*changes.changed, *stale})), changes.deleted)

    def sync(self, changes: Changes, notify: Notify) -> None:
        """Tell the server of ``changes`` (as :meth:`pending` found them)."""
        self.changed.update(changes.created, changes.changed)
        for path in changes.deleted:
            self.changed.discard(path)
            self._close(path, notify)
        for path in (*changes.changed, *changes.created):
            self.unreadable.discard(path)
            if path in self._open:
                self._update(path, notify)
        kinds = ((DELETED, changes.deleted), (CREATED, changes.created), (CHANGED, changes.changed))
        events = [{"uri": self._workspace.uri(path), "type": kind} for kind, paths in kinds for path in paths]
        if events and self._profile.watch:
            notify("workspace/didChangeWatchedFiles", {"changes": events})
        self._told = {path: entry.digest for path, entry in self._workspace.entries.items()}

    def open(self, paths: Iterable[str], notify: Notify) -> None:
        """Open those of ``paths`` that are source files, exist, and are not open yet."""
        for path in paths:
            if path not in self._open and path in self._workspace.entries and path not in self.unreadable:
                self._start(path, notify)

    def _start(self, path: str, notify: Notify) -> None:
        document = self._load(path)
        if document is None:
            self.unreadable.add(path)
            return
        self._open[path] = document
        notify("textDocument/didOpen", self.item(path))

    def uri(self, path: str) -> str:
        """By which the server is told of a document."""
        uri = self._workspace.uri(path)
        return unquote(uri) if self._profile.plain_uris else uri

    def item(self, path: str) -> dict[str, object]:
        """What opens an open document."""
        document = self._open[path]
        item = {
            "uri": self.uri(path),
            "languageId": self._profile.language(path),
            "version": document.version,
            "text": mask(document.text.text, self._pinned),
        }
        return {"textDocument": item}

    def _update(self, path: str, notify: Notify) -> None:
        document = self._load(path)
        if document is None:
            self._close(path, notify)
            return
        self._open[path] = document
        if self._profile.update == "reopen":
            notify("textDocument/didClose", {"textDocument": {"uri": self.uri(path)}})
            notify("textDocument/didOpen", self.item(path))
            return
        head = {"uri": self.uri(path), "version": document.version}
        body = [{"text": mask(document.text.text, self._pinned)}]
        notify("textDocument/didChange", {"textDocument": head, "contentChanges": body})

    def _close(self, path: str, notify: Notify) -> None:
        self.unreadable.discard(path)
        if self._open.pop(path, None) is not None:
            notify("textDocument/didClose", {"textDocument": {"uri": self.uri(path)}})

    def _load(self, path: str) -> Document | None:
        try:
            data = self._workspace.read(path)
            text = decode(data).text
        except (LanserError, UnicodeError):
            return None
        self._version += 1
        return Document(self._version, Text(text), digest_bytes(data))
