"""What an agent must not find in its sandbox, checked on a task's folders before they are used.

Hidden tests, a commit that is no ancestor of the base commit (reachable or not, the fix may lie in it), and an
installed copy of the very package that the task is about.
"""

from __future__ import annotations

import re
import subprocess
from functools import lru_cache
from pathlib import Path

from sandbox.task import Prepared


def problems(prepared: Prepared) -> list[str]:
    """What is wrong with the folders of a task, each in one sentence; empty when nothing is."""
    task = prepared.task
    hidden = [
        f"the hidden test {path} lies in the base tree" for path in task.hidden if (prepared.base / path).exists()
    ]
    return [*hidden, *_later(prepared.base, task.base_commit), *_installed(prepared.site, _package(prepared))]


@lru_cache(maxsize=256)
def _later(base: Path, commit: str) -> tuple[str, ...]:
    """Commits in the object store that the base commit does not descend from."""
    if not (base / ".git").exists():
        return ()
    try:
        listed = _git(
            base, "cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objecttype) %(objectname)"
        )
        commits = {name for kind, _, name in (line.partition(" ") for line in listed) if kind == "commit"}
        known = set(_git(base, "rev-list", commit)) if commit in commits else set[str]()
    except (OSError, subprocess.CalledProcessError) as error:
        return (f"the base tree's history cannot be read: {error}",)
    if commit not in known:
        return (f"the base tree's history does not hold the base commit {commit}",)
    return tuple(
        f"the base tree holds the commit {name}, which is not before the base commit" for name in commits - known
    )


def _git(base: Path, *arguments: str) -> list[str]:
    # The folder is ours, not yet an agent's. Other users' folders are read too, as root does in a shared cache.
    command = ["git", "-c", f"safe.directory={base}", "-c", "core.hooksPath=/dev/null", "-C", str(base), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def _package(prepared: Prepared) -> str:
    """Name of the package that the task is about, normalised as package indexes do."""
    task = prepared.task
    origin = re.match(r"pkg:pypi/([^@?#]+)", task.origin or "")
    return _normal(origin[1] if origin else task.repo.rpartition("/")[2])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(site: Path, package: str) -> tuple[str, ...]:
    if not site.is_dir():
        return ()
    names = {_normal(entry.name.split("-")[0]) for entry in site.iterdir() if entry.name.endswith(".dist-info")}
    return (f"the site folder holds {package}, the package that the task is about",) if package in names else ()
