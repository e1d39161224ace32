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


def site(requirements: Sequence[str]) -> Path:
    """The folder that holds ``requirements`` (lines with hashes), made once. Raises :class:`TaskError`."""
    text = "".join(f"{line}\n" for line in sorted(requirements))
    home = cache_root() / "sites"
    target = home / hashlib.sha256(text.encode()).hexdigest()[:16]
    if target.is_dir():
        return target
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=home) as folder:
        _install(text, Path(folder))
        try:
            (Path(folder) / "site").rename(target)
        except OSError:
            # Another process was faster: its folder has the same content.
            if not target.is_dir():
                raise
    return target


def _install(text: str, folder: Path) -> None:
    lines = folder / "requirements.txt"
    lines.write_text(text)
    wanted = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(lines)]
    done = pip(["install", *wanted, "--target", str(folder / "site")], {})
    if done.returncode:
        raise TaskError(f"the test runner of the tasks cannot be installed: {pip_error(done.stdout + done.stderr)}")
    shutil.rmtree(folder / "site" / "bin", ignore_errors=True)
