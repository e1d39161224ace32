"""What a backend really protects on this machine: found by trying, never assumed.

Each protection stands on behaviours of the self-check that attack it; one that does not hold names what was seen.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from sandbox.protocol import Backend, Spec
from sandbox.selfcheck import BEHAVIOURS, LIMITS, Behaviour, make_tree, problem_of
from sandbox.selfcheck.registry import not_tried

PROTECTIONS: dict[str, tuple[str, ...]] = {
    "files of this machine": (
        "nothing_outside_workspace_and_tmp_can_be_written",
        "paths_outside_the_workspace_are_refused",
    ),
    "processes of this machine": ("other_processes_are_not_seen", "killing_every_process_is_survived"),
    "network": ("there_is_no_network_but_itself",),
    "user and capabilities": ("the_user_is_nobody_special",),
    "the tool server": ("the_tool_server_is_out_of_reach",),
    "number of processes": ("a_burst_of_processes_is_held_and_swept_up",),
    "memory": ("one_process_cannot_have_all_memory",),
    "memory of all processes together": ("memory_is_limited_for_all_processes_together",),
    "disk": ("the_disk_is_limited",),
    "time": ("a_command_that_ignores_signals_is_killed_on_time_out",),
}
"""What is protected, by the behaviours that prove it."""


class Protection(NamedTuple):
    """One protection, real or absent."""

    name: str
    problem: str
    """Why it is absent; empty when it is real."""

    @property
    def real(self) -> bool:
        return not self.problem


async def probe(backend: Backend) -> list[Protection]:
    """Try every protection of ``backend``. Raises :class:`~sandbox.protocol.SandboxError` when no sandbox opens."""
    checks = {item.check.__name__: item for item in BEHAVIOURS}
    with tempfile.TemporaryDirectory(prefix="repodojo-probe-") as folder:
        spec = Spec(tree=make_tree(Path(folder)), limits=LIMITS)
        found: list[Protection] = []
        for name, proofs in PROTECTIONS.items():
            problems = [await _try(backend, spec, checks[proof]) for proof in proofs]
            found.append(Protection(name, "; ".join(filter(None, problems))))
        return found


async def _try(backend: Backend, spec: Spec, item: Behaviour) -> str:
    box = await backend.open(spec)
    try:
        return not_tried(backend, item) or await problem_of(item, box)
    finally:
        await box.close()
