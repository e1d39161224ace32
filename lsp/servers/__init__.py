"""Profiles: what lanser must know of one language server, as TOML (standard library only).

The profiles shipped here use the same format as one written by a user, so that the format is known to suffice. A
profile says how to start the server, what to send it, how it is configured from outside the workspace (``pin``), and
how its diagnostics are known to be complete.

Invariants: unknown keys are refused with the nearest valid one; a profile is plain data, so its digest names the
configuration.
"""

from __future__ import annotations

import difflib
import os
import shutil
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lsp.canonical import digest
from lsp.errors import Code, LanserError

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Pin:
    """How to configure the server from outside the workspace, so that nothing inside loosens it."""

    file: str = ""
    """Name of the configuration file to write into a private folder; empty: the server takes no file."""
    content: str = ""
    """What the file holds. ``{root}``, ``{pin}``, the JSON lists ``{extra_paths}`` and ``{import_roots}``, and
    ``{python_version}`` are filled in.
    """
    init: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Merged into ``initializationOptions``."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Merged into the settings."""
    root: bool = False
    """The server cannot be told of the file, and looks for it in its workspace: that is then the private folder."""


@dataclass(frozen=True)
class Profile:
    """One server."""

    name: str
    command: tuple[str, ...]
    """Program and arguments; the program is looked for beside our Python, then on ``PATH``."""
    languages: Mapping[str, str]
    """Suffix to LSP language id."""
    version_command: tuple[str, ...] = ()
    """Prints the version; empty: taken from ``serverInfo``."""
    version_from: Literal["server", "package"] = "server"
    """Who knows the version: some servers report that of a library instead."""
    supported: str = ""
    """Range of versions that the tests run with, for people."""
    config_files: tuple[str, ...] = ()
    """Names of files that configure it; a change of one restarts the server."""
    init: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """``initializationOptions``."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Answer to ``workspace/configuration``, by dotted section."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    diagnostics: Literal["pull", "push", "push-version"] = "pull"
    """``pull``: asked for after the change. ``push-version``: the pushed version must be ours. ``push``: the first
    push after the change.
    """
    reopen: bool = False
    """For ``push``: once anything has changed, a document is closed and opened again before its diagnostics are waited
    for, since the server pushes nothing where they stayed the same.
    """
    update: Literal["change", "reopen"] = "change"
    """How an open document gets its new text: by ``didChange``, or closed and opened again, for a server that may send
    what it found in the old text with the version of the new one.
    """
    plain_uris: bool = False
    """Whether documents are opened by URIs without percent-encoding, for a server that loses sight of encoded ones."""
    quiet: float = 0.0
    """For ``push``: seconds without a further push after which a round is taken to be complete, for a server that
    pushes in parts.
    """
    freshness: Literal["proved", "assumed"] = "proved"
    """Whether the answers can be proved to be for the content on disk."""
    watch: bool = True
    """Whether it takes ``workspace/didChangeWatchedFiles``; without it a change of a file that is not open restarts
    the server.
    """
    restart_on: tuple[Literal["created", "deleted", "changed"], ...] = ()
    """Kinds of change that the server cannot be proved to take in: they restart it."""
    open: Literal["all", "changed", "targets"] = "all"
    """Which documents are held open: every source file; those that are asked about and those that changed since the
    server started (it reads the others itself, and checks all that is open after each change); or only the former.
    """
    open_limit: int = 2000
    """Above so many source files only those asked about are opened."""
    ready: Literal["none", "recheck"] = "none"
    """How news of files is known to be taken in: the next request waits for it by itself, or a recheck is announced and
    ends, and a push of diagnostics follows.
    """
    ready_log: str = ""
    """Regular expression for what the server logs once it has found the files of the workspace; nothing is asked before
    it. Empty: it answers no request before that.
    """
    push_settings: bool = True
    """Whether the settings are sent, besides being answered when it asks: one that asks by itself would read its files
    a second time.
    """
    quirks: tuple[str, ...] = ()
    """What a reader of the bundle should know."""
    pin: Pin = Pin()

    @cached_property
    def digest(self) -> str:
        """Name of everything above."""
        return digest(_plain(self))

    def language(self, path: str) -> str:
        """LSP language id of a path."""
        return self.languages.get(Path(path).suffix, "plaintext")

    @property
    def suffixes(self) -> tuple[str, ...]:
        return tuple(sorted(self.languages))


def load(name: str) -> Profile:
    """The profile named ``name``, or the TOML file at that path. ``BAD_INPUT`` with the way out."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(names())
        raise LanserError(
            Code.BAD_INPUT, f"no server profile {name!r}; known are {known}, or give the path of a .toml file"
        )
    try:
        return parse(tomllib.loads(path.read_text("utf-8")), str(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LanserError(Code.BAD_INPUT, f"{path} is not TOML: {error}") from error


def names() -> list[str]:
    """Profiles that ship with lanser."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def parse(table: Mapping[str, Any], source: str) -> Profile:
    """A profile from its TOML table."""
    table = dict(table)
    pin = table.pop("pin", {})
    _known(table, Profile, source)
    _known(pin, Pin, f"{source} [pin]")
    for key in ("name", "command", "languages"):
        if key not in table:
            raise LanserError(Code.BAD_INPUT, f"{source}: a profile needs {key!r}")
    frozen: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Profile(**frozen, pin=Pin(**pin))


def find_program(name: str) -> str | None:
    """Where a server's program is: an absolute path, beside our Python, or on ``PATH``."""
    beside = Path(sys.executable).parent / name
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)


def command_of(profile: Profile) -> list[str]:
    """The command with its program found. ``BAD_INPUT`` when it is not installed."""
    program = find_program(profile.command[0])
    if program is None:
        raise LanserError(
            Code.BAD_INPUT,
            f"{profile.command[0]} is not installed; `pip install {profile.name}`, or choose another --server",
        )
    return [program, *profile.command[1:]]


def _known(table: Mapping[str, Any], kind: type, source: str) -> None:
    valid = [item.name for item in fields(kind) if item.name != "pin"]
    for key in table:
        if key not in valid:
            near = difflib.get_close_matches(key, valid, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; valid are {', '.join(valid)}"
            raise LanserError(Code.BAD_INPUT, f"{source}: unknown key {key!r}{hint}")


def _plain(value: Any) -> Any:
    if isinstance(value, Profile | Pin):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
