"""No answer is stale: random edits by five hands, each followed at once by diag (of the file, or of one that uses it),
def or rename.

Judged against what the text says, and against a new server process on the same tree. ``SOAK_EDITS`` and ``SOAK_SEED``
set how many edits the slow test makes, and which: the whole may be run in parts.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
WALK, MAYBE = "def walk(dog: Dog) -> str:", "def walk(dog: Dog) -> str | None:"
VERBS = ("diag", "diag of a user", "def", "rename")
IDENTITY = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
SERVERS = ("basedpyright", "jedi-language-server", "pyrefly", "ty")
JUDGED = {"ty": 20, "pyrefly": 50, "jedi-language-server": 50, "basedpyright": 100}
"""A new process is asked after every so many edits: as many as it is quick."""

PATIENCE = 120.0
"""Seconds for one request: a hang is not what is slow on a machine with other work."""

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


class Version(NamedTuple):
    """A text of ``pkg/a.py``, and the lines that have errors because of it."""

    text: str
    here: list[int]
    """In ``pkg/a.py``."""
    there: list[int]
    """In ``pkg/b.py``, which uses it."""


def version(dice: random.Random, server: str) -> Version:
    """A text in which everything lies at another place, with other errors here and in the file that uses it."""
    head = "\n" * dice.randrange(5)
    if server == "jedi-language-server":
        broken = dice.random() < 0.5
        here = [head.count("\n") + A.count("\n") + 1]
        return Version(f"{head}{A}\ndef broken(:\n", here, []) if broken else Version(head + A, [], [])
    errors = [f"e{number}: int = 'x'\n" for number in range(dice.randrange(4))]
    body, there = dice.choice(((A, []), (A.replace(WALK, MAYBE), [2])))
    return Version(head + "".join(errors) + body, list(range(len(head), len(head) + len(errors))), there)


async def asked(session: Session, verb: str) -> dict[str, Any]:
    if verb == "rename":
        return await rename(session, "py://pkg.a#walk", "stroll")
    if verb == "def":
        return await run_verb(session, "def", {"selector": "pkg/b.py@L3:C14"})
    return await run_verb(session, "diag", {"paths": ["pkg/a.py" if verb == "diag" else "pkg/b.py"]})


def judge(verb: str, bundle: dict[str, Any], now: Version) -> None:
    """``bundle`` against the text that was there when it was asked for."""
    assert bundle["status"] == "ok", bundle["error"]
    text = now.text
    defined = next(number for number, line in enumerate(text.split("\n")) if line in (WALK, MAYBE))
    if verb in ("diag", "diag of a user"):
        found = bundle["facts"]["diagnostics"]
        wanted = now.here if verb == "diag" else now.there
        assert [item["range"][0] for item in found if item["severity"] == "error"] == wanted
    elif verb == "def":
        assert [item["range"][:2] for item in bundle["facts"]["definitions"]] == [[defined, 4]]
    else:
        files = (("pkg/a.py", text), ("pkg/b.py", B))
        diffs = [file_diff(path, old.encode(), old.replace("walk", "stroll").encode()) for path, old in files]
        assert bundle["edits"]["diff"] == "".join(diffs)


async def play(root: Path, server: str, edits: int, seed: str = "") -> None:
    dice = random.Random(f"{server} {seed or edits}")
    async with Session(root, server, Options(timeout=PATIENCE)) as session:
        known = hands(session)
        for number in range(edits):
            now = version(dice, server)
            # jedi knows syntax errors alone: another file never has any.
            verbs = [verb for verb in VERBS if server != "jedi-language-server" or verb != "diag of a user"]
            hand, verb = dice.choice(sorted(known)), dice.choice(verbs)
            known[hand](now.text)
            if verb == "rename" and now.here and server == "jedi-language-server":
                verb = "diag"
            bundle = await asked(session, verb)
            try:
                judge(verb, bundle, now)
                if number % JUDGED[server] == 0:
                    async with Session(root, server, Options(timeout=PATIENCE)) as other:
                        assert (await asked(other, verb))["factsId"] == bundle["factsId"]
            except AssertionError as error:
                raise AssertionError(f"stale after edit {number} by {hand}, asked by {verb}: {error}") from error
            if verb == "rename" and number % 2:
                await applied(session, now.text)


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
    count, seed = os.environ.get("SOAK_EDITS", "1000"), os.environ.get("SOAK_SEED", "")
    asyncio.run(play(project, server, int(count), seed))
