"""What each verb does, in terms of the floors below. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import asyncio
import json
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.store import Store
from agent.trajectory import Trajectory
from dojo import build, scale
from dojo.config import Config, explain
from dojo.errors import UserError
from dojo.rollout import Rollout
from dojo.tell import say
from rewards.config import RewardConfig
from rewards.recipe import Recipe
from sandbox.task import Task
from trainers.record import tally

RUN_FILES = ("trajectories.jsonl", "evals-before.jsonl", "evals-warm.jsonl", "evals-after.jsonl")


def train(config: Config, resume: Path | None, out: Path, name: str) -> None:
    """Start or continue a run; ends by saying where the report is."""
    from trainers.engines.pairs import check_training
    from trainers.learning.learners import check as check_scale
    from trainers.learning.ranks import rank, release
    from trainers.loop import Settings
    from trainers.loop import train as run_loop
    from trainers.model.load import check

    check(config.model)
    check_training(config.engine, config.model, config.optim, config.loss, config.train, config.scale)
    check_scale(config.scale)
    if rank():
        return scale.serve(config)
    run = resume or out / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    settings = Settings(config.seed, config.train, config.eval, config.to_toml())
    run_loop(build.components(config, say, run), settings, run, resume=resume is not None)
    release()


# -- episodes without training


def rollout(
    config: Config,
    policy: str,
    names: Sequence[str],
    split: str,
    limit: int,
    samples: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Play, grade and print episodes."""
    rows = [task for part in build.load_rows(config.tasks) for task in part]
    tasks = _named(rows, names) if names else [task for task in rows if task.split == split][:limit]
    played = Rollout(config, policy, tasks, samples, out, _line if not as_json else _json_line).play()
    if not as_json:
        say(_rates(played))


def evaluate(config: Config, policy: str, out: Path | None, as_json: bool) -> None:
    """Play the held-out tasks and print the four rates with their intervals."""
    _, heldout = build.load_rows(config.tasks)
    played = Rollout(config, policy, heldout, config.eval.samples, out).play()
    estimates = tally.estimates(played)
    if as_json:
        infra = tally.shares(tally.counts(played)).get("infra", 0.0)
        rates = {name: estimate.model_dump() for name, estimate in estimates.items()}
        print(json.dumps({"policy": policy, "episodes": len(played), "infra_rate": infra, "rates": rates}))
    else:
        for name, estimate in estimates.items():
            print(f"{name:12} {estimate}")


def _named(rows: Sequence[Task], names: Sequence[str]) -> list[Task]:
    import difflib

    by_name = {task.instance_id: task for task in rows}
    for name in names:
        if name not in by_name:
            close = difflib.get_close_matches(name, by_name, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "'dojo tasks list' shows what there is"
            raise UserError(f"there is no task '{name}'; {hint}")
    return [by_name[name] for name in names]


def _line(trajectory: Trajectory) -> None:
    detail = f"  {trajectory.detail}" if trajectory.detail else ""
    print(f"{trajectory.key!s:14} {trajectory.outcome:12} {len(trajectory.turns)} turns  {trajectory.task}{detail}")


def _json_line(trajectory: Trajectory) -> None:
    print(trajectory.model_dump_json())


def _rates(played: Sequence[Trajectory]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in tally.shares(tally.counts(played)).items())


# -- stored trajectories


def run_files(run: Path) -> list[Path]:
    """The trajectory files of a run folder, or the one file."""
    paths = [run / name for name in RUN_FILES if (run / name).is_file()] if run.is_dir() else [run]
    if not paths or not all(path.is_file() for path in paths):
        raise UserError(f"{run} holds no trajectories: give a run folder or a JSONL file of trajectories")
    return paths


def stored(run: Path) -> list[Trajectory]:
    """Trajectories of a run folder or of one file."""
    return [trajectory for path in run_files(run) for trajectory in Store(path).read()]


def reward_config(path: Path) -> RewardConfig:
    """A reward config from its own TOML file."""
    try:
        return RewardConfig.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(f"there is no reward config {path}; the shipped ones are under configs/rewards/") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, RewardConfig)}") from None


def view(run: Path, key: str | None, limit: int) -> None:
    """List trajectories, or show one turn by turn."""
    from agent.view import show

    found = stored(run)
    if key is None:
        for trajectory in found[:limit]:
            _line(trajectory)
        if len(found) > limit:
            say(f"{len(found) - limit} more; --limit shows them")
        return
    chosen = [t for t in found if key in (str(t.key), t.task)]
    if not chosen:
        raise UserError(f"{run} holds no trajectory '{key}'; 'dojo view {run}' lists them")
    for trajectory in chosen:
        show(trajectory)


# -- tasks


def tasks_list(rows: str, split: str | None, level: str | None, as_json: bool) -> None:
    """Print tasks, one a line."""
    from benchmarks.rows import load_tasks

    for task in load_tasks(rows):
        if (split and task.split != split) or (level and task.level != level):
            continue
        if as_json:
            print(task.model_dump_json(exclude_none=True))
        else:
            print(f"{task.instance_id:48} {task.split or '-':8} {task.level or '-':9} {task.origin or task.repo}")


def tasks_validate(
    rows: str,
    names: Sequence[str],
    limit: int | None,
    backend: str,
    repos: Path | None,
    as_json: bool,
    unsafe_local: bool,
) -> int:
    """Grade gold and empty patch of each task; 1 when a task does not hold."""
    from benchmarks.rows import load_tasks
    from benchmarks.validate import validate
    from sandbox.config import SandboxConfig

    tasks = load_tasks(rows)
    tasks = _named(tasks, names) if names else tasks[:limit]
    where = build.backend(SandboxConfig.model_validate({"backend": backend, "unsafe_local": unsafe_local}), say)

    async def run() -> int:
        bad = 0
        try:
            async for result in validate(tasks, build.source(where.name, repos), where):
                bad += not (result["gold"] == 1 and result["empty"] == 0)
                print(json.dumps(result) if as_json else _validated(result), flush=True)
        finally:
            await where.close()
        return bad

    bad = asyncio.run(run())
    say(f"{len(tasks) - bad} of {len(tasks)} tasks hold: gold grades 1, the empty patch 0")
    return int(bad > 0)


def _validated(result: dict[str, Any]) -> str:
    mark = "ok " if result["gold"] == 1 and result["empty"] == 0 else "BAD"
    return f"{mark} {result['instance_id']:48} gold {result['gold']} empty {result['empty']} {result.get('detail', '')}"


def tasks_make(out: Path, packages: Sequence[str]) -> None:
    """Make tasks from the pinned packages."""
    from benchmarks.make import make

    make(out, packages, say)


# -- by hand


def score(matrix: Path, rewards: Path, as_json: bool) -> None:
    """Score a group given as plain data."""
    from rewards.matrix import Matrix, score_matrix

    try:
        data = json.loads(matrix.read_text())
    except FileNotFoundError:
        raise UserError(f"there is no file {matrix}") from None
    except ValueError as error:
        raise UserError(f"{matrix} is not valid JSON: {error}") from None
    try:
        result = score_matrix(data, Recipe(reward_config(rewards)))
    except ValidationError as error:
        raise UserError(f"{matrix}: {explain(error, Matrix)}") from None
    print(json.dumps(result.data) if as_json else result.text)


def images_list(as_json: bool) -> None:
    """Print the images that sandboxes can use."""
    from sandbox.images import list_images

    for image in list_images():
        print(image.model_dump_json() if as_json else f"{image.name}{'' if image.current else '  (an older recipe)'}")
