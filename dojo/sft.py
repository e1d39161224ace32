"""``dojo sft``: learn from stored trajectories, leave a model folder that ``model.name`` can name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.store import Store
from agent.trajectory import Outcome, Trajectory
from dojo.config import Config
from dojo.errors import UserError
from dojo.tell import say
from dojo.verbs import stored


def sft(config: Config, sources: Sequence[Path], outcomes: Sequence[str], per_task: int, out: Path) -> None:
    """Choose, imitate, save. Refuses before the model is loaded where it can."""
    from trainers.learning.imitate import check, choose, imitate
    from trainers.learning.learners import learner
    from trainers.model.load import check as check_model
    from trainers.model.load import load

    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is already in use; name another folder with --out")
    check_model(config.model)
    chosen = choose(_read(sources), [Outcome(name) for name in outcomes], per_task)
    check(chosen, 10**9)
    loaded = load(config.model, config.seed)
    check(chosen, loaded.net.config.vocab_size)
    temperature = config.train.temperature
    made = learner(
        loaded, config.model, config.optim, config.loss, config.sft, temperature=temperature, scale=config.scale
    )
    say(f"{len(chosen)} episodes of {len({one.task for one in chosen})} tasks, {config.sft.examples} to be imitated")
    imitate(made, chosen, config.sft, config.seed, say)
    out.mkdir(parents=True, exist_ok=True)
    made.save(out)
    if config.model.name != "tiny":
        from trainers.sampler import folder
        from trainers.sync.export import full

        print(full(loaded, folder(config.model), out / "model"))


def _read(sources: Sequence[Path]) -> Iterator[Trajectory]:
    for source in sources:
        if not source.exists():
            raise UserError(f"there is no run folder or trajectory file {source}")
        yield from stored(source) if source.is_dir() else Store(source).read()
