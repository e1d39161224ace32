"""Downloads work with the pip that an environment is made with, not only with the newest one."""

import ensurepip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks.sources import DOWNLOAD, INERT

BUNDLED = next(Path(ensurepip.__file__).with_name("_bundled").glob("pip-*.whl"), None)
BACKEND = '[build-system]\nrequires = ["a_backend"]\nbuild-backend = "a_backend.that_is:nowhere"\n'


def _sdist(folder: Path) -> Path:
    """A distribution whose build backend does not exist anywhere."""
    path = folder / "some_thing-1.0.tar.gz"
    files = {"PKG-INFO": "Metadata-Version: 2.1\nName: some-thing\nVersion: 1.0\n", "pyproject.toml": BACKEND}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"some_thing-1.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize(
    "bundled",
    [False, pytest.param(True, marks=pytest.mark.skipif(not BUNDLED, reason="this Python brings no pip of its own"))],
)
def test_an_sdist_is_downloaded_without_its_build_backend(tmp_path: Path, bundled: bool) -> None:
    offered, got = tmp_path / "offered", tmp_path / "got"
    offered.mkdir()
    digest = hashlib.sha256(_sdist(offered).read_bytes()).hexdigest()
    lines = tmp_path / "requirements.txt"
    lines.write_text(f"some-thing==1.0 --hash=sha256:{digest}\n")
    pip = [f"{BUNDLED}/pip"] if bundled else ["-m", "pip"]
    done = subprocess.run(
        [sys.executable, *pip, *DOWNLOAD, "--no-index", "-f", str(offered), "-r", str(lines), "-d", str(got)],
        env={**os.environ, "PYTHONPATH": str(INERT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in got.iterdir()] == ["some_thing-1.0.tar.gz"]
