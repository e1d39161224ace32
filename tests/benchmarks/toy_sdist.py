"""A small source distribution, made by the tests themselves, pinned like a real one."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from benchmarks.packages import Package, PackageList

SOURCE = '''\
"""Numbers."""


def clamp(value, low, high):
    """Keep a value inside a range."""
    if value < low:
        return low
    return min(value, high)


class Counter:
    def __init__(self, start=0):
        self.count = start

    @property
    def empty(self):
        return not self.count

    def add(self, by=1):
        self.count += by
        return self


def chunks(items, size):
    return [items[at : at + size] for at in range(0, len(items), size)]


def described(counts, limit):
    parts = []
    total = 0
    for name in sorted(counts):
        value = counts[name]
        if value > limit:
            continue
        if not name:
            raise KeyError(name)
        total += value
        parts.append(f"{name}={value}")
    return ", ".join(parts) + f" ({total})"
'''
TESTS = """\
import pathlib

import pytest

from toy.numbers import Counter, chunks, clamp, described


@pytest.mark.parametrize("value, expected", [(-1, 0), (0, 0), (5, 5), (11, 10)])
def test_clamp(value, expected):
    assert clamp(value, 0, 10) == expected


def test_counter_counts():
    assert Counter().add().add(2).count == 3


def test_counter_starts_empty():
    assert Counter().empty
    assert not Counter(1).empty


def test_chunks():
    assert chunks([1, 2, 3], 2) == [[1, 2], [3]]


def test_described():
    assert described({"b": 2, "a": 1, "c": 9}, 5) == "a=1, b=2 (3)"


def test_described_needs_names():
    with pytest.raises(KeyError):
        described({"": 1}, 5)


def test_wavers():
    runs = pathlib.Path(__file__).with_suffix(".runs")
    count = len(runs.read_text()) if runs.exists() else 0
    runs.write_text("." * (count + 1))
    assert count % 2 == 0
"""
FILES = {
    "PKG-INFO": "Metadata-Version: 2.1\nName: toy-numbers\nVersion: 1.0\n",
    "pyproject.toml": '[build-system]\nrequires = ["no-such-backend"]\nbuild-backend = "no_such_backend.api"\n',
    "src/toy/__init__.py": "",
    "src/toy/numbers.py": SOURCE,
    "tests/test_numbers.py": TESTS,
    "tests/test_other.py": "def test_other():\n    assert True\n",
    "docs/index.txt": "documentation\n",
}


def archive(files: dict[str, str] | None = None, top: str = "toy_numbers-1.0/") -> bytes:
    """The bytes of an sdist."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in (FILES if files is None else files).items():
            member = tarfile.TarInfo(top + name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def toy_package(data: bytes) -> Package:
    """The pin of an sdist."""
    return Package(
        name="toy-numbers",
        version="1.0",
        sha256=hashlib.sha256(data).hexdigest(),
        license="Apache-2.0",
        split="train",
        source_root="src",
        source=("src/toy",),
        tests=("tests",),
        drop=("docs",),
    )


def offer(folder: Path, data: bytes) -> Path:
    """A folder in which pip finds the sdist."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy_numbers-1.0.tar.gz").write_bytes(data)
    return folder


def pinned(package: Package) -> PackageList:
    """A list of that one package; its tasks need no site folder of their own."""
    return PackageList(site={"requirements": ()}, package=(package,))
