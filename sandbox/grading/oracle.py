"""Values checked where the code under test cannot reach: recipe D4, for tasks that declare what some calls must give.

In the process of the tests a patch can make its value equal to everything, or the runner call every test passed. Here a
process of its own makes the declared calls and writes what came out as JSON; the comparison is made outside of the
sandbox, on plain data, with expectations that never entered it. A patch that wants to pass has to compute the values.

The process is told calls and no expectation, and its results carry the nonce of the run.
"""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from sandbox.protocol import WORKSPACE, Sandbox
from sandbox.task import Case

WORKER = """\
import importlib, json, os, sys
job = json.load(sys.stdin)
sys.path.extend(job["path"])
out = os.dup(1)
os.dup2(2, 1)
answers = []
for name, args, kwargs in job["calls"]:
    try:
        module, _, attributes = name.partition(":")
        found = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
        answers.append(["value", json.loads(json.dumps(found(*args, **kwargs)))])
    except Exception as error:
        answers.append(["raises", type(error).__name__])
os.write(out, json.dumps([job["nonce"], answers]).encode())
os._exit(0)
"""


async def contradictions(
    sandbox: Sandbox, cases: Sequence[Case], *, python: str, source_root: str, site: str, timeout_s: float
) -> list[str]:
    """The calls that do not give what they must, each in one phrase; empty when all do.

    Raises :class:`~sandbox.protocol.SandboxError` for a sandbox that fails, nothing for what the code does.
    """
    nonce = secrets.token_hex(16)
    root = str(PurePosixPath(WORKSPACE, source_root))
    job = {"nonce": nonce, "path": [root, site], "calls": [[case.call, case.args, case.kwargs] for case in cases]}
    run = f"{shlex.quote(python)} -s -S -c {shlex.quote(WORKER)} 2>/dev/null"
    done = await sandbox.run(f"(unset PYTHONPATH; cd /; printf %s {shlex.quote(json.dumps(job))} | {run})", timeout_s)
    if done.timed_out:
        return [f"the calls took more than {timeout_s:g} s"]
    try:
        told, answers = json.loads(done.output)
        if told != nonce or len(answers) != len(cases):
            raise ValueError
    except (ValueError, TypeError):
        return ["the process of the calls ended without an answer"]
    return [
        f"{case.call} gave {_short(answer)}"
        for case, answer in zip(cases, answers, strict=True)
        if not _same(case, answer)
    ]


def _same(case: Case, answer: Any) -> bool:
    wanted = ["raises", case.raises] if case.raises else ["value", case.value]
    # As text: JSON's own types are told apart, True from 1 and 1 from 1.0.
    return json.dumps(answer, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def _short(answer: Any) -> str:
    return json.dumps(answer)[:120]
