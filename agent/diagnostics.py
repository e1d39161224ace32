"""What the language server says about a tree: errors of the target set, measured once per tree for all episodes of a
run.

The *target set* is fixed at the start: the file of the function that the task names, else every source file of the
base tree. The count is a pure function of (task, tree): what one sandbox measured serves every other one that reaches
the same tree. :func:`lsp.evasion.floor` keeps it from falling by deleting, stubbing or silencing what had errors. No
answer from the server is *missing* (``None``), never 0, and asked for again by the next one that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agent.once import Once
from agent.store import content_name
from agent.tools.rewrite import split_target
from lsp.evasion import Baseline, baseline, floor
from sandbox.protocol import Sandbox, SandboxError, tree_hash
from sandbox.task import Prepared, Task


class SideStore(Protocol):
    """Where large facts go, by content (``agent.store.SideFiles``)."""

    def put(self, value: Mapping[str, Any]) -> str: ...


@dataclass(frozen=True, slots=True)
class Measured:
    """Diagnostics of the target set on one tree."""

    count: int
    """Errors, suppressed ones and those of targets that are gone included."""
    suppressed: int
    bundle: str
    """Content name of the bundle."""
    targets: str = ""
    """Digest of the target set."""


@dataclass(frozen=True, slots=True)
class Base:
    """The start of every episode of one task."""

    manifest: Mapping[str, str]
    tree: str
    targets: tuple[str, ...]
    start: Baseline | None
    """``None``: diagnostics are off, or the server did not answer."""
    measured: Measured | None


@dataclass(slots=True)
class Lab:
    """What is measured once and shared."""

    diagnostics: bool = True
    side: SideStore | None = None
    _bases: Once[str, Base] = field(init=False)
    _trees: Once[tuple[str, str], Measured | None] = field(init=False)

    def __post_init__(self) -> None:
        # A base without its diagnostics is measured again, unless they are off.
        self._bases = Once[str, Base](keep=lambda base: base.start is not None or not self.diagnostics)
        self._trees = Once[tuple[str, str], Measured | None](keep=lambda measured: measured is not None)

    async def base(self, prepared: Prepared, sandbox: Sandbox) -> Base:
        """The base tree of a task, measured in a sandbox that is fresh. Raises ``SandboxError``."""
        return await self._bases.get(prepared.task.instance_id, lambda: self._base(prepared, sandbox))

    async def measure(
        self, prepared: Prepared, base: Base, tree: str, manifest: Mapping[str, str], sandbox: Sandbox
    ) -> Measured | None:
        """Diagnostics of ``tree``, which is what ``sandbox`` holds now. ``None``: not measured."""
        if base.start is None:
            return None
        if tree == base.tree:
            return base.measured
        ask = self._ask(prepared, base, manifest, sandbox)
        return await self._trees.get((prepared.task.instance_id, tree), lambda: ask.measure(base.start, self.side))

    def keep(self, bundle: Mapping[str, Any]) -> str:
        """The content name of a bundle that a tool got, put into the side store without what differs from run to
        run."""
        kept = {key: value for key, value in bundle.items() if key != "meta"}
        return self.side.put(kept) if self.side else content_name(kept)

    def _ask(self, prepared: Prepared, base: Base, manifest: Mapping[str, str], sandbox: Sandbox) -> _Ask:
        return _Ask(prepared.base, base.manifest, base.targets, manifest, sandbox)

    async def _base(self, prepared: Prepared, sandbox: Sandbox) -> Base:
        manifest = await sandbox.manifest()
        found = targets(prepared.task, manifest)
        base = Base(manifest, tree_hash(manifest), found, None, None)
        if not self.diagnostics or not found:
            return base
        ask = self._ask(prepared, base, manifest, sandbox)
        start = await ask.start()
        measured = await ask.measure(start, self.side)
        return Base(manifest, base.tree, found, start, measured)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One question to the language server of one sandbox."""

    folder: Path
    base: Mapping[str, str]
    targets: tuple[str, ...]
    manifest: Mapping[str, str]
    sandbox: Sandbox

    async def start(self) -> Baseline | None:
        bundle = await self._bundle()
        return None if bundle is None else baseline(_places(bundle), await self._texts())

    async def measure(self, start: Baseline | None, side: SideStore | None) -> Measured | None:
        bundle = await self._bundle()
        if bundle is None or start is None:
            return None
        kept = stable(bundle)
        name = side.put(kept) if side else content_name(kept)
        count = floor(start, _places(bundle), await self._texts())
        digest = str(bundle["facts"].get("targets", {}).get("digest", ""))
        return Measured(count, int(bundle["facts"].get("suppressed", 0)), name, digest)

    async def _bundle(self) -> dict[str, Any] | None:
        try:
            bundle = await self.sandbox.lsp("diag", severity="error", paths=list(self.targets))
        except SandboxError:
            # Whether the sandbox is dead shows at the next action; a server that gives no answer is no failure.
            return None
        facts = bundle.get("facts")
        answered = bundle.get("status") == "ok" and isinstance(facts, dict) and "diagnostics" in facts
        return bundle if answered else None

    async def _texts(self) -> dict[str, str]:
        """Texts of the targets that can be read now; what did not change is read from the base folder."""
        found: dict[str, str] = {}
        for path in self.targets:
            try:
                same = self.manifest.get(path) == self.base.get(path)
                data = (self.folder / path).read_bytes() if same else await self.sandbox.read(path)
                found[path] = data.decode()
            except (OSError, UnicodeDecodeError):
                continue
        return found


def targets(task: Task, base: Mapping[str, str]) -> tuple[str, ...]:
    """The files whose diagnostics count, fixed for the episode."""
    path, _ = split_target(task.focus or "")
    if path in base:
        return (path,)
    root = "" if task.source_root in ("", ".") else task.source_root.rstrip("/") + "/"
    tests = {*task.hidden, *task.test_files}
    return tuple(p for p in sorted(base) if p.endswith(".py") and p.startswith(root) and p not in tests)


def stable(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """What a bundle says of the tree alone: without times, and without what depends on the sandbox that was asked."""
    facts = {key: value for key, value in bundle["facts"].items() if key not in ("count", "floor", "start")}
    return {key: bundle.get(key) for key in ("version", "request", "environment", "capabilities")} | {"facts": facts}


def _places(bundle: Mapping[str, Any]) -> list[tuple[str, int]]:
    found = bundle["facts"]["diagnostics"]
    return [(str(item["uri"]), int(item["range"][0])) for item in found if item.get("severity") == "error"]
