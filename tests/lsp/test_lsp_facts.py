"""The episode's facts, against the real ty."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lsp.facts import Diagnoser
from lsp.inside import Inside

GOOD = "def double(x: int) -> int:\n    return x * 2\n"
BAD = 'def double(x: int) -> int:\n    y: int = "a"\n    return undefined_name\n'


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Diagnoser]:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("")
    (tmp_path / "pkg/a.py").write_text(GOOD)
    (tmp_path / "pkg/b.py").write_text("from pkg.a import double\n\nz: int = double(2)\n")
    with Diagnoser(tmp_path) as made:
        yield made


def count(meter: Diagnoser) -> int | None:
    return meter.diagnose()["facts"]["count"]


def test_every_kind_of_edit_is_seen_at_once(meter: Diagnoser, tmp_path: Path) -> None:
    assert count(meter) == 0
    (tmp_path / "pkg/a.py").write_text(BAD)
    assert count(meter) == 2
    subprocess.run(["sed", "-i", "s/undefined_name/y/", "pkg/a.py"], cwd=tmp_path, check=True)
    assert count(meter) == 1
    (tmp_path / "pkg/a.py").unlink()
    (tmp_path / "pkg/a.py").write_text(GOOD.replace("-> int", "-> str").replace("x * 2", '"s"'))
    bundle = meter.diagnose()
    assert [item["uri"] for item in bundle["facts"]["diagnostics"]] == ["pkg/b.py"]


def test_a_suppressed_diagnostic_still_counts(meter: Diagnoser, tmp_path: Path) -> None:
    assert count(meter) == 0
    (tmp_path / "pkg/a.py").write_text('x: int = "a"  # type: ignore\ny: int = "a"  # ty: ignore\ndouble = int\n')
    facts = meter.diagnose()["facts"]
    assert (facts["count"], facts["suppressed"]) == (2, 2)


def test_the_workspace_cannot_loosen_the_configuration(meter: Diagnoser, tmp_path: Path) -> None:
    (tmp_path / "pkg/a.py").write_text(BAD)
    assert count(meter) == 2
    (tmp_path / "ty.toml").write_text('[rules]\nall = "ignore"\n')
    (tmp_path / "pyproject.toml").write_text('[tool.ty.rules]\nall = "ignore"\n[tool.ty.src]\nexclude = ["pkg"]\n')
    assert count(meter) == 2


def test_targets_are_fixed_at_the_start_and_a_deleted_one_keeps_its_count(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(BAD)
    (tmp_path / "b.py").write_text(GOOD)
    with Diagnoser(tmp_path) as meter:
        first = meter.diagnose()["facts"]
        (tmp_path / "new.py").write_text(BAD)
        (tmp_path / "a.py").unlink()
        facts = meter.diagnose()["facts"]
    assert facts["count"] == first["count"] == 2
    assert facts["targets"]["missing"] == ["a.py"]
    assert facts["targets"]["digest"] == first["targets"]["digest"]


def test_a_server_that_cannot_start_is_missing_never_zero(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(GOOD)
    with Diagnoser(tmp_path, command=["/nonexistent/ty"]) as meter:
        bundle = meter.diagnose()
    assert bundle["status"] == "error"
    assert bundle["facts"]["count"] is None
    assert bundle["error"]["code"] == "E/LS_CRASH"


def test_equal_trees_in_different_folders_have_equal_bundles(tmp_path: Path) -> None:
    bundles = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(BAD)
        with Diagnoser(tmp_path / name) as meter:
            bundles.append(meter.diagnose())
    assert bundles[0]["bundleId"] == bundles[1]["bundleId"]
    assert bundles[0]["factsId"] == bundles[1]["factsId"]


def test_the_facade_imports_only_the_standard_library() -> None:
    heavy = "('pydantic', 'lsprotocol', 'pygls', 'tree_sitter')"
    code = f"import sys, lsp.facts; print([m for m in sys.modules if m.split('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_inside_a_sandbox_the_first_paths_are_the_targets(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(BAD)
    (tmp_path / "b.py").write_text(BAD)

    async def run() -> list[dict[str, Any]]:
        inside = Inside(tmp_path, extra_paths=())
        first = await inside.ask("diag", paths=["a.py"])
        (tmp_path / "a.py").unlink()
        bundles = [first, await inside.ask("diag", paths=["a.py"]), await inside.ask("diag", paths=["b.py"])]
        assert len(inside.pids()) == 1
        await inside.close()
        return bundles

    first, gone, other = asyncio.run(run())
    assert {item["uri"] for item in first["facts"]["diagnostics"]} == {"a.py"}
    assert gone["facts"]["targets"]["missing"] == ["a.py"]
    assert gone["facts"]["count"] == first["facts"]["count"] == 2
    assert other["error"]["code"] == "E/BAD_INPUT"
