"""One update with packing and log-probabilities of sampled tokens only, against padding and full logits.

``python -m benchmarks.speed.update packed|padded`` makes one update in a process of its own and prints its CPU seconds
and the growth of its peak memory. The padded one is what a plain implementation does: rows padded to the longest,
logits of every position, the same loss. Both start from the same weights and must give the same gradient norm.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.measure import Measured, ratio
from trainers.protocol import Row

GROUP, GROUPS, PROMPT = 4, 4, 48
LENGTHS = (16, 32, 48, 96, 160, 240, 336, 464)
"""Sampled tokens of rows: with the prompt 64 to 512, a spread of 8."""
WAYS = ("packed", "padded")


def rows() -> list[Row]:
    """Groups that share their prompt, lengths drawn once and for all."""
    chance, made = random.Random(0), list[Row]()
    for group in range(GROUPS):
        prompt = chance.choices(range(40_000), k=PROMPT)
        for sample in range(GROUP):
            size = LENGTHS[(group * GROUP + sample) * 5 % len(LENGTHS)]
            mask = (False,) * PROMPT + (True,) * size
            credit = 1.0 if sample % 2 else -1.0
            made.append(
                Row(
                    ids=(*prompt, *chance.choices(range(40_000), k=size)),
                    mask=mask,
                    logprobs=tuple(-10.8 if m else 0.0 for m in mask),
                    advantages=tuple(credit if m else 0.0 for m in mask),
                    rollout=f"{group}-{sample}",
                    group=str(group),
                )
            )
    return made


def network() -> Any:
    """Qwen3 with 7.1 M parameters and a vocabulary of 49 k, as in the comparison with TRL."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=49_152,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=True,
    )
    return Qwen3ForCausalLM(shape)


def packed(net: Any, batch: Sequence[Row]) -> float:
    """The learner's own update. Returns the gradient's norm."""
    from agent.chat import ByteTokenizer
    from trainers.config import LossConfig, OptimConfig, SftConfig
    from trainers.learning.learner import TransformersLearner
    from trainers.model import attention, norm, trim
    from trainers.model.load import Model

    for part in (attention, norm, trim):
        part.install(net.eval())
    optim = OptimConfig(layers=None, tokens=2048, lr=1e-6)
    learner = TransformersLearner(Model(net, ByteTokenizer(), "7M"), optim, LossConfig(length=512), SftConfig(), 1.0)
    return learner.update(batch)["grad_norm"]


def padded(net: Any, batch: Sequence[Row]) -> float:
    """Micro-batches of the same number of rows, each padded to its longest; logits of every position."""
    import torch

    net.eval()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-6, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    for start in range(0, len(batch), GROUP):
        part = batch[start : start + GROUP]
        longest = max(len(row.ids) for row in part)

        def grid(values: Any, fill: float, width: int = longest) -> torch.Tensor:
            return torch.tensor([[*line, *[fill] * (width - len(line))] for line in values])

        ids = grid((row.ids for row in part), 0).long()
        mask = grid((row.mask for row in part), 0).bool()
        seen = grid(([1] * len(row.ids) for row in part), 0)
        logits = net(input_ids=ids, attention_mask=seen).logits[:, :-1]
        now = torch.log_softmax(logits.float(), -1).gather(-1, ids[:, 1:, None])[..., 0]
        ratio_ = (now - grid((row.logprobs for row in part), 0.0)[:, 1:]).exp()
        credit = grid((row.advantages for row in part), 0.0)[:, 1:]
        token = -torch.minimum(ratio_ * credit, ratio_.clamp(0.8, 1.2) * credit)
        ((token * mask[:, 1:]).sum() / (len(batch) * 512)).backward()
    norm = float(torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0))
    optimiser.step()
    return norm


def once(way: str) -> dict[str, float]:
    """One update after a small one that warms up; memory from the moment before it."""
    import torch

    torch.set_num_threads(1)
    step = packed if way == "packed" else padded
    step(network(), rows()[:1])
    net = network()
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _memory("VmRSS"), time.process_time()
    norm = step(net, rows())
    return {"cpu": time.process_time() - began, "memory": _memory("VmHWM") - before, "norm": norm}


def _memory(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024.0


def measure(runs: int) -> list[Measured]:
    """Both ways in turn, each in a process of its own."""
    seen: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(runs):
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.speed.update", way]
            seen[way].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    norms = [median(one["norm"] for one in seen[way]) for way in WAYS]
    assert abs(norms[0] - norms[1]) < 1e-3 * norms[1], f"the two ways compute different gradients: {norms}"
    note = f"7.1 M parameters, {GROUP * GROUPS} rows of 64 to 512 tokens, one thread"
    cpu, memory = (
        {
            way: Measured(f"update, {way}: {name}", unit, tuple(one[key] / size for one in seen[way]), note)
            for way in WAYS
        }
        for name, unit, key, size in (("CPU time", "CPU-s", "cpu", 1.0), ("peak memory", "MB", "memory", 1e6))
    )
    return [
        *cpu.values(),
        ratio("update, packed against padded: CPU time", cpu["padded"], cpu["packed"]),
        *memory.values(),
        ratio("update, packed against padded: peak memory", memory["padded"], memory["packed"]),
    ]


if __name__ == "__main__":
    print(json.dumps(once(sys.argv[1])))
