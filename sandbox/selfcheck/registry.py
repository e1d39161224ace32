"""A list of named behaviours, and how they are checked."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from sandbox import tree
from sandbox.protocol import Backend, Limits, Sandbox, SandboxError, Spec

FILES = {
    "pkg/__init__.py": b"",
    "pkg/answer.py": b"def answer():\n    return 41\n",
    "crlf.txt": b"one\r\ntwo\r\n",
    "run.sh": b"#!/bin/sh\necho ran\n",
}
"""The tree that behaviours are checked on; ``run.sh`` is executable."""
LIMITS = Limits(memory_mb=768, pids=128, output_chars=4_000)

Check = Callable[[Sandbox], Awaitable[None]]


class Broken(Exception):
    """A behaviour does not hold. The message says what was seen instead."""


class Behaviour(NamedTuple):
    name: str
    check: Check
    alone: bool = False
    """It may hurt its sandbox, and is given one of its own."""


class Outcome(NamedTuple):
    name: str
    problem: str
    """Empty when the behaviour holds."""


BEHAVIOURS: list[Behaviour] = []


def behaviour(check: Check) -> Check:
    """List a check under its name, which reads as a sentence."""
    return _add(check, alone=False)


def hurtful(check: Check) -> Check:
    """List a check that needs a sandbox of its own."""
    return _add(check, alone=True)


def _add(check: Check, alone: bool) -> Check:
    BEHAVIOURS.append(Behaviour(check.__name__.replace("_", " "), check, alone))
    return check


def expect(holds: object, seen: object) -> None:
    if not holds:
        raise Broken(f"saw {str(seen)[:400]!r}")


async def shell(box: Sandbox, command: str, timeout_s: float = 20.0) -> str:
    """Output of a command that must succeed, without its last newline."""
    result = await box.run(command, timeout_s)
    expect(result.exit_code == 0, result)
    return result.output.rstrip("\n")


def make_tree(folder: Path) -> Path:
    """Write :data:`FILES` below ``folder``, and return it."""
    for name, data in FILES.items():
        tree.write_file(str(folder), name, data, executable=name.endswith(".sh"))
    return folder


async def check_all(backend: Backend) -> AsyncIterator[Outcome]:
    """Every behaviour's outcome, as it comes. Raises :class:`SandboxError` when no sandbox opens at all."""
    with tempfile.TemporaryDirectory(prefix="repodojo-check-") as folder:
        spec = Spec(tree=make_tree(Path(folder)), limits=LIMITS)
        before = tree.Hasher(folder).manifest()
        shared = await backend.open(spec)
        try:
            for item in BEHAVIOURS:
                if reason := not_tried(backend, item):
                    yield Outcome(item.name, reason)
                    continue
                box = await backend.open(spec) if item.alone else shared
                yield Outcome(item.name, await problem_of(item, box))
                if item.alone:
                    await box.close()
        finally:
            await shared.close()
        for outcome in await _network(backend, spec):
            yield outcome
        untouched = tree.Hasher(folder).manifest() == before
        yield Outcome("the tree on the host is untouched", "" if untouched else "it was changed")


async def _network(backend: Backend, spec: Spec) -> list[Outcome]:
    from sandbox.selfcheck.network import check_network

    try:
        return [Outcome(*told) for told in await check_network(backend.open, spec)]
    except SandboxError as error:
        return [Outcome("an allow-list of hosts is kept", str(error))]


def not_tried(backend: Backend, item: Behaviour) -> str:
    """Why a behaviour must not be tried: an attack that no wall would keep from this machine. Empty when it may."""
    walled = getattr(backend, "walled", True)
    return "" if walled or not item.alone else "not tried: nothing here would keep the attack from this machine"


async def problem_of(item: Behaviour, box: Sandbox) -> str:
    """Why a behaviour does not hold; empty when it does."""
    try:
        await item.check(box)
    except (Broken, SandboxError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
