"""``dojo replay``: stored groups scored again, and the audit of what was scored.

Every reward is a pure function of what was stored, so that a replay needs no model, docker or language server, and
gives the run's own numbers bit for bit. Groups are read and forgotten step by step: memory does not grow with the run.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agent.scored import Played
from agent.store import Store
from dojo import build
from dojo.config import Config, load
from dojo.errors import UserError
from dojo.verbs import reward_config, run_files
from rewards.credit import Credit
from rewards.facts import Suite
from rewards.recipe import Recipe
from rewards.replay import Side, by_step, compare


def replay(run: Path, rewards: Path | None, as_json: bool) -> None:
    """Score the stored groups of a run again: under its own rewards, or these beside them."""
    found = groups(run_files(run))
    own = load(run / "config.toml") if run.is_dir() and (run / "config.toml").is_file() else None
    known = suites(own)
    if rewards and own:
        result = compare(found, Recipe(own.rewards, known), Recipe(reward_config(rewards), known))
        print(json.dumps(result.data) if as_json else result.text)
        return
    config = reward_config(rewards) if rewards else own.rewards if own else None
    if config is None:
        raise UserError(f"{run} names no reward config of its own; give one with --rewards FILE.toml")
    score(found, Recipe(config, known), as_json)


def groups(paths: Sequence[Path]) -> Iterator[Sequence[Played]]:
    """The groups of each file in turn: equal keys of two evaluations are no group."""
    return itertools.chain.from_iterable(Store(path).groups() for path in paths)


def score(found: Iterator[Sequence[Played]], recipe: Recipe, as_json: bool) -> None:
    """Print each group under one recipe, then what the audit says of the training steps."""
    side = Side(recipe.config.name)
    for step in by_step(found):
        credits = [recipe.score(group) for group in step]
        side.add(step, credits)
        for group, credit in zip(step, credits, strict=True):
            print(_json(group, credit) if as_json else _text(group, credit))
    if as_json:
        print(json.dumps({"audit": {"steps": len(side.audit.steps), "warnings": side.audit.warnings()}}))
    else:
        print("\n".join(f"audit: {warning}" for warning in side.audit.warnings()) or "audit: nothing to report")


def _json(group: Sequence[Played], credit: Credit) -> str:
    first = group[0]
    head = {"step": first.key.step, "prompt": first.key.prompt, "task": first.task, "keys": [str(t.key) for t in group]}
    return json.dumps(head | credit.model_dump(mode="json"))


def _text(group: Sequence[Played], credit: Credit) -> str:
    first = group[0]
    mark = "  (degenerate)" if credit.degenerate else ""
    lines = [f"step {first.key.step} prompt {first.key.prompt} {first.task}{mark}"]
    for member, value, advantage in zip(group, credit.returns, credit.trajectory, strict=True):
        lines.append(f"  {member.key!s:14} {member.outcome:12} return {value:+.4f}  advantage {advantage:+.4f}")
    return "\n".join(lines)


def suites(config: Config | None) -> Mapping[str, Suite] | None:
    """Which tests of each task are which, from the rows that the run was made of."""
    if config is None:
        return None
    rows = itertools.chain(*build.load_rows(config.tasks))
    return {task.instance_id: Suite(task.FAIL_TO_PASS, task.PASS_TO_PASS) for task in rows}
