"""Every shipped server for real: the same verbs, and answers for what is on disk now."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lsp.diagnose import diagnose
from lsp.facts import Diagnoser
from lsp.host import Options
from lsp.mutations import Guard, code_action, prepare_rename, rename
from lsp.queries import run_verb
from lsp.servers import find_program, load, names
from lsp.session import Session

A = """class Dog:
    def bark(self) -> str:
        return 'wuff'


def walk(dog: Dog) -> str:
    return dog.bark()
"""
B = "from pkg.a import Dog, walk\n\nsound: str = walk(Dog())\nDog().bark()\n"
REAL = ["basedpyright", "jedi-language-server", "pyrefly", "ty"]
CHECKERS = ["basedpyright", "pyrefly", "ty"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "a project"
    (root / "pkg").mkdir(parents=True)
    (root / "pkg/__init__.py").write_text("")
    (root / "pkg/a.py").write_text(A)
    (root / "pkg/b.py").write_text(B)
    return root


def test_every_profile_loads_and_the_tested_ones_are_installed() -> None:
    assert [load(name).name for name in names()] == names()
    assert all(find_program(load(name).command[0]) for name in REAL)


@pytest.mark.parametrize("server", REAL)
def test_the_verbs_answer_and_see_a_new_file_a_move_and_a_deletion(project: Path, server: str) -> None:
    async def run() -> dict[str, Any]:
        out: dict[str, Any] = {}
        async with Session(project, server, Options(timeout=120)) as session:
            out["cold"] = await run_verb(session, "refs", {"selector": "py://pkg.a#Dog.bark"})
            out["users"] = await run_verb(session, "refs", {"selector": "py://pkg.a#walk"})
            out["def"] = await run_verb(session, "def", {"selector": "pkg/b.py@L3:C14"})
            (project / "pkg/a.py").write_text("\n\n" + A)
            out["moved"] = await run_verb(session, "def", {"selector": "pkg/b.py@L3:C14"})
            (project / "pkg/c.py").write_text("from pkg.a import walk\n\nwalk\n")
            out["refs"] = await run_verb(session, "refs", {"selector": "py://pkg.a#walk"})
            (project / "pkg/c.py").unlink()
            out["fewer"] = await run_verb(session, "refs", {"selector": "py://pkg.a#walk"})
            out["hover"] = await run_verb(session, "hover", {"selector": "py://pkg.a#walk"})
        return out

    out = asyncio.run(run())
    assert all(bundle["status"] == "ok" for bundle in out.values()), [bundle["error"] for bundle in out.values()]
    assert len(out["cold"]["facts"]["references"]) == 3
    assert {item["uri"] for item in out["users"]["facts"]["references"]} == {"pkg/a.py", "pkg/b.py"}
    assert out["def"]["facts"]["definitions"][0]["range"][:2] == [5, 4]
    assert out["moved"]["facts"]["definitions"][0]["range"][:2] == [7, 4]
    assert {item["uri"] for item in out["refs"]["facts"]["references"]} == {"pkg/a.py", "pkg/b.py", "pkg/c.py"}
    assert {item["uri"] for item in out["fewer"]["facts"]["references"]} == {"pkg/a.py", "pkg/b.py"}
    assert "walk" in out["hover"]["facts"]["hover"]


@pytest.mark.parametrize("server", CHECKERS)
def test_diagnostics_follow_every_edit_across_files(project: Path, server: str) -> None:
    async def run() -> list[int]:
        counts = []
        async with Session(project, server, Options(timeout=120)) as session:
            for result in ("str", "int", "str", "int"):
                (project / "pkg/a.py").write_text(
                    f"class Dog:\n    def bark(self): ...\n\n\ndef walk(dog: Dog) -> {result}:\n    return {result}()\n"
                )
                counts.append((await diagnose(session, ["pkg/b.py"]))["counts"]["error"])
        return counts

    assert asyncio.run(run()) == [0, 1, 0, 1]


@pytest.mark.parametrize("server", ["basedpyright", "ty"])
def test_a_pinned_configuration_holds_against_the_workspace(project: Path, server: str) -> None:
    (project / "pkg/a.py").write_text("x: int = 'a'\n")
    with Diagnoser(project, server=server, timeout=120) as meter:
        assert meter.diagnose()["facts"]["count"] >= 1
        before = meter.diagnose()["facts"]["count"]
        (project / "pyrightconfig.json").write_text('{"typeCheckingMode": "off", "ignore": ["pkg"]}')
        (project / "ty.toml").write_text('[rules]\nall = "ignore"\n')
        (project / "pkg/a.py").write_text("# pyright: basic, reportAssignmentType=false\nx: int = 'a'\n")
        assert meter.diagnose()["facts"]["count"] == before


def test_jedi_refuses_prepare_rename_and_still_finds_syntax_errors(project: Path) -> None:
    async def run() -> tuple[dict[str, Any], list[int]]:
        async with Session(project, "jedi-language-server", Options(timeout=120)) as session:
            refused = await prepare_rename(session, "py://pkg.a#walk")
            counts = [(await diagnose(session, ["pkg/a.py"]))["counts"]["error"]]
            (project / "pkg/a.py").write_text("def broken(:\n")
            counts.append((await diagnose(session, ["pkg/a.py"]))["counts"]["error"])
            return refused, counts

    refused, counts = asyncio.run(run())
    assert refused["error"]["code"] == "E/UNSUPPORTED_CAP"
    assert counts[0] == 0 and counts[1] > 0
    assert refused["environment"]["server"]["version"] == "0.47.0"


@pytest.mark.parametrize("server", ["basedpyright", "pyrefly"])
def test_a_rename_reaches_every_file(project: Path, server: str) -> None:
    async def run() -> dict[str, Any]:
        async with Session(project, server, Options(timeout=120)) as session:
            return await rename(session, "py://pkg.a#walk", "stroll", Guard(apply=True))

    bundle = asyncio.run(run())
    assert bundle["status"] == "ok", bundle["error"]
    assert (project / "pkg/b.py").read_text() == B.replace("walk", "stroll")
    assert (project / "pkg/a.py").read_text() == A.replace("walk", "stroll")


RUFF = """
name = "ruff"
command = ["ruff", "server"]
version_command = ["ruff", "--version"]
diagnostics = "pull"

[languages]
".py" = "python"
"""


def test_a_users_toml_profile_organises_imports_by_a_code_action(project: Path, tmp_path: Path) -> None:
    (project / "pkg/b.py").write_text("import sys\nimport os\n\nprint(os, sys)  # type: ignore\n")
    profile = tmp_path / "ruff.toml"
    profile.write_text(RUFF)

    async def run() -> list[dict[str, Any]]:
        async with Session(project, str(profile), Options(timeout=120)) as session:
            kind = "source.organizeImports"
            listed = await code_action(session, "pkg/b.py@L1:C1", None, kind)
            title = listed["facts"]["actions"][0]["title"]
            done = await code_action(session, "pkg/b.py@L1:C1", title, kind, Guard(apply=True))
            return [done, await run_verb(session, "def", {"selector": "pkg/b.py@L4:C1"})]

    done, refused = asyncio.run(run())
    assert done["edits"]["applied"], done["error"]
    assert (project / "pkg/b.py").read_text() == "import os\nimport sys\n\nprint(os, sys)  # type: ignore\n"
    assert refused["error"]["code"] == "E/UNSUPPORTED_CAP"
