"""``diag --changed``: diagnostics of the files that differ from a git revision, and which of them are new (standard
library only).

The revision is laid out in a folder of its own and asked the same way by the same kind of server. A diagnostic is
*new* when the old tree had fewer of the same file, severity, code and message: lines may move freely. Invariant: a
finding that the revision had as often is never called new.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from lsp import assemble
from lsp.diagnose import Diagnostic, diagnose
from lsp.errors import Code, LanserError
from lsp.queries import expand
from lsp.session import Session

Key = tuple[str, str, str, str]


async def diagnose_changed(session: Session, revision: str, below: list[str] | None = None) -> dict[str, Any]:
    """The bundle of ``diag`` over the files (of those in ``below``, when given) that differ from ``revision``;
    ``facts.new`` are the findings it did not have.
    """
    began = time.monotonic()
    asked = assemble.request("diag", None, {"changed": revision} | ({"paths": below} if below else {}))
    try:
        session.workspace.scan()
        renamed = changed_files(session, revision)
        if below:
            wanted = expand(session, below)
            renamed = {path: old for path, old in renamed.items() if path in wanted}
        paths = sorted(renamed)
        found = await diagnose(session, paths)
        before = await _before(session, revision, renamed)
        extra = {"new": new_ones(found["diagnostics"], before), "base": revision, "count": found["counts"]["error"]}
        return assemble.bundle(asked, session, facts={**found, **extra}, began=began)
    except LanserError as error:
        return assemble.bundle(asked, session, error=error, began=began)


def changed_files(session: Session, revision: str) -> dict[str, str]:
    """Source files now that differ from ``revision``, untracked ones included, each with its name there."""
    root = session.workspace.root
    sources = set(session.workspace.sources())
    out: dict[str, str] = {}
    fields = git(root, "diff", "--name-status", "-z", "--find-renames", "--relative", revision, "--").split("\0")
    at = iter(fields)
    for status in at:
        if not status:
            break
        old = next(at)
        new = next(at) if status[0] in "RC" else old
        if new in sources:
            out[new] = old
    for path in git(root, "ls-files", "--others", "--exclude-standard", "-z").split("\0"):
        if path in sources:
            out[path] = path
    return out


def new_ones(now: list[Diagnostic], before: list[Diagnostic]) -> list[Diagnostic]:
    """Diagnostics beyond what ``before`` had of the same kind; of several alike the last ones count as new."""
    left = Counter(_key(item) for item in before)
    out: list[Diagnostic] = []
    for item in now:
        key = _key(item)
        if left[key] > 0:
            left[key] -= 1
        else:
            out.append(item)
    return out


def git(root: Path, *args: str) -> str:
    """Standard output of git. ``BAD_INPUT`` with git's own words when it fails."""
    done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, check=False)
    if done.returncode:
        raise LanserError(Code.BAD_INPUT, _why(root, done.stderr.decode("utf-8", "replace")))
    return done.stdout.decode("utf-8", "surrogateescape")


def _why(root: Path, said: str) -> str:
    lines = said.strip().splitlines()
    if any("not a git repository" in line.lower() for line in lines):
        return f"--changed compares with a git revision, and {root} is in no git repository"
    reason = next((line for line in lines if line.startswith("fatal: ")), lines[0] if lines else "no reason given")
    hint = "; fetch it, or name a revision that `git log` shows" if "revision" in reason else ""
    return f"git could not compare: {reason.removeprefix('fatal: ')}{hint}"


async def _before(session: Session, revision: str, renamed: dict[str, str]) -> list[Diagnostic]:
    with tempfile.TemporaryDirectory(prefix="lanser-") as folder:
        lay_out(session.workspace.root, revision, Path(folder))
        async with Session(folder, session.profile, session.options) as old:
            old.workspace.scan()
            there = {path: name for path, name in renamed.items() if name in old.workspace.entries}
            found = (await diagnose(old, sorted(set(there.values()))))["diagnostics"]
    names = {name: path for path, name in there.items()}
    return [{**item, "uri": names[item["uri"]]} for item in found]


def lay_out(root: Path, revision: str, folder: Path) -> None:
    """The tree of ``revision`` below ``root``, as files in ``folder``."""
    done = subprocess.run(["git", "-C", str(root), "archive", revision], capture_output=True, check=False)
    if done.returncode:
        raise LanserError(Code.BAD_INPUT, f"git has no revision {revision!r} of this workspace")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def _key(item: Diagnostic) -> Key:
    return item["uri"], item["severity"], item["code"], item["message"]
