"""Site folders: pytest and what a task's tests need, apart from our own environment. One folder per set of
requirements.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sources import pip, pip_error
from sandbox.task import TaskError
from sandbox.toolbox import cache_root

HELPERS = Path(__file__).with_name("helpers")
"""Modules that stand in for what a sandbox lacks, to be put beside the packages."""


def site(requirements: Sequence[str], python: str | None = None, helpers: Sequence[str] = ()) -> Path:
    """The folder that holds ``requirements`` (pinned lines, all with hashes or all without), made once.

    ``python``: the version, "3.9" for example, of the interpreter that it is for; ``None``: our own. It is filled with
    wheels only: nothing of a package runs while it is installed. ``helpers``: names of modules of :data:`HELPERS`.
    Raises :class:`TaskError`.
    """
    text = "".join(f"{line}\n" for line in sorted(requirements))
    beside = {f"{name}.py": (HELPERS / f"{name}.py").read_text() for name in helpers}
    home = cache_root() / "sites"
    target = home / hashlib.sha256(f"{text}{python or ''}{''.join(beside.values())}".encode()).hexdigest()[:16]
    if target.is_dir():
        return target
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=home) as folder:
        _install(text, python, Path(folder))
        for name, module in beside.items():
            (Path(folder) / "site" / name).write_text(module)
        try:
            (Path(folder) / "site").rename(target)
        except OSError:
            # Another process was faster: its folder has the same content.
            if not target.is_dir():
                raise
    return target


def _install(text: str, python: str | None, folder: Path) -> None:
    lines = folder / "requirements.txt"
    lines.write_text(text)
    wanted = ["--no-deps", "--only-binary", ":all:", "-r", str(lines)]
    wanted += ["--require-hashes"] if "--hash=" in text else []
    wanted += ["--python-version", python] if python else []
    done = pip(["install", *wanted, "--target", str(folder / "site")], {})
    if done.returncode:
        raise TaskError(f"the test runner of the tasks cannot be installed: {pip_error(done.stdout + done.stderr)}")
    shutil.rmtree(folder / "site" / "bin", ignore_errors=True)
