"""Verified facts of a turn: what the tree is, whether it is new, and what the language server says about it.

The tree is hashed only after a turn that may have changed it, diagnostics are asked for only when its hash is new to
the whole group: equal trees cost nothing. The *target set* is fixed at the start of an episode (the file of the
function that the task names, else every source file of the base tree); a target that is gone counts its diagnostics
of the base tree. No answer from the server is *missing*, never 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.errors import boundary
from agent.once import Once
from agent.tools.rewrite import split_target
from agent.tools.tool import Result
from agent.trajectory import Facts
from sandbox.protocol import Sandbox, SandboxError, tree_hash
from sandbox.task import Failure, Task


class SideStore(Protocol):
    """Where large facts go, by digest (``agent.store.SideFiles``)."""

    def put(self, value: Mapping[str, Any]) -> str: ...


@dataclass(frozen=True, slots=True)
class Measured:
    """Error diagnostics of the target set on one tree."""

    errors: Mapping[str, int]
    """Per file, suppressed ones included; files without any are left out."""
    gone: tuple[str, ...]
    """Targets that are missing or cannot be read."""
    suppressed: int
    bundle: str | None


@dataclass(slots=True)
class Lab:
    """What is measured once and shared by all episodes of a run: base manifests and diagnostics by tree."""

    diagnostics: bool = True
    side: SideStore | None = None
    base: Once[str, dict[str, str]] = field(default_factory=Once[str, dict[str, str]])
    measured: Once[tuple[str, str], Measured | None] = field(
        default_factory=lambda: Once[tuple[str, str], Measured | None](keep=lambda value: value is not None)
    )

    async def manifest(self, task: Task, sandbox: Sandbox) -> dict[str, str]:
        """The manifest of a task's base tree: asked of the first sandbox that is opened on it, before anything runs."""
        return await self.base.get(task.instance_id, sandbox.manifest)

    async def diagnose(self, task: Task, tree: str, targets: Sequence[str], sandbox: Sandbox) -> Measured | None:
        """Diagnostics of ``tree``, which is what ``sandbox`` holds now. ``None``: off, or the server did not answer."""
        if not self.diagnostics or not targets:
            return None
        return await self.measured.get((task.instance_id, tree), lambda: self._ask(sandbox, targets))

    async def _ask(self, sandbox: Sandbox, targets: Sequence[str]) -> Measured | None:
        try:
            bundle = await sandbox.lsp("diag", paths=list(targets))
        except SandboxError:
            # Whether the sandbox is dead shows at the next action; that the server gave no answer is no failure.
            return None
        return _measured(bundle, self.side)


def _measured(bundle: Mapping[str, Any], side: SideStore | None) -> Measured | None:
    """What a ``diag`` bundle says; ``None`` when it is an error or holds no diagnostics."""
    facts = bundle.get("facts")
    if bundle.get("status") != "ok" or not isinstance(facts, dict) or "diagnostics" not in facts:
        return None
    errors = Counter(str(item["uri"]) for item in facts["diagnostics"] if item.get("severity") == "error")
    targets = facts.get("targets") or {}
    gone = (*targets.get("missing", ()), *targets.get("unreadable", ()))
    digest = side.put(bundle) if side else bundle.get("bundleId")
    return Measured(errors, gone, int(facts.get("suppressed", 0)), digest)


class Tracker:
    """Follows the tree of one episode."""

    def __init__(self, task: Task, sandbox: Sandbox, lab: Lab) -> None:
        self._task, self._sandbox, self._lab = task, sandbox, lab
        self._base: Measured | None = None
        self._seen: set[str] = set()
        self._targets: tuple[str, ...] = ()
        self.base: dict[str, str] = {}
        self.manifest: dict[str, str] = {}
        self.base_tree = ""
        self.tree = ""
        """Hash of the tree as of the last turn that could change it."""

    async def start(self) -> None:
        """Measure the base tree."""
        with boundary(Failure.SANDBOX):
            self.base = self.manifest = await self._lab.manifest(self._task, self._sandbox)
            self.tree = self.base_tree = tree_hash(self.base)
            self._seen = {self.tree}
            self._targets = targets(self._task, self.base)
            self._base = await self._lab.diagnose(self._task, self.tree, self._targets, self._sandbox)

    @property
    def base_diagnostics(self) -> int | None:
        return sum(self._base.errors.values()) if self._base else None

    def still(self, *, format_ok: bool, tool_ok: bool) -> Facts:
        """Facts of a turn that cannot have touched the tree."""
        return Facts(format_ok=format_ok, tool_ok=tool_ok, tree=self.tree)

    async def after(self, result: Result) -> Facts:
        """Facts of a turn whose tool ran."""
        before = self.tree
        if result.touched:
            with boundary(Failure.SANDBOX):
                self.manifest = await self._sandbox.manifest()
            self.tree = tree_hash(self.manifest)
        new = self.tree not in self._seen
        self._seen.add(self.tree)
        changed = self.tree != before
        measured = await self._lab.diagnose(self._task, self.tree, self._targets, self._sandbox) if changed else None
        return Facts(
            format_ok=True,
            tool_ok=result.ok,
            exit_code=result.exit_code,
            tree=self.tree,
            changed=changed,
            attempt=new,
            diagnostics=self._count(measured),
            suppressed=measured.suppressed if measured else None,
            confidence=result.confidence,
            safe=result.safe,
            bundle=measured.bundle if measured else None,
        )

    def _count(self, measured: Measured | None) -> int | None:
        """Errors of the target set; a target that is gone counts what it had at the start."""
        if measured is None or (measured.gone and self._base is None):
            return None
        gone = sum(self._base.errors.get(path, 0) for path in measured.gone) if self._base else 0
        return gone + sum(count for path, count in measured.errors.items() if path not in measured.gone)


def targets(task: Task, base: Mapping[str, str]) -> tuple[str, ...]:
    """The files whose diagnostics count, fixed for the episode."""
    path, _ = split_target(task.focus or "")
    if path in base:
        return (path,)
    root = "" if task.source_root in ("", ".") else task.source_root.rstrip("/") + "/"
    hidden = {*task.hidden, *task.test_files}
    return tuple(p for p in sorted(base) if p.endswith(".py") and p.startswith(root) and p not in hidden)
