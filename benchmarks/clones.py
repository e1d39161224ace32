"""One commit out of a local clone, with its real name and nothing after it.

``git fetch --depth 1`` of a single commit copies its tree and no other commit: later history, tags, remotes and the
reflog are absent rather than removed. Only the user's own clone is read, with hooks off and without any configuration
of the user's; git never runs in a folder that an agent has touched.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sandbox.task import TaskError

UPLOAD = "git -c uploadpack.allowAnySHA1InWant=true -c safe.directory=* upload-pack"
ENV = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_TERMINAL_PROMPT": "0"}


def find_clone(repos: Path, repo: str) -> Path:
    """The clone of ``owner/name`` below ``repos``: ``name``, ``owner/name`` or ``owner__name``, bare or not. Raises
    :class:`TaskError`.
    """
    owner, _, name = repo.partition("/")
    for stem in (name, f"{owner}/{name}", f"{owner}__{name}"):
        for folder in (repos / stem, repos / f"{stem}.git"):
            if (folder / ".git").exists() or (folder / "objects").is_dir():
                return folder
    raise TaskError(f"{repos} holds no clone of {repo}: git clone https://github.com/{repo} {repos / name}")


def check_out(clone: Path, commit: str, target: Path) -> None:
    """Fill ``target``, an empty folder, with ``commit`` on a branch ``main``. Raises :class:`TaskError`."""
    git(target, "init", "-q", "-b", "main")
    git(target, "config", "core.logAllRefUpdates", "false")
    url = f"file://{clone.resolve()}"
    git(target, "fetch", "-q", "--depth", "1", "--no-tags", f"--upload-pack={UPLOAD}", url, commit)
    git(target, "reset", "-q", "--hard", "FETCH_HEAD")
    for left in ("FETCH_HEAD", "ORIG_HEAD"):
        (target / ".git" / left).unlink(missing_ok=True)


def git(folder: Path, *arguments: str) -> str:
    """Output of one git command in a folder of ours. Raises :class:`TaskError`."""
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ENV})
    if done.returncode:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise TaskError(f"git {arguments[0]} failed: {last}")
    return done.stdout
