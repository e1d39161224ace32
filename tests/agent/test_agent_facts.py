"""Facts of a turn: the tree, whether it is new, what is missing."""

from __future__ import annotations

import asyncio

from agent_stage import Stage, play, says

from agent.trajectory import Outcome
from sandbox.protocol import tree_hash


def test_a_tree_that_was_seen_before_is_a_change_but_no_attempt(stage: Stage) -> None:
    create = '```edit\n{"command": "create", "path": "new.txt", "file_text": "x"}\n```'
    undo = '```edit\n{"command": "undo_edit", "path": "new.txt"}\n```'
    trajectory = asyncio.run(play(stage, says(create, undo, create, "```submit\n```")))
    facts = [turn.facts for turn in trajectory.turns]
    assert [f.changed for f in facts] == [True, True, True, False]
    assert [f.attempt for f in facts] == [True, False, False, False]
    assert facts[0].tree == facts[2].tree == facts[3].tree and facts[1].tree == trajectory.base_tree
    assert "new.txt" in trajectory.patch


def test_the_tree_hash_is_that_of_the_manifest(stage: Stage) -> None:
    from sandbox.grading.tree import manifest, read_tree

    trajectory = asyncio.run(stage.play("quitter"))
    assert trajectory.base_tree == tree_hash(manifest(read_tree(stage.prepared.base)))


def test_diagnostics_that_no_server_gives_are_missing_and_not_zero(stage: Stage) -> None:
    trajectory = asyncio.run(stage.play("gold", diagnostics=True))
    assert trajectory.base_diagnostics is None
    assert [turn.facts.diagnostics for turn in trajectory.turns] == [None, None]
    assert trajectory.outcome is Outcome.TESTS_PASS
