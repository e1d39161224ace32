"""Source distributions: fetched by plain pip with their hashes, kept by hash, read as trees without being unpacked.

Where packages come from is pip's own configuration; nothing here names an index. What was fetched moves into the cache
by one rename after its hash was checked, so that an interrupted or wrong download leaves nothing behind. The build
backend that pip would run for metadata is replaced by an inert one (``inert/``).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath

from benchmarks.packages import Package, under
from sandbox.grading.tree import Entry, skipped
from sandbox.task import TaskError
from sandbox.toolbox import cache_root

INERT = Path(__file__).with_name("inert")
PROCESSES = 4
"""Downloads at a time."""
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q")
DOWNLOAD = (
    *("download", "--no-deps", "--no-binary", ":all:", "--require-hashes"),
    *("--no-build-isolation", "--use-pep517", "--no-cache-dir"),
)
GOT = re.compile(r"Got\s+([0-9a-f]{64})")


def sdist_path(package: Package) -> Path:
    """Where the cache keeps a distribution."""
    return cache_root() / "sdists" / f"{package.name}-{package.version}-{package.sha256[:16]}.tar.gz"


def fetch(wanted: Iterable[Package]) -> None:
    """Fetch what the cache lacks, several at a time. Raises :class:`TaskError`, naming a package that failed."""
    missing = [package for package in wanted if not sdist_path(package).is_file()]
    if not missing:
        return
    groups = [group for at in range(PROCESSES) if (group := missing[at::PROCESSES])]
    with ThreadPoolExecutor(PROCESSES) as pool:
        for _ in pool.map(_fetch_group, groups):
            pass


def _fetch_group(group: Sequence[Package]) -> None:
    """One pip for several packages; when it fails, one for each, so that the culprit is named and the rest is kept."""
    if _download(group) is None:
        return
    for package in group:
        if (output := _download([package])) is not None:
            raise TaskError(_why(package, output))


def _download(group: Sequence[Package]) -> str | None:
    """Download into a private folder, check, move into the cache. ``None``, or what pip said when it failed."""
    home = cache_root() / "sdists"
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=home) as folder:
        lines = Path(folder) / "requirements.txt"
        lines.write_text("".join(f"{package.requirement}\n" for package in group))
        done = pip(
            [*DOWNLOAD, "-r", str(lines), "-d", folder],
            {"PYTHONPATH": str(INERT)},
        )
        if done.returncode:
            return done.stdout + done.stderr
        by_hash = {_sha256(file.read_bytes()): file for file in Path(folder).iterdir() if file != lines}
        for package in group:
            by_hash[package.sha256].replace(sdist_path(package))
    return None


def pip(args: Sequence[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run our interpreter's pip."""
    return subprocess.run([*PIP, *args], env={**os.environ, **env}, capture_output=True, text=True, check=False)


def pip_error(output: str) -> str:
    """The line of pip's output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:") and line != "ERROR: Exception:"]
    return (errors or lines or ["pip said nothing"])[-1 if not errors else 0].removeprefix("ERROR: ")


def _why(package: Package, output: str) -> str:
    if got := GOT.search(output):
        way_out = "the package index offers another file: restore the pin, or check the index"
        return _mismatch(package.origin, package.sha256, got[1], way_out)
    return f"{package.origin} cannot be downloaded: {pip_error(output)}; check the network and `pip config list`"


def _mismatch(origin: str, pinned: str, got: str, way_out: str) -> str:
    return f"{origin} has sha256 {got}, but {pinned} is pinned; {way_out}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pristine(package: Package) -> dict[str, Entry]:
    """The distribution's tree, without what ``drop`` names; not to be changed. Fetches it when needed.

    Raises :class:`TaskError`.
    """
    fetch([package])
    return _tree(package.origin, package.sha256, package.drop, sdist_path(package))


@lru_cache(maxsize=64)
def _tree(origin: str, sha256: str, drop: tuple[str, ...], path: Path) -> dict[str, Entry]:
    data = path.read_bytes()
    if (got := _sha256(data)) != sha256:
        raise TaskError(_mismatch(origin, sha256, got, f"the cached file is damaged: remove {path} and try again"))
    try:
        return {name: entry for name, entry in _members(data) if not under(name, drop) and not skipped(name)}
    except (tarfile.TarError, ValueError) as error:
        raise TaskError(f"{origin} is no readable source distribution: {error}") from None


def _members(data: bytes) -> Iterator[tuple[str, Entry]]:
    """Regular files of the archive, below its single top folder. Links and devices have no place in a source tree."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if not member.isreg() or ".git" in parts:
                continue
            if member.name.startswith("/") or ".." in parts:
                raise ValueError(f"it holds the path {member.name}")
            file = archive.extractfile(member)
            assert file is not None
            if len(parts) > 1:
                yield "/".join(parts[1:]), Entry("x" if member.mode & 0o100 else "f", file.read())
