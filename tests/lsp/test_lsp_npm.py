"""Servers that come from npm: pyright, and typescript-language-server by the profile that docs/lanser.md shows."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from lsp.diagnose import diagnose
from lsp.facts import Diagnoser
from lsp.mutations import Guard, rename
from lsp.queries import run_verb
from lsp.session import Session
from lsp.verbs import call

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs" / "lanser.md"
DOG = """export class Dog {
  bark(): string {
    return "wuff";
  }
}

export function walk(dog: Dog): string {
  return dog.bark();
}
"""
MAIN = 'import { Dog, walk } from "./dog";\n\nconst sound: string = walk(new Dog());\nconsole.log(sound);\n'
A = """class Dog:
    def bark(self) -> str:
        return 'wuff'


def walk(dog: Dog) -> str:
    return dog.bark()
"""
B = "from pkg.a import Dog, walk\n\nsound: str = walk(Dog())\n"

Npm = Callable[..., None]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory, lacking: Callable[[str, str], NoReturn]) -> Npm:
    """Installs packages of npm into one folder and puts their programs on the path; skips where npm cannot."""
    folder = tmp_path_factory.mktemp("npm")

    def install(*names: str) -> None:
        npm = shutil.which("npm")
        if npm is None:
            lacking("npm", "npm is not installed")
        command = [npm, "install", "--no-audit", "--no-fund", "--silent", *names]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            lacking("npm", f"npm does not answer: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        programs = str(folder / "node_modules/.bin")
        if programs not in os.environ["PATH"]:
            os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"

    return install


@pytest.fixture
def typescript(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "tsconfig.json").write_text('{"compilerOptions": {"strict": true, "noEmit": true}, "include": ["src"]}')
    (root / "src/dog.ts").write_text(DOG)
    (root / "src/main.ts").write_text(MAIN)
    return root


def documented(tmp_path: Path) -> str:
    """The profile as a user would copy it from the documentation."""
    text = DOCS.read_text("utf-8")
    block = re.search(r'    name = "typescript-language-server"\n(?:(?:    .*)?\n)+', text)
    assert block is not None
    path = tmp_path / "typescript.toml"
    path.write_text(re.sub(r"(?m)^    ", "", block[0]))
    return str(path)


def test_a_users_profile_serves_another_language(packages: Npm, typescript: Path, tmp_path: Path) -> None:
    packages("typescript@5", "typescript-language-server@5")

    async def run() -> list[dict[str, Any]]:
        async with Session(typescript, documented(tmp_path)) as session:
            asked = [
                await call(session, "def", {"selector": "src/main.ts@L3:C23"}),
                await call(session, "refs", {"selector": 'anchor://src/dog.ts#"bark(): string"'}),
                await call(session, "hover", {"selector": "src/main.ts@L3:C23"}),
            ]
            asked.append(await rename(session, "src/dog.ts@L2:C3", "growl", Guard(apply=True)))
            return asked

    definition, references, hover, renamed = asyncio.run(run())
    assert definition["facts"]["definitions"] == [{"uri": "src/dog.ts", "range": [6, 16, 6, 20]}]
    assert [item["range"][0] for item in references["facts"]["references"]] == [1, 7]
    assert "walk(dog: Dog): string" in hover["facts"]["hover"]
    assert renamed["edits"]["applied"], renamed["error"]
    assert (typescript / "src/dog.ts").read_text() == DOG.replace("bark", "growl")


def test_its_diagnostics_follow_edits_of_other_files_and_edits_that_change_none(
    packages: Npm, typescript: Path, tmp_path: Path
) -> None:
    packages("typescript@5", "typescript-language-server@5")
    number = DOG.replace("Dog): string", "Dog): number").replace("dog.bark()", "1")
    texts = [number, DOG, f"{DOG}// a note\n", f"{DOG}// another\n", number, f"{number}// a note\n", DOG]

    async def run() -> list[int]:
        counts = list[int]()
        async with Session(typescript, documented(tmp_path)) as session:
            for text in texts:
                (typescript / "src/dog.ts").write_text(text)
                counts.append((await diagnose(session, ["src/main.ts"]))["counts"]["error"])
        return counts

    assert asyncio.run(run()) == [text.startswith(number) for text in texts]


def test_pyright_answers_every_verb_and_its_pinned_configuration_holds(packages: Npm, tmp_path: Path) -> None:
    packages("pyright@1.1")
    (tmp_path / "pkg").mkdir()
    for name, text in (("__init__", ""), ("a", A), ("b", B)):
        (tmp_path / f"pkg/{name}.py").write_text(text)

    async def run() -> tuple[dict[str, dict[str, Any]], list[int]]:
        counts = list[int]()
        async with Session(tmp_path, "pyright") as session:
            for result in ("str", "int", "str"):
                (tmp_path / "pkg/a.py").write_text(A.replace("-> str:\n    return dog.bark()", f"-> {result}: ..."))
                counts.append((await diagnose(session, ["pkg/b.py"]))["counts"]["error"])
            (tmp_path / "pkg/a.py").write_text(f"\n\n{A}")
            asked = {verb: await run_verb(session, verb, {"selector": "py://pkg.a#walk"}) for verb in ("refs", "hover")}
            asked["def"] = await run_verb(session, "def", {"selector": "pkg/b.py@L3:C14"})
            asked["rename"] = await rename(session, "py://pkg.a#walk", "stroll", Guard(apply=True))
        return asked, counts

    asked, counts = asyncio.run(run())
    assert counts == [0, 1, 0]
    assert all(bundle["status"] == "ok" for bundle in asked.values()), [one["error"] for one in asked.values()]
    assert asked["def"]["facts"]["definitions"] == [{"uri": "pkg/a.py", "range": [7, 4, 7, 8]}]
    assert asked["refs"]["facts"]["total"] == 3
    assert asked["def"]["environment"]["server"]["version"].startswith("1.1.")
    assert (tmp_path / "pkg/b.py").read_text() == B.replace("walk", "stroll")
    (tmp_path / "pkg/a.py").write_text("x: int = 'a'\n")
    with Diagnoser(tmp_path, server="pyright", timeout=60, targets=["pkg/a.py"]) as meter:
        before = meter.diagnose()["facts"]["count"]
        (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "off", "ignore": ["pkg"]}')
        (tmp_path / "pkg/a.py").write_text("# pyright: basic, reportAssignmentType=false\nx: int = 'a'\n")
        assert before == meter.diagnose()["facts"]["count"] == 1
