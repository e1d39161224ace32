"""``--strategy 3way``: a plan carried over to files that changed since it was made, by ``git apply --3way`` (standard
library only).

git works in a scratch repository that holds the contents the plan was computed on; what it merged becomes a plan for
what is on disk now, which a transaction then writes. Invariants: git never touches the workspace or its index; where
both sides changed the same lines, nothing is written.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from lsp.edits import Plan, file_diff, jailed
from lsp.errors import Code, LanserError
from lsp.workspace import Workspace

GIT = (
    *("git", "-c", "core.autocrlf=false", "-c", "core.safecrlf=false", "-c", "core.fileMode=false"),
    *("-c", "init.defaultBranch=main", "-c", "core.hooksPath=/dev/null"),
)


def rebased(workspace: Workspace, plan: Plan) -> Plan:
    """``plan`` for the files as they are now.

    ``APPLY_CONFLICT`` names those where both sides changed the same lines, or one of them added or removed the file.
    """
    now = {path: _now(workspace, path) for path in plan.changed()}
    moved = [path for path in plan.changed() if now[path] != plan.before[path]]
    if not moved:
        return plan
    for path in moved:
        if None in (now[path], plan.before[path], plan.after[path]):
            raise LanserError(Code.APPLY_CONFLICT, f"{path} was added or removed meanwhile; ask again")
    return replace(plan, before={**plan.before, **now}, after={**plan.after, **_merged(plan, moved, now)})


def _now(workspace: Workspace, path: str) -> bytes | None:
    full = f"{workspace.root}/{path}"
    if jailed(workspace, full) != path:
        raise LanserError(Code.JAIL, f"{path} now leads elsewhere")
    try:
        return Path(full).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LanserError(Code.FS_PERMISSIONS, f"cannot read {path}: {error.strerror}") from error


def _merged(plan: Plan, moved: list[str], now: dict[str, bytes | None]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="lanser-") as folder:
        _git(folder, "init", "-q")
        for contents in (plan.before, now):
            for path in moved:
                place = Path(folder) / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(contents[path] or b"")
            _git(folder, "add", "-A", "-f")
        patch = "".join(file_diff(path, plan.before[path], plan.after[path]) for path in moved)
        done = _git(
            folder, "apply", "--3way", "--whitespace=nowarn", "-", given=patch.encode("utf-8", "surrogateescape")
        )
        if done.returncode:
            unmerged = _git(folder, "diff", "--name-only", "--diff-filter=U").stdout.decode().split()
            message = f"both sides changed the same lines of {', '.join(unmerged or moved)}; nothing was written"
            raise LanserError(Code.APPLY_CONFLICT, message)
        return {path: (Path(folder) / path).read_bytes() for path in moved}


def _git(folder: str, *args: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    try:
        return subprocess.run([*GIT, *args], cwd=folder, env=env, input=given, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise LanserError(Code.BAD_INPUT, "--strategy 3way needs git") from error
