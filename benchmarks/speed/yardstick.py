"""One GRPO step, generation and update, against TRL's GRPOTrainer: same model, prompts and lengths, one thread.

TRL is not a dependency: it is installed for this measurement alone into a folder of its own, whose packages only the
child process sees. Both children live at the same time and step in turn, each when it is told to on its standard input
(``python -m benchmarks.speed.yardstick ours|trl SIZE STEPS``); one waits asleep while the other steps.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.speed import update
from benchmarks.speed.measure import Measured, ratio
from trainers.model.load import cache, embedded, missing

VERSION = "1.16.0"
PROMPTS, GROUP, PROMPT = 2, 4, 64
WAYS = ("ours", "trl")


class Size(NamedTuple):
    """A model, and how much of it is measured."""

    text: str
    new: int
    """Tokens that are sampled of each episode."""
    steps: int
    """Measured steps of a pair of processes; one more warms up."""


SIZES = {
    "7M": Size("7.1 M parameters", 64, 3),
    "135M": Size("135 M parameters (the embedded model)", 32, 2),
}
"""The large one is measured for less long: both processes together then take about three minutes and 8 GB."""
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
    where = cache().parent / f"trl-{VERSION}"
    if not (where / "complete").is_file():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--upgrade"]
        done = subprocess.run([*pip, "--target", str(where), *NEEDS], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"TRL could not be installed: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
        (where / "complete").touch()
    return where


def network(size: str) -> Any:
    """The model of a size, in float32."""
    if size == "7M":
        return update.network()
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(embedded(), dtype="float32")


def prompts() -> list[list[int]]:
    """Token ids that mean nothing and that no tokenizer made."""
    chance = random.Random(0)
    return [chance.choices(range(300, 40_000), k=PROMPT) for _ in range(PROMPTS)]


def turn() -> float:
    """Wait until it is this process's turn; its CPU seconds until then."""
    sys.stdin.readline()
    return time.process_time()


def tell(began: float) -> None:
    """CPU seconds of a step, to the parent."""
    print(json.dumps(time.process_time() - began), flush=True)


def ours(size: str, steps: int) -> None:
    """Steps of the engine and the learner."""
    import torch

    from agent.chat import ByteTokenizer
    from benchmarks.speed.prefix import Endless
    from trainers.config import LossConfig, OptimConfig, SftConfig
    from trainers.engines.transformers import TransformersEngine
    from trainers.learning.learner import TransformersLearner
    from trainers.model import attention, norm, trim
    from trainers.model.load import Model

    torch.set_num_threads(1)
    net = network(size).eval()
    for part in (attention, norm, trim):
        part.install(net)
    model = Model(net, Endless(ByteTokenizer()), size)
    optim = OptimConfig(layers=None, tokens=4096, lr=1e-6)
    new = SIZES[size].new
    learner = TransformersLearner(model, optim, LossConfig(length=new), SftConfig(), 1.0)
    engine = TransformersEngine(model)
    for step in range(steps):
        began = turn()
        learner.update(asyncio.run(_sample(engine, step, new)))
        tell(began)
    engine.close()


async def _sample(engine: Any, step: int, new: int) -> list[Any]:
    from agent.trajectory import Key
    from trainers.protocol import Row

    wave = engine.wave(PROMPTS * GROUP, 1.0)
    keys = [Key(seed=0, step=step, prompt=p, sample=s) for p in range(PROMPTS) for s in range(GROUP)]
    given = prompts()
    found = await asyncio.gather(*(wave.policy.sample(given[key.prompt], key, 0, new) for key in keys))
    for key in keys:
        wave.leave(key)
    assert all(len(sample.ids) == new for sample in found), "a sample ended before its length"
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


def trl(size: str, steps: int) -> None:
    """Steps of GRPOTrainer."""
    import importlib
    import tempfile

    import torch
    from transformers import TrainerCallback

    torch.set_num_threads(1)
    library: Any = importlib.import_module("trl")

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self.began = turn()

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            tell(self.began)

    with tempfile.TemporaryDirectory() as out:
        trainer = library.GRPOTrainer(
            model=network(size),
            reward_funcs=_rewards(SIZES[size].new),
            args=_settings(library, out, steps, SIZES[size].new),
            train_dataset=_dataset(),
            processing_class=_tokenizer(),
            callbacks=[Clock()],
        )
        trainer.train()


def _rewards(new: int) -> Callable[..., list[float]]:
    """Contrast in every group; sees that the work is what ours is."""

    def reward(completion_ids: Sequence[Sequence[int]], **rest: Any) -> list[float]:
        assert all(len(ids) == new for ids in completion_ids), "a sample ended before its length"
        return [float(i % 2) for i in range(len(completion_ids))]

    return reward


def _settings(library: Any, out: str, steps: int, new: int) -> Any:
    """GRPOTrainer's arguments for the same work as ours, on the CPU, without logs or files."""
    return library.GRPOConfig(
        output_dir=out,
        per_device_train_batch_size=PROMPTS * GROUP,
        num_generations=GROUP,
        max_completion_length=new,
        generation_kwargs={"min_new_tokens": new},
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


def _start(way: str, size: str) -> subprocess.Popen[str]:
    extra = {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(folder())])} if way == "trl" else {}
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **extra}
    command = [sys.executable, "-m", "benchmarks.speed.yardstick", way, size, str(1 + SIZES[size].steps)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _step(child: subprocess.Popen[str]) -> float:
    """CPU seconds of one step of a child. Raises ``OSError`` with the last line of one that ended."""
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    print(file=child.stdin, flush=True)
    while line := child.stdout.readline():
        try:
            return float(json.loads(line))
        except (ValueError, TypeError):  # what a library prints
            continue
    raise OSError((child.stderr.read().strip().splitlines() or ["it ended without a reason"])[-1])


def _pair(size: str) -> dict[str, list[float]]:
    """Both step in turn; without the first step of each."""
    with ExitStack() as stack:
        children = {way: stack.enter_context(_start(way, size)) for way in WAYS}
        for child in children.values():
            stack.callback(child.kill)
        rounds = [{way: _step(child) for way, child in children.items()} for _ in range(1 + SIZES[size].steps)]
    return {way: [one[way] for one in rounds[1:]] for way in WAYS}


def measure(runs: int) -> list[Measured]:
    """Both models; one that is not there says so."""
    return [found for size in SIZES for found in _measure(size, runs)]


def _measure(size: str, runs: int) -> list[Measured]:
    name = f"one GRPO step, {SIZES[size].text}"
    if size != "7M" and (reason := missing()):
        return [Measured(name, "", note=reason)]
    try:
        pairs = [_pair(size) for _ in range(runs if size == "7M" else -(-runs // 3))]
    except OSError as error:
        return [Measured(f"{name}, against TRL {VERSION}", "", note=str(error))]
    lengths = f"{PROMPTS} prompts x {GROUP}, {PROMPT} + {SIZES[size].new} tokens"
    note = f"{lengths}, every weight learns, one thread, steps in turn"
    found = {
        way: Measured(f"{name}, {way}", "CPU-s", tuple(seconds for pair in pairs for seconds in pair[way]), note)
        for way in WAYS
    }
    return [*found.values(), ratio(f"{name}, against TRL {VERSION}: CPU time", found["trl"], found["ours"])]


if __name__ == "__main__":
    {"ours": ours, "trl": trl}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
