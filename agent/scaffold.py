"""Everything that the episodes of a run share, and the way from a task to a sealed trajectory.

``play`` is one attempt in a sandbox of its own, ``grade`` adds the verdict and seals, ``play_with_retries`` is both
with the handling of infrastructure failures. A verdict is cached by task and patch: equal patches are graded once in
a run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent import tools
from agent.config import AgentConfig
from agent.diagnostics import Lab, SideStore
from agent.episode import Episode
from agent.errors import Fault, boundary
from agent.facts import Tracker
from agent.finish import Grader
from agent.formats import make
from agent.once import Once
from agent.policy import Policy
from agent.shadow import Attempts, shadowed
from agent.tools.tool import Web
from agent.trajectory import End, Key, Trajectory, Turn
from sandbox.grading.hygiene import problems
from sandbox.network import Network
from sandbox.protocol import Backend, Limits, Sandbox, SandboxError, Spec
from sandbox.task import Failure, Prepared, Status, Task, TaskError, TaskSource, Verdict

BASH_S = 10.0
"""Seconds that the look for bash may take."""
GRADINGS = 3
"""Gradings of one patch before it is known whose fault their failing is."""


@dataclass(slots=True)
class Scaffold:
    """Plays and grades episodes. One instance serves any number of concurrent episodes."""

    config: AgentConfig
    backend: Backend
    source: TaskSource
    grader: Grader
    limits: Limits = field(default_factory=Limits)
    side: SideStore | None = None
    """Where bundles go; ``None`` keeps their digests only."""
    network: Network = "none"
    """What an episode's commands may reach. Grading sandboxes reach nothing."""
    _lab: Lab = field(init=False)
    _prepared: Once[str, Prepared] = field(default_factory=Once[str, Prepared])
    _images: Once[str, bool] = field(default_factory=Once[str, bool])
    """Which images have bash."""
    _attempts: dict[Key, Attempts] = field(default_factory=dict[Key, Attempts])
    """Of the episodes that are not graded yet, where shadow grading is on."""

    def __post_init__(self) -> None:
        """Refuses what no episode could be played with. Raises ``ValueError`` with one sentence."""
        self.config.fits(self.network)
        tools.load(self.config.tools)
        self._lab = Lab(self.config.diagnostics, self.side)

    async def play(self, task: Task, policy: Policy, key: Key, recorded: Sequence[Turn] = ()) -> Trajectory:
        """One attempt, not graded. Failures are in the trajectory; a task that cannot be built raises ``TaskError``.

        ``recorded``: turns of an earlier attempt, acted out again before the policy is asked for more.
        """
        prepared = await self._prepare(task)
        if self.config.shadow == "on":
            self._attempts.setdefault(key, Attempts())
        try:
            with boundary(Failure.SANDBOX):
                sandbox = await self.backend.open(self._spec(prepared))
        except Fault as fault:
            return _failed(task, policy, key, fault)
        try:
            await self._check_image(prepared, sandbox)
            return await self._episode(policy, prepared, sandbox, key, recorded).run()
        finally:
            # Shielded: a cancelled episode leaves no sandbox behind.
            await asyncio.shield(sandbox.close())

    async def grade(self, task: Task, trajectory: Trajectory) -> Trajectory:
        """The sealed trajectory, with a verdict where it submitted a patch and with shadow grades where they are on."""
        trajectory = await self._shadow(task, trajectory)
        if trajectory.failure is not None or trajectory.end is not End.SUBMITTED or not trajectory.patch:
            return trajectory.seal()
        prepared = await self._prepare(task)
        try:
            with boundary(Failure.GRADER):
                change = await self._verdict(prepared, trajectory.patch)
        except Fault as fault:
            change = {"failure": fault.failure, "detail": fault.detail}
        return trajectory.model_copy(update=change).seal()

    async def _shadow(self, task: Task, trajectory: Trajectory) -> Trajectory:
        """The trajectory with its attempts graded; masked where infrastructure left one of them ungraded."""
        attempts = self._attempts.pop(trajectory.key, None)
        if attempts is None or trajectory.failure not in (None, Failure.POLICY):
            return trajectory
        prepared = await self._prepare(task)

        async def verdict(patch: str) -> Verdict:
            with boundary(Failure.GRADER):
                return (await self._verdict(prepared, patch))["verdict"]

        try:
            return await shadowed(task, trajectory, attempts, verdict)
        except Fault as fault:
            return trajectory.model_copy(update={"failure": fault.failure, "detail": fault.detail})

    async def _verdict(self, prepared: Prepared, patch: str) -> dict[str, Any]:
        """The verdict, and whose fault it is that there is none.

        A patch breaks its grading when the same cause ends it every time, also after the untouched tree was graded
        meanwhile: then the tests have failed. Anything less is infrastructure, and no grade.
        """
        causes: set[str] = set()
        works, verdict = False, Verdict(status=Status.INFRA)
        for left in reversed(range(GRADINGS)):
            if not left:
                works = (await self.grader(prepared, "")).status is not Status.INFRA
            verdict = await self.grader(prepared, patch)
            if verdict.status is not Status.INFRA:
                return {"verdict": verdict}
            causes.add(verdict.detail)
        return _broken_by(prepared.task, verdict) if works and len(causes) == 1 else {"verdict": verdict}

    async def play_with_retries(
        self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None] = lambda: None
    ) -> Trajectory:
        """An episode to its end: played, retried in fresh sandboxes after infrastructure failures, graded, sealed.

        Sampled tokens are kept over retries, never drawn again. A failure that the same actions cause again at the
        same place is the policy's own (``End.POLICY``, ``Failure.POLICY``). ``sampled`` is called when the policy is
        asked for nothing more, before the grading.
        """
        now = await self.play(task, policy, key)
        for _ in range(self.config.retries):
            if now.failure is None:
                break
            again = await self.play(task, policy, key, now.turns)
            if _same_cause(now, again):
                now = _own_fault(again)
                break
            now = again if again.failure is None or len(again.turns) >= len(now.turns) else now
        sampled()
        return await self.grade(task, now)

    async def close(self) -> None:
        """Close the backend, and with it every sandbox that is still open."""
        await self.backend.close()

    async def _prepare(self, task: Task) -> Prepared:
        def build() -> Prepared:
            prepared = self.source.prepare(task)
            if found := problems(prepared):
                raise TaskError(f"{task.instance_id} would give its answer away: {found[0]}")
            return prepared

        async def make() -> Prepared:
            return await asyncio.to_thread(build)

        return await self._prepared.get(task.instance_id, make)

    async def _check_image(self, prepared: Prepared, sandbox: Sandbox) -> None:
        """Refuse a task whose own image has no bash, once per image. Raises ``TaskError``."""
        image = prepared.image
        if image is None or "bash" not in self.config.tools:
            return

        async def look() -> bool:
            return (await sandbox.run("command -v bash", BASH_S)).exit_code not in (1, 127)

        with contextlib.suppress(SandboxError):  # a dead sandbox is found out by the episode
            if not await self._images.get(image, look):
                whose = f"the image {image} of {prepared.task.instance_id}"
                raise TaskError(f"{whose} has no bash: add it to the image or take 'bash' out of agent.tools")

    def _spec(self, prepared: Prepared) -> Spec:
        return Spec(
            tree=prepared.base,
            site=prepared.site,
            source_root=prepared.task.source_root,
            image=prepared.image,
            python=prepared.python,
            network=self.network,
            limits=self.limits,
            editor=bool({"edit", "rewrite"} & {*self.config.tools}),
        )

    def _episode(
        self, policy: Policy, prepared: Prepared, sandbox: Sandbox, key: Key, recorded: Sequence[Turn]
    ) -> Episode:
        loaded = tools.load(self.config.tools)
        form = make(self.config.format, loaded)
        tracker = Tracker(prepared, sandbox, self._lab, self._attempts.get(key))
        web = Web(self.config.web_endpoint, offline=self.network == "none")
        return Episode(policy, prepared, sandbox, key, self.config, loaded, form, tracker, recorded, web)


def _broken_by(task: Task, verdict: Verdict) -> dict[str, Any]:
    """What is recorded of a patch that breaks its grading: no listed test passes."""
    detail = f"the patch breaks its grading: {verdict.detail}"
    results = dict.fromkeys((*task.FAIL_TO_PASS, *task.PASS_TO_PASS), False)
    failed = Verdict(status=Status.FAILED, results=results, detail=detail)
    return {"verdict": failed, "failure": Failure.POLICY, "detail": detail}


def _failed(task: Task, policy: Policy, key: Key, fault: Fault) -> Trajectory:
    return Trajectory(
        task=task.instance_id,
        key=key,
        policy=policy.name,
        turns=(),
        end=End.INFRA,
        failure=fault.failure,
        detail=fault.detail,
    )


def _same_cause(earlier: Trajectory, now: Trajectory) -> bool:
    """Whether the same last action broke both sandboxes. An engine's failure is never the policy's doing."""
    kinds = (Failure.SANDBOX, Failure.TOOL)
    if earlier.failure not in kinds or now.failure is not earlier.failure or not now.turns:
        return False
    unfinished = all(t.turns and t.turns[-1].facts.tree is None for t in (earlier, now))
    return unfinished and [t.sampled for t in earlier.turns] == [t.sampled for t in now.turns]


def _own_fault(trajectory: Trajectory) -> Trajectory:
    detail = f"the same actions caused it again: {trajectory.detail}"
    return trajectory.model_copy(update={"end": End.POLICY, "failure": Failure.POLICY, "detail": detail})
