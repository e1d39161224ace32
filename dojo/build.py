"""From a config to the objects of a run. Nothing is loaded before it is needed: the model last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agent.config import AgentConfig
from agent.store import SideFiles
from dojo.config import Config, TasksConfig, load
from dojo.errors import UserError
from rewards.facts import Suite
from rewards.recipe import Recipe
from sandbox.choose import choose
from sandbox.config import SandboxConfig
from sandbox.grading import GradeCache
from sandbox.protocol import Backend, Limits
from sandbox.task import Prepared, Task, TaskSource, Verdict
from trainers.components import Components, Machine, WarmStart
from trainers.engine_config import TransformersConfig, VllmConfig
from trainers.rollout import lessons as feedback
from trainers.rollout.player import EpisodePlayer, player

Say = Callable[[str], None]


def resumed(run: Path, config: Path | None, overrides: Sequence[str]) -> tuple[Config, Path]:
    """The config of a run that goes on, and its folder.

    A config or an override given with ``--resume`` is honoured in full, so that the loop can refuse one that differs.
    """
    stored = run / "config.toml"
    if not stored.is_file():
        raise UserError(f"{run} is no run folder (it holds no config.toml); 'ls {run.parent}' shows what there is")
    return load(config or stored, overrides), run


def load_rows(config: TasksConfig) -> tuple[list[Task], list[Task]]:
    """Training and held-out tasks, in the order of the file."""
    from benchmarks.rows import load_tasks

    rows = load_tasks(config.rows)
    if config.level != "all":
        rows = [task for task in rows if task.level == config.level]
    train = [task for task in rows if task.split == "train"][: config.max_train]
    heldout = [task for task in rows if task.split == "heldout"][: config.max_heldout]
    return train, heldout


def source(backend: str = "local", repos: Path | None = None) -> TaskSource:
    """Builds the folders of any task that a row names, for sandboxes of one kind; ``repos`` holds clones."""
    from benchmarks.everything import Everything

    return Everything(backend, repos)


def backend(config: SandboxConfig, say: Say) -> Backend:
    """The sandbox backend, its reason said aloud."""
    chosen, reason = choose(config)
    say(f"sandbox: {reason}")
    return chosen


class CachedGrader:
    """Grades on a backend; an equal tree is graded once in a run."""

    def __init__(self, where: Backend, limits: Limits) -> None:
        self._where, self._limits, self._cache = where, limits, GradeCache()

    async def __call__(self, prepared: Prepared, patch: str) -> Verdict:
        return await self._cache.grade(prepared, patch, self._where, limits=self._limits)


def episode_player(config: Config, say: Say, side: Path | None = None) -> EpisodePlayer:
    """What plays and grades episodes under a config."""
    where = backend(config.sandbox, say)
    agent = settled(config)
    if agent.shadow == "on":
        say("shadow grading: the hidden tests run on every attempt of an episode, unseen by the policy")
    return player(
        agent,
        where,
        source(where.name, Path(config.tasks.repos) if config.tasks.repos else None),
        CachedGrader(where, config.sandbox.limits),
        starts=config.train.starts,
        graders=config.train.graders,
        limits=config.sandbox.limits,
        network=config.sandbox.network,
        side=SideFiles(side) if side else None,
    )


def settled(config: Config) -> AgentConfig:
    """The agent's settings with ``shadow = "auto"`` decided: on where the recipe needs the tests of each attempt."""
    if config.agent.shadow != "auto":
        return config.agent
    return config.agent.model_copy(update={"shadow": "on" if "tests" in config.rewards.needs else "off"})


def recipe(config: Config, tasks: Sequence[Task]) -> Recipe:
    """The reward recipe, told which tests are which. Refuses one that needs facts which the run does not record, or
    that knows fewer turns than an episode can have."""
    suites = {task.instance_id: Suite(task.FAIL_TO_PASS, task.PASS_TO_PASS) for task in tasks}
    made, agent = Recipe(config.rewards, suites), settled(config)
    recorded = {"diagnostics": agent.diagnostics, "tests": agent.shadow == "on"}
    made.require({fact for fact, known in recorded.items() if known}, agent.max_turns)
    return made


def components(config: Config, say: Say, run: Path) -> Components:
    """The parts of a training run. The model is loaded, and the demonstrations are played, when the loop asks."""
    train, heldout = load_rows(config.tasks)
    return Components(
        train=train,
        heldout=heldout,
        player=episode_player(config, say, run / "bundles"),
        scorer=recipe(config, [*train, *heldout]),
        machine=lambda: machine(config, run / "vllm.log"),
        warm_start=(lambda: warm_start(config, train)) if config.sft.examples else None,
        lessons=feedback.lessons if config.loss.distill else None,
    )


def check_format(config: Config) -> None:
    """Refuse an action format that the model's tokens cannot carry; reads the tokenizer alone. Raises
    :class:`UserError`.
    """
    from agent import tools
    from agent.formats import make
    from agent.formats.carry import check
    from trainers.sampler import chat

    loaded = tools.load(config.agent.tools)
    try:
        check(make(config.agent.format, loaded), loaded, chat(config.model).tokenizer)
    except ValueError as error:
        raise UserError(str(error)) from None


def machine(config: Config, log: Path | None = None) -> Machine:
    """What samples and what learns: on the same weights here, or with a server that writes to ``log``; or what samples
    alone."""
    check_format(config)
    if isinstance(config.engine, VllmConfig):
        return _served(config, config.engine, log)
    if not isinstance(config.engine, TransformersConfig):
        from trainers.sampler import sampler

        return sampler(config.engine, config.model)
    from trainers.machine import local_machine

    return local_machine(
        config.model,
        config.optim,
        config.loss,
        config.sft,
        seed=config.seed,
        temperature=config.train.temperature,
        scale=config.scale,
    )


def _served(config: Config, engine: VllmConfig, log: Path | None) -> Machine:
    from trainers.served import served_machine

    return served_machine(
        engine,
        config.model,
        config.optim,
        config.loss,
        config.sft,
        seed=config.seed,
        temperature=config.train.temperature,
        scale=config.scale,
        log=log,
    )


def warm_start(config: Config, train: Sequence[Task]) -> WarmStart:
    """Scripted gold episodes over the model's tokenizer: the training tasks, then further faults in their packages."""
    from agent.demonstrate import demonstrate
    from benchmarks.lessons import lessons
    from trainers.learning.sft import Demonstrations, demonstration
    from trainers.sampler import chat

    # In a thread of its own: the event loop that asks for the demonstrations is running.
    with lessons(train, source(), config.seed, config.sft.examples) as shown, ThreadPoolExecutor(1) as thread:
        work = demonstrate(shown, config.agent, chat(config.model), config.seed)
        played = thread.submit(asyncio.run, work).result()
    return Demonstrations([demonstration(one) for one in played], config.sft, config.seed)
