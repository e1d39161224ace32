"""How fast rewards are: numbers for ``make bench``, measured on groups made here, in CPU time of this process (one
core).

* ``score_ms``: one group of 16 trajectories x 50 attempts x 500 tests under VeRPO behind the gate (best of several);
* ``packing_ms``: of that, reading the stored test vectors into bytes;
* ``replay_per_s``: stored trajectories (10 turns, 2,000 tokens, 50 tests), from JSON lines to credit, on one core.

``python -m rewards.speed`` prints them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from agent.trajectory import End, Facts, Key, Trajectory, Turn
from rewards.config import RewardConfig
from rewards.critics.tests import TestVector
from rewards.facts import read
from rewards.recipe import Recipe
from rewards.turns import TurnChannel
from sandbox.task import Status, Verdict

GATED = RewardConfig(name="verpo_gated", turns=(TurnChannel(source=TestVector(), gated=True, beta=0.5),))


def measure(seconds: float = 2.0) -> dict[str, float]:
    """The numbers; takes about twice ``seconds``."""
    recipe = Recipe(GATED)
    large = [trajectory(sample, turns=50, tests=500, tokens=1) for sample in range(16)]
    packed = min(_timed(lambda: read(large).grades) for _ in range(max(3, int(seconds * 5))))
    best = min(_timed(lambda: recipe.score(large)) for _ in range(max(3, int(seconds * 10))))
    lines = [trajectory(sample, turns=10, tests=50, tokens=2000).model_dump_json() for sample in range(8)]
    done, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        recipe.score([Trajectory.model_validate_json(line) for line in lines])
        done += len(lines)
    return {"score_ms": best * 1e3, "packing_ms": packed * 1e3, "replay_per_s": done / (time.process_time() - start)}


def trajectory(sample: int, *, turns: int, tests: int, tokens: int) -> Trajectory:
    """An episode in which every turn is an attempt; ``tokens`` are spread over the turns, half of them sampled."""
    rng = random.Random(sample)
    return Trajectory(
        task="speed",
        key=Key(seed=0, step=0, prompt=0, sample=sample),
        policy="none",
        turns=tuple(_turn(rng, f"{sample}-{turn}", tests, max(1, tokens // turns // 2)) for turn in range(turns)),
        end=End.SUBMITTED,
        tests=tuple(f"tests/test_{j % 20}.py::test_{j}" for j in range(tests)),
        patch="some",
        verdict=Verdict(status=Status.FAILED),
    )


def _turn(rng: random.Random, tree: str, tests: int, tokens: int) -> Turn:
    grades = "".join(str(int(rng.random() < (j + 1) / (tests + 1))) for j in range(tests))
    return Turn(
        prompt=tuple(rng.randrange(49152) for _ in range(tokens)),
        sampled=tuple(rng.randrange(49152) for _ in range(tokens)),
        logprobs=tuple(-rng.random() for _ in range(tokens)),
        text="x" * tokens,
        facts=Facts(format_ok=True, tool_ok=True, tree=tree, changed=True, attempt=True, tests=grades),
    )


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    print("\n".join(f"{name} {value:.2f}" for name, value in measure().items()))
