"""Supervised learning from stored trajectories: rejection sampling, a warm start from somebody else's episodes.

What was sampled in the chosen episodes is imitated, token by token as it was sampled; what was observed is context. The
tokens must be those of the model that learns: nothing is tokenised again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from agent.trajectory import Outcome, Trajectory
from trainers.config import SftConfig
from trainers.errors import TrainingError
from trainers.learning.sft import Demonstrations, demonstration
from trainers.protocol import Learner


def choose(
    trajectories: Iterable[Trajectory], outcomes: Sequence[Outcome] = (Outcome.TESTS_PASS,), per_task: int = 4
) -> list[Trajectory]:
    """Episodes with one of the outcomes, the shortest ``per_task`` of each task, in the order of their keys."""
    wanted = sorted(
        (t for t in {t.digest or str(t.key): t for t in trajectories}.values() if t.outcome in outcomes and t.turns),
        key=lambda t: sum(len(turn.sampled) for turn in t.turns),
    )
    seen, kept = Counter[str](), list[Trajectory]()
    for trajectory in wanted:
        if seen[trajectory.task] < per_task:
            seen[trajectory.task] += 1
            kept.append(trajectory)
    return sorted(kept, key=lambda t: (t.task, t.key.step, t.key.prompt, t.key.sample))


def check(trajectories: Sequence[Trajectory], vocabulary: int) -> None:
    """Refuse what cannot be learned from. Raises :class:`TrainingError`."""
    if not trajectories:
        raise TrainingError("none of the trajectories has the wanted outcome; choose others with --outcome")
    for trajectory in trajectories:
        highest = max(max((*turn.prompt, *turn.sampled), default=0) for turn in trajectory.turns)
        if highest >= vocabulary:
            raise TrainingError(
                f"the episode {trajectory.key} of {trajectory.policy} has token {highest}, but the model knows "
                f"{vocabulary} tokens: it was played with another tokenizer"
            )


def imitate(
    learner: Learner, trajectories: Sequence[Trajectory], config: SftConfig, seed: int, say: Callable[[str], None]
) -> list[float]:
    """``config.examples`` episodes in batches; the mean cross-entropy of each batch."""
    shown = Demonstrations([demonstration(one) for one in trajectories], config, seed)
    losses = list[float]()
    for index in range(len(shown)):
        losses.append(learner.imitate(shown.batch(index))["loss"])
        if index % 10 == 0 or index + 1 == len(shown):
            say(f"batch {index + 1} of {len(shown)}: loss {losses[-1]:.3f}")
    return losses
