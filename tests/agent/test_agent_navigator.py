"""The scripted policy that asks the language server before it plays the gold patch."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from agent_stage import FAULTY, Stage, key, make_prepared

from agent.doubles import ExactGrader
from agent.navigator import LOOKS, check, local_variable, route
from agent.scripted import reader, scripted
from agent.trajectory import Action, Outcome, Trajectory
from sandbox.local import LocalBackend
from sandbox.task import Prepared, TaskError

TOTAL = "\n\ndef total(xs):\n    done = 0\n    for x in xs:\n        done += x\n    return done\n"
TOOLS = ("lsp", "edit", "submit")


def with_a_local(folder: Path) -> Prepared:
    prepared = make_prepared(folder)
    (prepared.base / "pack/core.py").write_text(FAULTY + TOTAL)
    return prepared


def ways(prepared: Prepared, tries: int = 40) -> list[list[Action]]:
    return [route(prepared.task, reader(prepared.base), random.Random(i)) for i in range(tries)]


def test_it_asks_renames_and_leaves_the_gold_tree(tmp_path: Path) -> None:
    prepared = with_a_local(tmp_path)

    async def work() -> list[Trajectory]:
        backend = LocalBackend(unsafe=True)
        scaffold = Stage(prepared, backend, ExactGrader()).scaffold(tools=TOOLS, max_turns=8, diagnostics=True)
        policy = scripted("navigator", prepared, scaffold.config)
        try:
            return [await scaffold.play_with_retries(prepared.task, policy, key(i)) for i in range(3)]
        finally:
            await scaffold.close()

    played = asyncio.run(work())
    assert {t.outcome for t in played} == {Outcome.TESTS_PASS}
    turns = [(turn.action, turn.facts) for t in played for turn in t.turns if turn.action and turn.action.tool == "lsp"]
    assert all(facts.tool_ok and facts.bundle for _, facts in turns)
    assert all(facts.confidence == 1.0 for action, facts in turns if action.args["verb"] != "diag")
    renames = [(action, facts) for action, facts in turns if action.args["verb"] == "rename"]
    written = [facts for action, facts in renames if action.args.get("apply")]
    assert all(facts.safe for _, facts in renames) and len(written) not in (0, len(renames))
    assert all(facts.changed and facts.diagnostics == 0 for facts in written)
    assert [facts.attempt for facts in written] == [True, False] * (len(written) // 2)
    assert {facts.tree for facts in written[1::2]} == {played[0].base_tree}


def test_its_questions_are_drawn_by_the_key_and_name_what_the_task_names(tmp_path: Path) -> None:
    found = ways(with_a_local(tmp_path))
    assert {action.args["verb"] for way in found for action in way} == {*LOOKS, "rename"}
    assert len({str(way) for way in found}) > 10 and found == ways(with_a_local(tmp_path / "again"))
    selectors = {action.args["selector"] for way in found for action in way if "selector" in action.args}
    assert selectors == {"py://pack.core#clamp", "pack/core.py@L19:C5"}


def test_a_method_of_pythons_own_has_its_class_renamed(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, focus="pack/core.py::Counter.__init__")
    renamed = {way[-1].args["selector"] for way in ways(prepared)}
    assert renamed == {"py://pack.core#Counter"}, "and nothing is written where no function has a local variable"


def test_it_runs_the_tests_that_the_tree_shows_where_that_tool_is_on_offer(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path)
    assert check(prepared.task, reader(prepared.base)) == [], "its only test file is hidden"
    (prepared.base / "tests").mkdir()
    (prepared.base / "tests/test_core.py").write_text("def test_seen():\n    pass\n")
    shown = Action(tool="test", args={"select": "tests/test_core.py"})
    assert check(prepared.task, reader(prepared.base)) == [shown]
    stage = Stage(prepared, LocalBackend(unsafe=True), ExactGrader())
    for tools, runs in ((TOOLS, 0), (("test", *TOOLS), 1)):
        policy = scripted("navigator", prepared, stage.scaffold(tools=tools).config)
        assert [policy.script(key(), turn) for turn in range(9)].count("```test\ntests/test_core.py\n```") == runs


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("def f(a):\n    a = 1\n    b = a\n", (3, 5, "b")),
        ("def g():\n    b = 1\n\ndef f():\n    é = 2; c = 3\n", (5, 5, "é")),
        ("def f():\n    global g\n    g = 1\n    'é'; h = 2\n", (4, 10, "h")),
        ("def f(a): return a\nasync def g():\n    for i in ():\n        pass\n", (3, 9, "i")),
        ("def f(a): return a\n", None),
        ("def f(:\n", None),
        ("x = 1\n", None),
    ],
)
def test_a_local_variable_is_found_where_it_is_first_set(text: str, place: tuple[int, int, str] | None) -> None:
    assert local_variable(text, "f") == place


def test_what_it_cannot_play_is_refused_with_the_way_out(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path)
    with pytest.raises(TaskError, match=r"'lsp'; add it to agent\.tools"):
        scripted("navigator", prepared)
    config = Stage(prepared, LocalBackend(unsafe=True), ExactGrader()).scaffold(tools=TOOLS).config
    nameless = prepared.model_copy(update={"task": prepared.task.model_copy(update={"focus": None})})
    with pytest.raises(TaskError, match="give its row a focus"):
        scripted("navigator", nameless, config)
