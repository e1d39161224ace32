"""``python -m benchmarks.gpu``: which paths of the trainer ran on this machine, as the table of ``docs/gpu.md``.

Each path has a command. Where its condition holds the command is run and must end with 0; else the table says why not.
``--write`` puts the table into the page.
"""

from __future__ import annotations

import importlib.util
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

PAGE = Path("docs/gpu.md")
BEGIN, END = "<!-- table: python -m benchmarks.gpu --write -->", "<!-- end -->"


def always() -> str:
    """Nothing is needed."""
    return ""


def cuda(count: int = 1) -> Callable[[], str]:
    """Needs so many GPUs."""

    def why() -> str:
        import torch

        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return "" if found >= count else f"needs {count} GPU{'s' if count > 1 else ''}, this machine has {found}"

    return why


def package(name: str) -> Callable[[], str]:
    """Needs an installed package."""
    return lambda: "" if importlib.util.find_spec(name) else f"{name} is not installed"


def served() -> str:
    """Needs the environment of ``make test-vllm``."""
    reports = sorted(Path("docs/reports").glob("*-vllm.md"))
    return f"needs 'make test-vllm'; last run: docs/reports/{reports[-1].name}" if reports else "needs 'make test-vllm'"


class Way(NamedTuple):
    """One path through the trainer."""

    name: str
    command: str
    why_not: Callable[[], str] = always


def test(file: str, keyword: str = "") -> str:
    """The command that runs one file of tests."""
    return f"python -m pytest -q tests/trainers/{file}" + (f" -k {keyword}" if keyword else "")


WAYS = (
    Way("sampling and learning in one process, CPU, float32", test("test_engine.py")),
    Way("losses, every row of the golden table", test("test_losses_golden.py")),
    Way("bfloat16 with masters in float32, CPU", test("test_masters.py")),
    Way("LoRA, last layers, every weight", test("test_learner.py")),
    Way("activation checkpointing", test("test_learner_invariance.py", "recomputing")),
    Way("two ranks over gloo (ddp and fsdp2)", test("test_ranks_invariance.py")),
    Way("two ranks over gloo (DeepSpeed, ZeRO 1 and 2)", test("test_zero_invariance.py"), package("deepspeed")),
    Way("a run of two ranks beside a server (ddp and fsdp2)", test("test_served_run.py", "two_ranks")),
    Way("sync, killed and resumed", test("test_kill_and_resume.py")),
    Way("async and one step off, killed and resumed", test("test_async_run.py", "'not fifty'")),
    Way("1,000 episodes in flight on a fake clock", test("test_admission.py")),
    Way("vLLM as a server, weights by file, transfer and LoRA, CPU build", "make test-vllm", served),
    Way("sampling and learning in one process, one GPU", "dojo train configs/scale/one-gpu-7b.toml", cuda()),
    Way("vLLM on the learner's GPU, asleep while it learns", "dojo train CONFIG --engine.share true", cuda()),
    Way(
        "ranks over NCCL (ddp), vLLM beside them",
        "torchrun --nproc-per-node 4 -m dojo train configs/scale/node-32b.toml",
        cuda(8),
    ),
    Way("weight transfer over NCCL", "dojo train CONFIG --engine.backend nccl", cuda(2)),
    Way(
        "ranks over NCCL (fsdp2), vLLM beside them",
        "torchrun --nproc-per-node 4 -m dojo train configs/scale/node-32b.toml --scale.parallel fsdp2",
        cuda(8),
    ),
    Way(
        "ranks over NCCL (DeepSpeed), vLLM beside them",
        "torchrun --nproc-per-node 4 -m dojo train configs/scale/node-32b.toml --scale.parallel deepspeed",
        cuda(8),
    ),
    Way("TensorBoard", test("test_watch.py"), package("tensorboard")),
    Way("trackio", test("test_watch.py"), package("trackio")),
    Way("wandb", test("test_watch.py"), package("wandb")),
)


def line(path: Way) -> str:
    """Run a path where it can be run."""
    reason = path.why_not()
    if reason:
        return f"| {path.name} | no | `{path.command}` | {reason} |"
    command = [sys.executable if word == "python" else word for word in shlex.split(path.command)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        return f"| {path.name} | **failed** | `{path.command}` | {last} |"
    return f"| {path.name} | yes, {time.monotonic() - began:.0f} s | `{path.command}` | |"


def table() -> Iterator[str]:
    """The table, line by line as it is made."""
    yield f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}:\n"
    yield "| path | ran here | command | why not |\n|---|---|---|---|"
    for path in WAYS:
        yield line(path)


def main() -> int:
    """Print the table; 1 when a path failed."""
    made = list[str]()
    for text in table():
        print(text, flush=True)
        made.append(text)
    if "--write" in sys.argv[1:]:
        page = PAGE.read_text()
        before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
        PAGE.write_text(before + "\n" + "\n".join(made) + "\n" + after)
    return int(any("**failed**" in text for text in made))


if __name__ == "__main__":
    raise SystemExit(main())
