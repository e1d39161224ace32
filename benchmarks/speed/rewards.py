"""What credit costs: scoring a large group, replaying a stored run, and the share of a training step.

Groups and runs are generated. Times are CPU seconds of this process, so that a busy neighbour matters less; memory is
what the process holds. ``python -m benchmarks.speed.rewards --stored 100000`` replays a run of that size.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import mean

from agent.store import Store
from agent.trajectory import End, Facts, Key, Trajectory, Turn
from benchmarks.speed.measure import Clock, Measured, Unmeasured
from rewards.config import RewardConfig
from rewards.critics.tests import TestVector
from rewards.recipe import Recipe
from rewards.replay import Side, by_step
from rewards.turns import TurnChannel
from sandbox.task import Status, Verdict

GATED = RewardConfig(name="verpo_gated", turns=(TurnChannel(source=TestVector(), gated=True, beta=0.5),))
"""As configs/rewards/verpo_gated.toml."""
CONFIGS = Path(__file__).parents[2] / "configs"
ONE_STEP = (
    *("--train.steps", "1", "--train.prompts", "2", "--train.group", "8", "--train.wave", "16"),
    *("--sft.examples", "0", "--eval.stages", "[]", "--tasks.max_train", "20", "--agent.max_tokens", "160"),
)
"""One step of 16 episodes on real tasks, with neither warm start nor evaluation."""
GROUP = 8
PAGE = os.sysconf("SC_PAGE_SIZE")


def measure(runs: int, stored: int = 4000) -> Iterator[Measured]:
    """All figures; ``stored``: trajectories of the generated run."""
    yield large_group(runs)
    yield from replayed(stored)
    found = share(Path("runs"))
    try:
        yield found if found.runs else share_of_one_step()
    except Unmeasured as error:
        yield Measured(found.name, found.unit, note=str(error))


def large_group(runs: int) -> Measured:
    """One group of 16 trajectories x 50 attempts x 500 tests."""
    group, recipe = [trajectory(sample, turns=50, tests=500, tokens=1) for sample in range(16)], Recipe(GATED)
    recipe.score(group)
    times: list[float] = []
    for _ in range(4 * runs):
        began = Clock.now()
        recipe.score(group)
        times.append(began.since().cpu * 1e3)
    return Measured("score a group of 16 x 50 x 500 under verpo_gated", "ms", tuple(times), "CPU")


def replayed(count: int) -> Iterator[Measured]:
    """A generated run of trajectories with 10 turns, 2,000 tokens and 50 tests, from its file to credit and audit, as
    ``dojo replay`` goes through it."""
    recipe, rates, held = Recipe(GATED), list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="repodojo-speed-") as folder:
        path = Path(folder) / "trajectories.jsonl"
        write(path, count)
        size, slice_ = path.stat().st_size, max(GROUP, count // 10)
        began, done, told = Clock.now(), 0, 0
        side = Side(recipe.config.name)
        for step in by_step(Store(path).groups()):
            side.add(step, [recipe.score(group) for group in step])
            done += sum(map(len, step))
            if done - told >= slice_ or done == count:
                rates.append((done - told) / began.since().cpu)
                gc.collect()
                held.append(_held())
                began, told = Clock.now(), done
    note = f"{count} trajectories, {size / 1e9:.2g} GB, ten parts, one core, CPU"
    yield Measured("replay of a stored run under verpo_gated", "trajectories/s", tuple(rates), note)
    yield Measured("memory that a replay gains from its first tenth to its end", "MB", (held[-1] - held[0],), note)


def share(runs: Path) -> Measured:
    """The reward stage's share of a training step, from the newest run that recorded it."""
    name = "reward stage's share of a training step"
    for path in sorted(runs.glob("*/metrics.jsonl"), key=lambda one: one.stat().st_mtime, reverse=True):
        timings = [json.loads(line).get("timing", {}) for line in path.read_text().splitlines()]
        if found := [timing["reward_share"] * 100 for timing in timings if "reward_share" in timing]:
            return Measured(name, "%", tuple(found), f"{path.parent.name}, mean {mean(found):.4f} %")
    return Measured(name, "%", note=f"no run under {runs}/ recorded it")


def share_of_one_step() -> Measured:
    """The same of a step that is trained for it: :data:`ONE_STEP`, about a minute. Raises :class:`Unmeasured`."""
    with tempfile.TemporaryDirectory(prefix="repodojo-speed-") as folder:
        config = [str(CONFIGS / "quickstart.toml"), "--rewards", str(CONFIGS / "rewards" / "verpo_gated.toml")]
        command = [sys.executable, "-m", "dojo", "train", *config, *ONE_STEP, "--out", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Unmeasured(done.stderr.strip().rpartition("\n")[2])
        return share(Path(folder))


def write(path: Path, count: int) -> None:
    """A run of groups of :data:`GROUP`, its records made from a few templates."""
    templates = [trajectory(sample, turns=10, tests=50, tokens=2000).model_dump_json() for sample in range(GROUP)]
    with path.open("w") as file:
        for index in range(count):
            prompt, sample = divmod(index, GROUP)
            body = templates[sample].replace('"step":0,"prompt":0', f'"step":{prompt // 6},"prompt":{prompt}', 1)
            digest = hashlib.sha256(body.encode()).hexdigest()
            file.write(f'{body.removesuffix('""}')}"sha256:{digest}"}}\n')


def trajectory(sample: int, *, turns: int, tests: int, tokens: int) -> Trajectory:
    """An episode in which every turn is an attempt; ``tokens`` are spread over the turns, half of them sampled."""
    rng = random.Random(sample)
    return Trajectory(
        task="speed",
        key=Key(seed=0, step=0, prompt=0, sample=sample),
        policy="none",
        turns=tuple(_turn(rng, f"{sample}-{turn}", tests, max(1, tokens // turns // 2)) for turn in range(turns)),
        end=End.SUBMITTED,
        tests=_names(tests),
        patch="some",
        verdict=Verdict(status=Status.FAILED),
    )


@cache
def _names(tests: int) -> tuple[str, ...]:
    """One object for all episodes of a task, as in a run."""
    return tuple(f"tests/test_{j % 20}.py::test_{j}" for j in range(tests))


def _turn(rng: random.Random, tree: str, tests: int, tokens: int) -> Turn:
    grades = "".join("01"[rng.random() < (j + 1) / (tests + 1)] for j in range(tests))
    return Turn(
        prompt=tuple(rng.randrange(49152) for _ in range(tokens)),
        sampled=tuple(rng.randrange(49152) for _ in range(tokens)),
        logprobs=tuple(-rng.random() for _ in range(tokens)),
        text="x" * tokens,
        facts=Facts(format_ok=True, tool_ok=True, tree=tree, changed=True, attempt=True, tests=grades),
    )


def _held() -> float:
    """Resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.rewards", description=__doc__)
    parser.add_argument("--stored", type=int, default=4000, help="trajectories of the generated run")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    began = time.perf_counter()
    for measured in measure(options.runs, options.stored):
        print(measured.line(), flush=True)
    print(f"took {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
