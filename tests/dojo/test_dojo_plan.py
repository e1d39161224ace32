"""``dojo train --plan`` on the shipped recipes, and what several processes are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dojo.config import load
from dojo.scale import plan
from trainers.config import ScaleConfig
from trainers.engines.pairs import check_training
from trainers.errors import TrainingError
from trainers.learning.learners import check

ROOT = Path(__file__).parents[2]
RECIPES = ("quickstart.toml", "scale/one-gpu-7b.toml", "scale/node-32b.toml")


@pytest.mark.parametrize("name", RECIPES)
def test_the_plan_accepts_every_shipped_recipe(name: str) -> None:
    text, fits = plan(load(ROOT / "configs" / name))
    assert fits and text[-1] == "fits: yes"


@pytest.mark.parametrize(
    ("overrides", "way"),
    [
        (["--optim.tokens", "262144"], "optim.checkpointing, or lower optim.tokens"),
        (["--train.waves", "16", "--train.prompts", "64"], "lower train.wave or train.waves"),
        (["--optim.layers", "28", "--optim.lora", "2048"], "use more GPUs"),
    ],
)
def test_a_recipe_that_does_not_fit_says_what_to_change(overrides: list[str], way: str) -> None:
    text, fits = plan(load(ROOT / "configs/scale/one-gpu-7b.toml", overrides))
    assert not fits and "fits: NO" in text and way in text[-1]


def test_planning_loads_no_model_and_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['dojo', 'train', 'configs/scale/node-32b.toml', '--plan']\n"
        "from dojo.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Qwen3-32B: 32.76 G parameters" in done.stdout


def test_an_unknown_model_is_one_sentence() -> None:
    command = [sys.executable, "-m", "dojo", "train", "configs/quickstart.toml", "--model.name", "/nowhere", "--plan"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("dojo: nothing is known of the model /nowhere")


def test_a_number_of_processes_that_the_config_does_not_name_is_refused() -> None:
    assert "WORLD_SIZE" not in os.environ
    with pytest.raises(TrainingError, match="torchrun --nproc-per-node 4"):
        check(ScaleConfig(gpus=4))
    with pytest.raises(TrainingError, match=r"set scale.gpus to their number, or scale.parallel to 'ddp'"):
        check(ScaleConfig(parallel="fsdp2"))
    check(ScaleConfig())


@pytest.mark.parametrize(("told", "way"), [("DEEPSPEED", "set it to 'deepspeed'"), ("FSDP", "set it to 'fsdp2'")])
def test_what_accelerate_was_told_is_not_ignored(monkeypatch: pytest.MonkeyPatch, told: str, way: str) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{told}", "true")
    with pytest.raises(TrainingError, match=way):
        check(ScaleConfig())


def test_weights_that_are_shared_out_are_not_sampled_in_this_process() -> None:
    config = load(ROOT / "configs/scale/node-32b.toml", ["--scale.parallel", "fsdp2"])
    with pytest.raises(TrainingError, match=r"set engine.kind to 'vllm', or scale.parallel to 'ddp'"):
        check_training(config.engine, config.model, config.optim, config.loss, config.train, config.scale)
