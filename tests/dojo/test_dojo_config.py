"""Config files become one resolved config, and bad input one sentence with the way out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.rows import load_tasks
from dojo import build
from dojo.config import Config, load
from dojo.errors import UserError

ROOT = Path(__file__).parent.parent.parent
QUICKSTART = ROOT / "configs" / "quickstart.toml"


def _write(folder: Path, text: str) -> Path:
    (folder / "run.toml").write_text(text)
    return folder / "run.toml"


def _dojo(*words: str) -> subprocess.CompletedProcess[str]:
    code = "from dojo.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_resolved_config_loads_back_to_an_equal_one(tmp_path: Path) -> None:
    config = load(QUICKSTART, ["--train.steps", "3", "--optim.lr=1e-4", "--sandbox.backend", "local"])
    assert (config.train.steps, config.optim.lr, config.sandbox.backend) == (3, 1e-4, "local")
    assert load(_write(tmp_path, config.to_toml())) == config


def test_every_row_can_be_asked_for_and_the_resolved_config_says_so(tmp_path: Path) -> None:
    rows = [task for task in load_tasks("starter") if task.split == "train"][:2]
    bare = rows[1].model_copy(update={"level": None, "instance_id": "bare"})
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{rows[0].model_dump_json()}\n{bare.model_dump_json()}\n")
    config = load(_write(tmp_path, f'[tasks]\nrows = "{file}"\nlevel = "all"\n'))
    assert load(_write(tmp_path, config.to_toml())) == config
    assert [task.instance_id for task in build.load_rows(config.tasks)[0]] == [rows[0].instance_id, "bare"]
    starter = config.tasks.model_copy(update={"level": "starter"})
    assert [task.instance_id for task in build.load_rows(starter)[0]] == [rows[0].instance_id]


def test_a_sandbox_may_be_named_by_its_backend_alone() -> None:
    assert load(QUICKSTART, ["--sandbox", "local"]) == load(QUICKSTART, ["--sandbox.backend", "local"])
    with pytest.raises(UserError, match="'auto', 'docker' or 'local'"):
        load(QUICKSTART, ["--sandbox", "podman"])


def test_an_episode_may_reach_what_the_config_lists_and_search_the_web_only_then(tmp_path: Path) -> None:
    text = """
[sandbox]
backend = "local"
network = { allow = ["example.org:443"] }
[agent]
tools = ["web_search", "submit"]
web_endpoint = "http://127.0.0.1:9"
"""
    config = load(_write(tmp_path, text))
    assert load(_write(tmp_path, config.to_toml())) == config
    assert build.episode_player(config, lambda _: None).scaffold.network == config.sandbox.network != "none"
    with pytest.raises(UserError, match="'web_search' is refused where sandboxes are offline"):
        load(_write(tmp_path, config.to_toml()), ["--sandbox.network=none"])


def test_an_engine_may_be_named_by_its_kind_alone(tmp_path: Path) -> None:
    words = ["--engine.url", "http://localhost:1/v1", "--engine.model", "m"]
    named = load(QUICKSTART, ["--engine", "openai", *words])
    assert named == load(QUICKSTART, ["--engine.kind", "openai", *words])
    text = 'engine = "transformers"\n'
    assert load(_write(tmp_path, text), ["--engine", "vllm"]).engine.kind == "vllm"
    assert load(_write(tmp_path, named.to_toml())) == named


def test_an_engine_that_cannot_train_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    words = ("--engine", "openai", "--engine.url", "http://localhost:1/v1", "--engine.model", "m")
    done = _dojo("train", "configs/quickstart.toml", "--out", str(tmp_path / "runs"), *words)
    assert done.returncode == 2 and "'openai' cannot train" in done.stderr and "dojo eval" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_a_config_digest_changes_with_any_value() -> None:
    assert load(QUICKSTART).digest() == load(QUICKSTART).digest()
    assert load(QUICKSTART).digest() != load(QUICKSTART, ["--seed", "1"]).digest()


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.promts", "train.prompts"),
        ("sandbx.backend", "sandbox"),
        ("agent.max_turn", "agent.max_turns"),
        ("sed", "seed"),
    ],
)
def test_an_unknown_key_names_the_nearest_valid_one(key: str, meant: str) -> None:
    with pytest.raises(UserError, match=meant) as caught:
        load(QUICKSTART, [f"--{key}", "3"])
    assert key.split(".")[0] in str(caught.value)


def test_a_section_may_come_from_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('name = "mine"\n')
    assert load(_write(tmp_path, 'rewards = "own.toml"\n')).rewards.name == "mine"


@pytest.mark.parametrize("recipe", sorted((ROOT / "configs" / "rewards").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(recipe: Path, tmp_path: Path) -> None:
    assert load(_write(tmp_path, f'rewards = "{recipe}"\n')).rewards.name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed = [", "not valid TOML"),
        ("[train]\nprompts = 0\n", "train.prompts"),
        ("[train]\ngroup = 5\nwave = 24\n", "no multiple"),
        ('rewards = "gone.toml"\n', "gone.toml"),
        ('[sandbox]\nbackend = "podman"\n', "sandbox.backend"),
        ('engine = "openai"\n', "'engine.url' is missing; 'engine.model' is missing$"),
        ('[engine]\nkind = "vllm"\nsharee = true\n', "unknown key 'engine.sharee', did you mean 'engine.share'"),
        ('seed = "x"\n[optim]\nlr = -1\n[train]\nsteps = "x"\ngroup = "x"\n', r"seed: .*; optim.lr: .*\(and 1 more\)"),
    ],
)
def test_a_broken_config_is_one_sentence(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        load(_write(tmp_path, text))


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(UserError, match="has no value"):
        load(QUICKSTART, ["--train.steps"])


def test_the_defaults_are_valid_without_any_file() -> None:
    assert Config.model_validate({}) == Config()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "gone.toml"), "there is no config file"),
        (("train", "--resume", "gone"), "no run folder"),
        (("tasks", "list", "gone"), "gone"),
        (("replay", "gone"), "holds no trajectories"),
        (("view", "gone"), "holds no trajectories"),
        (("rollout", "--task", "gone"), "there is no task 'gone'"),
        (("rollout", "--sandbox", "podman"), "configs/quickstart.toml: sandbox.backend"),
        (("score", "gone.json", "--rewards", "configs/rewards/g_ra.toml"), "gone.json"),
        (("doctor", "--sandbox", "podman"), "docker and local"),
    ],
)
def test_bad_input_is_one_line_and_a_non_zero_exit(words: tuple[str, ...], says: str) -> None:
    done = _dojo(*words)
    assert done.returncode == 2
    assert says in done.stderr and done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr and not done.stdout


def test_a_model_folder_without_weights_is_named(tmp_path: Path) -> None:
    done = _dojo("eval", "configs/quickstart.toml", "--model.name", str(tmp_path), "--sandbox.backend", "local")
    assert done.returncode == 2 and str(tmp_path) in done.stderr and "Traceback" not in done.stderr


def test_a_run_over_a_model_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done = _dojo("train", "configs/quickstart.toml", "--model.name", str(tmp_path), "--out", str(runs))
    assert done.returncode == 2 and "no model at" in done.stderr and not runs.exists()


def test_a_dry_run_prints_the_config_and_leaves_nothing(tmp_path: Path) -> None:
    done = _dojo("train", "configs/quickstart.toml", "--dry-run", "--out", str(tmp_path / "runs"))
    assert done.returncode == 0 and load(_write(tmp_path, done.stdout)) == load(QUICKSTART)
    assert not (tmp_path / "runs").exists()
