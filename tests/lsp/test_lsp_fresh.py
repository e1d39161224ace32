"""No answer is stale: random edits by five hands, each followed at once by diag, def or rename.

Judged against what the text says, and against a new server process on the same tree.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lsp.edits import Planner, file_diff
from lsp.host import Options
from lsp.mutations import Guard, rename
from lsp.positions import Text
from lsp.queries import run_verb
from lsp.session import Session
from lsp.transaction import Transaction

A = """class Dog:
    def bark(self) -> str:
        return 'é😀'


def walk(dog: Dog) -> str:
    return dog.bark()
"""
B = "from pkg.a import Dog, walk\n\nsound: str = walk(Dog())\n"
IDENTITY = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
SERVERS = ("basedpyright", "jedi-language-server", "pyrefly", "ty")
JUDGED = {"ty": 20, "pyrefly": 50, "jedi-language-server": 50, "basedpyright": 100}
"""A new process is asked after every so many edits: as many as it is quick."""

Hand = Callable[[str], None]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "pkg").mkdir(parents=True)
    for name, text in (("__init__", ""), ("a", A), ("b", B)):
        (root / f"pkg/{name}.py").write_text(text)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "x")
    return root


def git(root: Path, *args: str) -> None:
    subprocess.run(["git", *args], cwd=root, env={**os.environ, **IDENTITY}, check=True)


def hands(session: Session) -> dict[str, Hand]:
    """Ways to give ``pkg/a.py`` another text."""
    root = session.workspace.root
    path = root / "pkg/a.py"

    def ours(text: str) -> None:
        old = Text(path.read_text("utf-8"))
        line, column = old.position(len(old.text))
        whole = {"start": {"line": 0, "character": 0}, "end": {"line": line, "character": column}}
        change = {"changes": {session.workspace.uri("pkg/a.py"): [{"range": whole, "newText": text}]}}
        Transaction(session.workspace, Planner(session.workspace, "codepoint").plan(change)).apply()

    def plain(text: str) -> None:
        path.write_text(text, "utf-8")

    def sed(text: str) -> None:
        path.write_text(text.replace("dog.bark()", "dog.MEOW()"), "utf-8")
        subprocess.run(["sed", "-i", "s/MEOW/bark/", str(path)], check=True)

    def checkout(text: str) -> None:
        path.write_text(text, "utf-8")
        git(root, "commit", "-qam", "x", "--allow-empty")
        path.write_text("")
        git(root, "checkout", "-q", "--", "pkg/a.py")

    def recreate(text: str) -> None:
        path.unlink()
        path.write_text(text, "utf-8")

    return {hand.__name__: hand for hand in (ours, plain, sed, checkout, recreate)}


def version(dice: random.Random, server: str) -> tuple[str, list[int]]:
    """A text of ``pkg/a.py`` at another place, and the lines that have errors in it."""
    head = "\n" * dice.randrange(5)
    if server == "jedi-language-server":
        broken = dice.random() < 0.5
        return (f"{head}{A}\ndef broken(:\n", [head.count("\n") + A.count("\n") + 1]) if broken else (head + A, [])
    errors = [f"e{number}: int = 'x'\n" for number in range(dice.randrange(4))]
    first = len(head)
    return head + "".join(errors) + A, list(range(first, first + len(errors)))


async def asked(session: Session, verb: str) -> dict[str, Any]:
    if verb == "rename":
        return await rename(session, "py://pkg.a#walk", "stroll")
    return await run_verb(session, verb, {"selector": "pkg/b.py@L3:C14"} if verb == "def" else {"paths": ["pkg/a.py"]})


def judge(verb: str, bundle: dict[str, Any], text: str, errors: list[int]) -> None:
    """``bundle`` against the text that was there when it was asked for."""
    assert bundle["status"] == "ok", bundle["error"]
    lines = text.split("\n")
    defined = lines.index("def walk(dog: Dog) -> str:")
    if verb == "diag":
        found = bundle["facts"]["diagnostics"]
        assert [item["range"][0] for item in found if item["severity"] == "error"] == errors
    elif verb == "def":
        assert [item["range"][:2] for item in bundle["facts"]["definitions"]] == [[defined, 4]]
    else:
        files = (("pkg/a.py", text), ("pkg/b.py", B))
        diffs = [file_diff(path, old.encode(), old.replace("walk", "stroll").encode()) for path, old in files]
        assert bundle["edits"]["diff"] == "".join(diffs)


async def play(root: Path, server: str, edits: int) -> None:
    dice = random.Random(f"{server} {edits}")
    async with Session(root, server, Options(timeout=120)) as session:
        known = hands(session)
        for number in range(edits):
            text, errors = version(dice, server)
            hand, verb = dice.choice(sorted(known)), dice.choice(("diag", "def", "rename"))
            known[hand](text)
            if verb == "rename" and errors and server == "jedi-language-server":
                verb = "diag"
            bundle = await asked(session, verb)
            try:
                judge(verb, bundle, text, errors)
                if number % JUDGED[server] == 0:
                    async with Session(root, server, Options(timeout=120)) as other:
                        assert (await asked(other, verb))["factsId"] == bundle["factsId"]
            except AssertionError as error:
                raise AssertionError(f"stale after edit {number} by {hand}, asked by {verb}: {error}") from error
            if verb == "rename" and number % 2:
                await applied(session, text)


async def applied(session: Session, text: str) -> None:
    """A rename that is written lands where the names are; what it wrote in ``b.py`` is taken back by another hand."""
    done = await rename(session, "py://pkg.a#walk", "stroll", Guard(apply=True, allow_dirty=True))
    assert done["edits"]["applied"], done["error"]
    root = session.workspace.root
    assert (root / "pkg/a.py").read_text("utf-8") == text.replace("walk", "stroll")
    assert (root / "pkg/b.py").read_text("utf-8") == B.replace("walk", "stroll")
    (root / "pkg/b.py").write_text(B)


@pytest.mark.parametrize("server", SERVERS)
def test_no_answer_is_stale_after_a_hundred_edits(project: Path, server: str) -> None:
    asyncio.run(play(project, server, 100))


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_no_answer_is_stale_after_a_thousand_edits(project: Path, server: str) -> None:
    asyncio.run(play(project, server, 1000))
