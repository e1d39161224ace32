"""Readiness: no answer comes from a half-indexed workspace. Questions in random order, cold and warm, on one tree."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from lsp.host import Options
from lsp.session import Session
from lsp.verbs import call

SERVERS = ("basedpyright", "jedi-language-server", "pyrefly", "ty")
MODULES = 12
"""Modules of the workspace, each using the one before it."""
MODULE = """from pkg.m{before} import Thing{before}, make{before}


class Thing{n}(Thing{before}):
    def grow(self, by: int) -> int:
        return by + {n}


def make{n}() -> Thing{n}:
    thing = Thing{n}()
    thing.grow(make{before}().grow({n}))
    return thing


wrong{n}: str = make{n}().grow({n})
"""
FIRST = """class Thing0:
    def grow(self, by: int) -> int:
        return by


def make0() -> Thing0:
    return Thing0()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "pkg"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "m0.py").write_text(FIRST)
    for n in range(1, MODULES):
        (folder / f"m{n}.py").write_text(MODULE.format(n=n, before=n - 1))
    return folder.parent


def questions() -> list[tuple[str, dict[str, Any]]]:
    made: list[tuple[str, dict[str, Any]]] = []
    for n in range(1, MODULES, 2):
        made += [(verb, {"selector": f"py://pkg.m{n}#make{n}"}) for verb in ("def", "refs", "hover")]
        made += [("refs", {"selector": f"py://pkg.m{n}#Thing{n}.grow"}), ("symbols", {"path": f"pkg/m{n}.py"})]
        made += [("diag", {"paths": [f"pkg/m{n}.py"]}), ("rename", {"selector": f"py://pkg.m{n}#make{n}", "name": "x"})]
    return made


async def answers(root: Path, server: str, order: list[int]) -> list[str]:
    asked = questions()
    async with Session(root, server, Options(timeout=120)) as session:
        return [(await call(session, *asked[index]))["bundleId"] for index in order]


async def play(root: Path, server: str, count: int, colds: int) -> None:
    dice = random.Random(server)
    size = len(questions())
    order = [dice.randrange(size) for _ in range(count)]
    known: dict[int, set[str]] = {}
    for index, found in zip(order, await answers(root, server, order), strict=True):
        known.setdefault(index, set()).add(found)
    for index in dice.sample(sorted(known), min(colds, len(known))):
        known[index].add((await answers(root, server, [index]))[0])
    asked = questions()
    assert {str(asked[index]): ids for index, ids in known.items() if len(ids) > 1} == {}


def test_two_hundred_questions_have_one_answer_each_cold_or_warm(project: Path) -> None:
    asyncio.run(play(project, "ty", 200, 10))


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_every_question_has_one_answer_cold_or_warm(project: Path, server: str) -> None:
    asyncio.run(play(project, server, 200, 42))
