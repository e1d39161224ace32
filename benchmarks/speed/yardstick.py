"""One GRPO step, generation and update, against TRL's GRPOTrainer: same model, prompts and lengths, one thread.

TRL is not a dependency: it is installed for this measurement alone into a folder of its own, whose packages only the
child process sees. ``python -m benchmarks.speed.yardstick ours|trl STEPS`` makes the steps in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.speed.measure import Measured, ratio
from benchmarks.speed.update import network

VERSION = "1.16.0"
PROMPTS, GROUP, PROMPT, NEW = 2, 4, 64, 64
STEPS = 3
WAYS = ("ours", "trl")
NEEDS = (
    f"trl=={VERSION}",
    "datasets==4.4.1",
    "pyarrow==21.0.0",
    "dill==0.4.0",
    *("pandas", "multiprocess", "xxhash", "python-dateutil", "six"),
    *("httpx", "httpcore", "h11", "anyio", "certifi", "idna", "sniffio"),
)
"""Beside what the trainer needs anyway."""


def folder() -> Path:
    """Where TRL lies; installed when it is not there. Raises ``OSError`` when it cannot be."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "repodojo"
    where = base / f"trl-{VERSION}"
    if not (where / "trl").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*pip, "--target", str(where), *NEEDS], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"TRL could not be installed: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    return where


def prompts() -> list[list[int]]:
    """Token ids that mean nothing and that no tokenizer made."""
    chance = random.Random(0)
    return [chance.choices(range(300, 40_000), k=PROMPT) for _ in range(PROMPTS)]


def ours(steps: int) -> list[float]:
    """CPU seconds of each step of the engine and the learner."""
    import torch

    from agent.chat import ByteTokenizer
    from trainers import attention, norm, trim
    from trainers.config import LossConfig, OptimConfig, SftConfig
    from trainers.engines.transformers import TransformersEngine
    from trainers.learner import TransformersLearner
    from trainers.model import Model

    torch.set_num_threads(1)
    net = network().eval()
    for part in (attention, norm, trim):
        part.install(net)
    model = Model(net, ByteTokenizer(), "7M")
    optim = OptimConfig(layers=None, tokens=4096, lr=1e-6)
    learner = TransformersLearner(model, optim, LossConfig(length=NEW), SftConfig(), 1.0)
    engine, seconds = TransformersEngine(model), list[float]()
    for step in range(steps):
        began = time.process_time()
        learner.update(asyncio.run(_sample(engine, step)))
        seconds.append(time.process_time() - began)
    engine.close()
    return seconds


async def _sample(engine: Any, step: int) -> list[Any]:
    from agent.trajectory import Key
    from trainers.protocol import Row

    wave = engine.wave(PROMPTS * GROUP, 1.0)
    keys = [Key(seed=0, step=step, prompt=p, sample=s) for p in range(PROMPTS) for s in range(GROUP)]
    given = prompts()
    found = await asyncio.gather(*(wave.policy.sample(given[key.prompt], key, 0, NEW) for key in keys))
    for key in keys:
        wave.leave(key)
    return [
        Row(
            ids=(*given[key.prompt], *sample.ids),
            mask=(False,) * PROMPT + (True,) * len(sample.ids),
            logprobs=(0.0,) * PROMPT + sample.logprobs,
            advantages=(0.0,) * PROMPT + (1.0 if key.sample % 2 else -1.0,) * len(sample.ids),
            rollout=str(key),
            group=str(key.prompt),
        )
        for key, sample in zip(keys, found, strict=True)
    ]


def trl(steps: int) -> list[float]:
    """CPU seconds of each step of GRPOTrainer."""
    import importlib
    import tempfile

    import torch
    from transformers import TrainerCallback

    torch.set_num_threads(1)
    library: Any = importlib.import_module("trl")
    seconds = list[float]()

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self.began = time.process_time()

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            seconds.append(time.process_time() - self.began)

    with tempfile.TemporaryDirectory() as out:
        trainer = library.GRPOTrainer(
            model=network(),
            reward_funcs=lambda completions, **rest: [float(i % 2) for i in range(len(completions))],
            args=_settings(library, out, steps),
            train_dataset=_dataset(),
            processing_class=_tokenizer(),
            callbacks=[Clock()],
        )
        trainer.train()
    return seconds


def _settings(library: Any, out: str, steps: int) -> Any:
    """GRPOTrainer's arguments for the same work as ours, on the CPU, without logs or files."""
    return library.GRPOConfig(
        output_dir=out,
        per_device_train_batch_size=PROMPTS * GROUP,
        num_generations=GROUP,
        max_completion_length=NEW,
        generation_kwargs={"min_new_tokens": NEW},
        max_steps=steps,
        learning_rate=1e-6,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )


def _dataset() -> Any:
    import importlib

    datasets: Any = importlib.import_module("datasets")
    return datasets.Dataset.from_dict({"prompt": [" ".join(f"w{i}" for i in ids) for ids in prompts() * 64]})


def _tokenizer() -> Any:
    """One word a token, so that TRL sees the same ids."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(49_152)}
    plain = Tokenizer(WordLevel(words, unk_token="w0"))
    plain.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="w1", pad_token="w2", unk_token="w0")


def _once(way: str) -> list[float]:
    extra = {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(folder())])} if way == "trl" else {}
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **extra}
    command = [sys.executable, "-m", "benchmarks.speed.yardstick", way, str(1 + STEPS)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError((done.stderr.strip().splitlines() or ["it ended without a reason"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])[1:]


def measure(runs: int) -> list[Measured]:
    """Both in turn; the first step of each process warms up."""
    seen: dict[str, list[float]] = {way: [] for way in WAYS}
    try:
        for _ in range(runs):
            for way in WAYS:
                seen[way] += _once(way)
    except OSError as error:
        return [Measured(f"one GRPO step against TRL {VERSION}", "", note=str(error))]
    note = f"7.1 M parameters, {PROMPTS} prompts x {GROUP}, {PROMPT} + {NEW} tokens, one thread"
    found = {way: Measured(f"one GRPO step, {way}", "CPU-s", tuple(seen[way]), note) for way in WAYS}
    return [*found.values(), ratio(f"one GRPO step against TRL {VERSION}: CPU time", found["trl"], found["ours"])]


if __name__ == "__main__":
    print(json.dumps({"ours": ours, "trl": trl}[sys.argv[1]](int(sys.argv[2]))))
