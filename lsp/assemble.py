"""Bundles as plain dicts: the same shape that :mod:`lsp.bundle` types (standard library only).

Invariant: what this module builds validates against :class:`lsp.bundle.Bundle`; both ids are computed last, over the
finished parts.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lsp.canonical import digest, ids
from lsp.errors import Code, LanserError
from lsp.host import PYTHON_VERSION, Host
from lsp.servers import find_program
from lsp.session import Session

VERSION = "1"
SORTING_KEYS = ["uri", "sL", "sC", "eL", "eC"]


def request(cmd: str, selector: Any = None, args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The ``request`` part: what was asked, without anything that depends on the machine."""
    return {"cmd": cmd, "selector": selector, "args": dict(args or {})}


def bundle(
    asked: Mapping[str, Any],
    session: Session | None,
    *,
    facts: Mapping[str, Any] | None = None,
    resolution: Mapping[str, Any] | None = None,
    edits: Mapping[str, Any] | None = None,
    error: LanserError | None = None,
    began: float | None = None,
    meta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A finished bundle. ``began`` is ``time.monotonic()`` at the start of the command."""
    freshness = session.profile.freshness if session else "assumed"
    code = error.code if error else Code.OK
    made: dict[str, Any] = {
        "version": VERSION,
        "bundleId": "",
        "factsId": "",
        "status": "error" if error else "ok",
        "error": error_part(error) if error else None,
        "request": dict(asked),
        "resolution": dict(resolution) if resolution is not None else None,
        "facts": {"provenance": "lsp", "freshness": freshness, **facts} if facts is not None else None,
        "edits": dict(edits) if edits is not None else None,
        "processReward": None,
        "environment": environment(session),
        "capabilities": capabilities(session),
        "meta": {
            "exit_code": code.exit_code,
            "sorting_keys": SORTING_KEYS,
            "hashing": {"algo": "sha256", "canonical": "RFC 8785"},
            "truncated": False,
            "cursor": None,
            "timing": {"seconds": None if began is None else time.monotonic() - began},
            "workspace": str(session.workspace.root) if session else None,
            **(meta or {}),
        },
    }
    return seal(made)


def seal(made: dict[str, Any]) -> dict[str, Any]:
    """``made`` with both ids set."""
    made["bundleId"], made["factsId"] = ids(made)
    return made


def error_part(error: LanserError) -> dict[str, Any]:
    """An error as a bundle carries it."""
    return {"code": error.code.label, "message": error.message, "retry": error.code.retry, "evidence": error.evidence}


def environment(session: Session | None) -> dict[str, Any]:
    """Who answered: server, encoding, analysed Python, configuration, platform."""
    host = session.host if session else None
    options = session.options if session else None
    return {
        "server": server_info(session, host) if session else {"name": "", "version": ""},
        "positionEncoding": host.encoding if host else None,
        "python": {
            "executable": (options.python if options else None) or sys.executable,
            "version": options.python_version if options else PYTHON_VERSION,
            "venv": options.python if options else None,
        },
        "configDigest": config_digest(session) if session else None,
        "platform": f"{platform.system().lower()}-{platform.machine()}",
    }


def server_info(session: Session, host: Host | None) -> dict[str, str]:
    """Name and version of the server: as it says, else as a trace, its package or its program says."""
    profile = session.profile
    reported = host.info.get("version") if host and profile.version_from == "server" else None
    said = reported or session.options.server_version
    return {"name": profile.name, "version": said or installed_version(profile.name, profile.version_command)}


@lru_cache(32)
def installed_version(name: str, command: tuple[str, ...]) -> str:
    """The version of an installed server; ``unknown`` when nothing tells."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        program = find_program(command[0]) if command else None
    if program is None:
        return "unknown"
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=30, check=False)
    words = [word for word in done.stdout.split() if word[:1].isdigit() or word[:2].lstrip("v")[:1].isdigit()]
    return words[0].lstrip("v") if words else "unknown"


def config_digest(session: Session) -> str:
    """Name of everything that configures the answers: profile, options, and the project's own files unless pinned."""
    options = session.options
    parts = {
        "profile": session.profile.digest,
        "pinned": options.pinned,
        "python_version": options.python_version,
        "extra_paths": len(options.extra_paths),
        "files": {} if options.pinned else session.workspace.configs(),
    }
    return digest(parts)


def capabilities(session: Session | None) -> dict[str, bool]:
    """What the server offers of what lanser uses."""
    host = session.host if session else None
    if host is None:
        return {}
    rename = host.capabilities.get("renameProvider")
    offered = {verb: bool(host.capabilities.get(key)) for verb, key in PROVIDERS.items()}
    return {**offered, "prepareRename": isinstance(rename, dict) and bool(rename.get("prepareProvider"))}


PROVIDERS = {
    "definition": "definitionProvider",
    "references": "referencesProvider",
    "hover": "hoverProvider",
    "documentSymbol": "documentSymbolProvider",
    "workspaceSymbol": "workspaceSymbolProvider",
    "rename": "renameProvider",
    "codeAction": "codeActionProvider",
    "pullDiagnostics": "diagnosticProvider",
}
"""Our name of a capability to its key in ServerCapabilities."""
