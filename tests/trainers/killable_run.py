"""A small run in a process of its own, to be killed: ``python killable_run.py FOLDER``. Starts or resumes."""

from __future__ import annotations

import sys
from pathlib import Path

from trainers.doubles import Game, TableEngine, components
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig

SETTINGS = Settings(
    seed=7,
    train=TrainConfig(steps=6, minutes=None, prompts=3, group=4, wave=4, checkpoint_every=2, rest=1),
    evaluation=EvalConfig(samples=2, wave=4),
    text="seed = 7\n",
)


def run(folder: Path) -> None:
    # A batch effect far above float64's rounding: a resumed wave of another shape would change the weights.
    engine = TableEngine(batch_s=0.01, batch_effect=1e-6)
    parts = components(train=5, heldout=3, game=Game(turn_s=0.002), engine=engine, batches=5)
    train(parts, SETTINGS, folder, resume=(folder / "config.toml").exists())


if __name__ == "__main__":
    run(Path(sys.argv[1]))
