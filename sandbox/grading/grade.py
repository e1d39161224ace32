"""Grade one patch: a fresh sandbox on the graded tree, the task's tests in it, a verdict from structured results.

Statuses are kept apart by who is at fault. The patch: ``FAILED`` (a listed test does not pass, the tests' process ended
early, the patch does not fit), ``TIMEOUT``. The patch against the grading: ``TAMPERED`` (a refused path, a forged or
contradicting result). Neither: ``INFRA``, for whatever fails around the tests; it is never a grade, and the caller
tries again in another fresh sandbox.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from sandbox.grading.command import KEPT, Forged, Report, TestRun, log_command, read_report, test_run
from sandbox.grading.graded import Graded, Refused, config_name, graded
from sandbox.grading.logs import BY_LOG, outcomes
from sandbox.grading.oracle import contradictions
from sandbox.grading.patch import PatchError, UnsafePath, apply, parse
from sandbox.grading.scratch import scratch
from sandbox.grading.tree import frozen_manifest, manifest, read_frozen, write_tree
from sandbox.protocol import WORKSPACE, Backend, Limits, Sandbox, SandboxError, Spec, tree_hash
from sandbox.task import Prepared, Status, Task, Verdict

TIMEOUT_S = 120.0
"""Default time-out of the tests of one grading, in seconds."""
RESULT_CHARS = 64_000_000
"""Room for the results of a large test suite: they are read through the shell, whose output is capped."""
SETUP_S = 30.0
PAUSES_S = (0.5, 2.0)
"""Pauses before a grading that this machine's disk kept from starting is tried again, in seconds."""
PLACES = 'printf "%s\\n" "${TMPDIR:-/tmp}" "${PYTHONPATH##*:}"'
"""Asks a fresh sandbox for its folder of temporary files and for the site folder, the last entry of the import path."""
NO_RESULTS, NOT_STARTED = 3, 4
"""Exit codes of the reading command: the tests' process ended early; it was never reached."""


async def grade(
    prepared: Prepared, patch: str, backend: Backend, *, timeout_s: float = TIMEOUT_S, limits: Limits | None = None
) -> Verdict:
    """The verdict on ``patch``. Raises nothing for what a patch or a sandbox does.

    :param timeout_s: for the tests, in seconds; starting the sandbox is not counted.
    """
    began = time.monotonic()
    flags: tuple[str, ...] = ()
    try:
        what = await asyncio.to_thread(graded, prepared, patch)
        flags = (*what.flags, BY_LOG) if prepared.command else what.flags
        seen = await _graded_in(prepared, what, backend, timeout_s, limits or Limits(), oracle=True)
        verdict = seen if isinstance(seen, Verdict) else _verdict(prepared.task, seen)
    except (Refused, UnsafePath) as error:
        flags = error.flags if isinstance(error, Refused) else ()
        verdict = _all_false(prepared.task, Status.TAMPERED, str(error))
    except PatchError as error:
        verdict = _all_false(prepared.task, Status.FAILED, f"the patch does not apply: {error}")
    except (SandboxError, OSError) as error:
        verdict = _all_false(prepared.task, Status.INFRA, f"the grading sandbox failed: {error}")
    return verdict.model_copy(update={"flags": flags, "seconds": time.monotonic() - began})


async def survey(
    prepared: Prepared, patch: str, backend: Backend, *, timeout_s: float = TIMEOUT_S, limits: Limits | None = None
) -> Report | Verdict:
    """What every test of the task's files said of ``patch``, listed or not; a verdict where nothing can be said.

    For the making and the validation of tasks. Raises :class:`SandboxError`, and ``PatchError`` for a patch that does
    not fit or may not be.
    """
    try:
        what = await asyncio.to_thread(graded, prepared, patch)
    except Refused as error:
        raise PatchError(str(error)) from error
    return await _graded_in(prepared, what, backend, timeout_s, limits or Limits())


async def _graded_in(
    prepared: Prepared, what: Graded, backend: Backend, timeout_s: float, limits: Limits, *, oracle: bool = False
) -> Report | Verdict:
    """The tests in a fresh sandbox, with patience for this machine's own disk: what fills it often leaves again."""
    for pause in PAUSES_S:
        try:
            return await _once(prepared, what, backend, timeout_s, limits, oracle)
        except OSError:
            await asyncio.sleep(pause)
    return await _once(prepared, what, backend, timeout_s, limits, oracle)


async def _once(
    prepared: Prepared, what: Graded, backend: Backend, timeout_s: float, limits: Limits, oracle: bool
) -> Report | Verdict:
    """Open a fresh sandbox on the graded tree, run the tests there, ask the task's oracle, close it."""
    with scratch() as folder:
        root = folder / "tree"
        await asyncio.to_thread(write_tree, what.tree, root)
        spec = Spec(
            tree=root,
            site=prepared.site,
            source_root=prepared.task.source_root,
            image=prepared.image,
            python=prepared.python,
            limits=limits.model_copy(update={"output_chars": RESULT_CHARS}),
            editor=False,
        )
        sandbox = await backend.open(spec)
        try:
            seen = await _run(sandbox, prepared, timeout_s)
            if oracle and prepared.task.oracle and isinstance(seen, Report):
                return await _asked(sandbox, prepared, seen, timeout_s)
            return seen
        finally:
            await sandbox.close()


async def _run(sandbox: Sandbox, prepared: Prepared, timeout_s: float) -> Report | Verdict:
    task = prepared.task
    if prepared.command:
        return await _logged(sandbox, prepared, timeout_s)
    run = await _test_run(sandbox, prepared)
    await _create(sandbox, run)
    done = await sandbox.run(run.shell(), timeout_s)
    if done.timed_out:
        return _all_false(task, Status.TIMEOUT, f"the tests took more than {timeout_s:g} s")
    read = await sandbox.run(_reading(run), SETUP_S)
    if read.exit_code == NO_RESULTS:
        return _ended_early(task, done.exit_code)
    if read.exit_code != 0:
        raise SandboxError(f"the tests were not reached (exit code {done.exit_code}): {done.output.strip()[-200:]}")
    try:
        return read_report(read.output, run)
    except Forged as error:
        return _all_false(task, Status.TAMPERED, str(error))


async def _logged(sandbox: Sandbox, prepared: Prepared, timeout_s: float) -> Report | Verdict:
    """The run of a test program that no recorder can be put into; the grade is marked for it."""
    done = await sandbox.run(log_command(prepared), timeout_s)
    if done.timed_out:
        return _all_false(prepared.task, Status.TIMEOUT, f"the tests took more than {timeout_s:g} s")
    found = outcomes(prepared.log, done.output)
    if done.exit_code and not {"failed", "error"} & {*found.values()}:
        why = f"the test program ended with exit code {done.exit_code}, and its log names no failure"
        return _all_false(prepared.task, Status.FAILED, why)
    return Report(collected=tuple(found), outcomes=found, messages={}, errors={}, exit=done.exit_code or 0)


async def _asked(sandbox: Sandbox, prepared: Prepared, report: Report, timeout_s: float) -> Report | Verdict:
    """The report, unless the oracle contradicts tests that all pass."""
    task = prepared.task
    verdict = _verdict(task, report)
    if verdict.status is not Status.RESOLVED:
        return report
    site = (await sandbox.run(PLACES, SETUP_S)).output.strip().rpartition("\n")[2]
    wrong = await contradictions(
        sandbox,
        task.oracle,
        python=prepared.python or "python3",
        source_root=task.source_root,
        site=site,
        timeout_s=timeout_s,
    )
    if not wrong:
        return report
    return verdict.model_copy(
        update={"status": Status.FAILED, "detail": f"the tests pass, but their values are others: {wrong[0]}"}
    )


def _reading(run: TestRun) -> str:
    """Print the results, or tell by the exit code how far the tests' process came."""
    results, started = shlex.quote(run.results), shlex.quote(run.started)
    how_far = f"elif [ -f {started} ]; then exit {NO_RESULTS}; else exit {NOT_STARTED}"
    return f"(if [ -f {results} ]; then cat {results}; {how_far}; fi)"


async def _test_run(sandbox: Sandbox, prepared: Prepared) -> TestRun:
    """The run as this sandbox needs it: where nothing can be mounted, its places have other names."""
    done = await sandbox.run(PLACES, SETUP_S)
    temporary, _, site = done.output.strip().partition("\n")
    if done.exit_code != 0 or not site.startswith("/"):
        raise SandboxError(f"the grading sandbox does not tell its places: {done.output.strip()[:200]}")
    nonce = secrets.token_hex(16)
    own = config_name(prepared.tests)
    config = f"{WORKSPACE}/{own}" if own else None
    folder, python = f"{temporary}/g{nonce[-12:]}", prepared.python or "python3"
    return test_run(
        prepared.task, folder, python=python, site=site, config=config, extra=prepared.pytest_args, nonce=nonce
    )


async def _create(sandbox: Sandbox, run: TestRun) -> None:
    """Create the run's files by the shell itself, outside the workspace, where only verbs of files could not reach."""
    folders = sorted({str(Path(run.folder, name).parent) for name in run.files})
    writes = [
        f"printf %s {shlex.quote(text)} > {shlex.quote(f'{run.folder}/{name}')}" for name, text in run.files.items()
    ]
    made = await sandbox.run(" && ".join(["umask 077", f"mkdir -p {shlex.join(folders)}", *writes]), SETUP_S)
    if made.exit_code != 0:
        raise SandboxError(f"the grading sandbox takes no files: {made.output.strip()[:200]}")


def _verdict(task: Task, report: Report) -> Verdict:
    """RESOLVED when every listed test was collected, ran and passed."""
    results = {test: report.passed(test) for test in task.FAIL_TO_PASS}
    results |= {test: report.passed(test, KEPT) for test in task.PASS_TO_PASS if test not in results}
    failed = [test for test, passed in results.items() if not passed]
    if results and not failed:
        return Verdict(status=Status.RESOLVED, results=results)
    return Verdict(status=Status.FAILED, results=results, detail=_why(report, failed))


def _why(report: Report, failed: list[str]) -> str:
    if not failed:
        return "the task lists no test"
    first = failed[0]
    outcome = report.outcomes.get(first, "not run" if first in report.collected else "not collected")
    broken = next(iter(report.errors.values()), "") if outcome == "not collected" else ""
    reason = report.messages.get(first) or broken
    return f"{len(failed)} listed tests do not pass; {first}: {outcome}{f' ({reason})' if reason else ''}"


def _ended_early(task: Task, code: int | None) -> Verdict:
    """The recorder was reached and wrote nothing: a crash fails, a clean exit in the middle of the tests is no
    accident.
    """
    status = Status.TAMPERED if code == 0 else Status.FAILED
    return _all_false(task, status, f"the tests' process ended before it reported (exit code {code})")


def _all_false(task: Task, status: Status, detail: str) -> Verdict:
    return Verdict(status=status, results=dict.fromkeys((*task.FAIL_TO_PASS, *task.PASS_TO_PASS), False), detail=detail)


@dataclass
class _Slot:
    """One tree's grading, in flight or done."""

    task: asyncio.Task[Verdict]


class GradeCache:
    """Verdicts by (task, hash of the patched tree): an equal tree is graded once, also when asked for twice at a time.

    What may come out otherwise another time (``INFRA``, ``TIMEOUT``) is not kept. The empty patch is graded every time:
    it is asked for to learn whether gradings work now.
    """

    def __init__(self) -> None:
        self._slots: dict[tuple[str, str], _Slot] = {}

    async def grade(
        self,
        prepared: Prepared,
        patch: str,
        backend: Backend,
        *,
        timeout_s: float = TIMEOUT_S,
        limits: Limits | None = None,
    ) -> Verdict:
        """:func:`grade`, or what it said of the same tree before."""
        if not patch:
            return await grade(prepared, patch, backend, timeout_s=timeout_s, limits=limits)
        try:
            key = (prepared.task.instance_id, await asyncio.to_thread(patched_hash, prepared, patch))
        except PatchError:
            return await grade(prepared, patch, backend, timeout_s=timeout_s, limits=limits)
        slot = self._slots.get(key)
        if slot is None:
            work = grade(prepared, patch, backend, timeout_s=timeout_s, limits=limits)
            slot = self._slots[key] = _Slot(asyncio.create_task(work))
            slot.task.add_done_callback(lambda done: self._settle(key, done))
        # Shielded: one asker that is cancelled must not cancel the grading of another.
        return await asyncio.shield(slot.task)

    def _settle(self, key: tuple[str, str], done: asyncio.Task[Verdict]) -> None:
        if done.cancelled() or done.exception() or done.result().status in (Status.INFRA, Status.TIMEOUT):
            self._slots.pop(key, None)


def patched_hash(prepared: Prepared, patch: str) -> str:
    """Hash of the base tree with ``patch`` applied, as the agent's sandbox names the same tree. Raises
    :class:`PatchError`.
    """
    base = read_frozen(prepared.base)
    after = apply(base, patch)
    names = dict(frozen_manifest(prepared.base))
    for change in parse(patch):
        for path in (change.old, change.new):
            if path is not None and path not in after:
                names.pop(path, None)
            elif path is not None:
                names |= manifest({path: after[path]})
    return tree_hash(names)
