"""Verified facts of a turn: what the tree is, whether it is new, and what the language server says about it.

The tree is hashed only after a turn that may have changed it; diagnostics are asked for only when it did change, and
by one episode of the group for each tree (``agent.diagnostics``). A turn that changes nothing costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.diagnostics import Base, Lab, Measured
from agent.diagnostics import SideStore as SideStore
from agent.errors import boundary
from agent.shadow import Attempts
from agent.tools.tool import Result
from agent.trajectory import Facts
from sandbox.protocol import Sandbox, tree_hash
from sandbox.task import Failure, Prepared

_NOWHERE = Base({}, "", (), None, None)


class Tracker:
    """Follows the tree of one episode."""

    def __init__(self, prepared: Prepared, sandbox: Sandbox, lab: Lab, attempts: Attempts | None = None) -> None:
        """``attempts``: where the patches of new trees are kept for shadow grading; ``None``: nowhere."""
        self._prepared, self._sandbox, self._lab, self._attempts = prepared, sandbox, lab, attempts
        self._seen: set[str] = set()
        self.base = _NOWHERE
        self.manifest: Mapping[str, str] = {}
        self.tree = ""
        """Hash of the tree as of the last turn that could change it."""

    async def start(self) -> None:
        """Measure the base tree."""
        with boundary(Failure.SANDBOX):
            self.base = await self._lab.base(self._prepared, self._sandbox)
        self.manifest, self.tree = self.base.manifest, self.base.tree
        self._seen = {self.tree}

    def still(self, *, format_ok: bool, tool_ok: bool) -> Facts:
        """Facts of a turn that cannot have touched the tree."""
        return Facts(format_ok=format_ok, tool_ok=tool_ok, tree=self.tree)

    async def after(self, result: Result) -> Facts:
        """Facts of a turn whose tool ran. Raises ``Fault`` when the sandbox fails."""
        before, measured = self.tree, None
        if result.touched:
            with boundary(Failure.SANDBOX):
                manifest = await self._sandbox.manifest()
            if manifest != self.manifest:
                self.manifest, self.tree = manifest, tree_hash(manifest)
        changed, new = self.tree != before, self.tree not in self._seen
        self._seen.add(self.tree)
        if changed:
            measured = await self._measure()
        if new and self._attempts is not None:
            with boundary(Failure.SANDBOX):
                await self._attempts.note(self._prepared, self.tree, self.base.manifest, self.manifest, self._sandbox)
        answer = self._lab.keep(result.bundle) if result.bundle else None
        return Facts(
            format_ok=True,
            tool_ok=result.ok,
            exit_code=result.exit_code,
            tree=self.tree,
            changed=changed,
            attempt=new,
            diagnostics=measured.count if measured else None,
            suppressed=measured.suppressed if measured else None,
            targets=measured.targets if measured else None,
            confidence=result.confidence,
            safe=result.safe,
            bundle=measured.bundle if measured else answer,
            answer=answer,
        )

    async def _measure(self) -> Measured | None:
        return await self._lab.measure(self._prepared, self.base, self.tree, self.manifest, self._sandbox)
