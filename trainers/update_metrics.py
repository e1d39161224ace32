"""What one update shows: sums over its tokens, turned into numbers at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from trainers.config import Clip, LossConfig
from trainers.losses import clip
from trainers.losses.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class UpdateMetrics:
    """Accumulates over micro-batches."""

    loss: float = 0.0
    tokens: int = 0
    """Sampled tokens that carried loss."""
    packed: int = 0
    """Tokens that went through the model."""
    missing: int = 0
    """Sampled tokens without a recorded log-probability."""
    ratio: float = 0.0
    ratio_max: float = 0.0
    ratio_min: float = float("inf")
    kl: float = 0.0
    entropy: float = 0.0
    logprob: float = 0.0
    clipped: float = 0.0
    taught_tokens: int = 0
    """Tokens that a teacher with feedback thinks otherwise of."""
    gap: float = 0.0

    def add(self, config: LossConfig, tokens: Tokens, entropy: Tensor, loss: float) -> None:
        """Take in one micro-batch."""
        now = tokens.now.detach()
        log = (now - tokens.sampler).clamp(-clip.LIMIT, clip.LIMIT)
        ratio = log.exp()
        self.loss += loss
        self.tokens += len(now)
        self.ratio += float(ratio.sum())
        self.ratio_max = max(self.ratio_max, float(ratio.max()))
        self.ratio_min = min(self.ratio_min, float(ratio.min()))
        self.kl += float((ratio - 1 - log).sum())
        self.entropy += float(entropy.sum())
        self.logprob += float(now.sum())
        if isinstance(config.policy, Clip):
            self.clipped += float(clip.clipped(config.policy, tokens).sum())

    def taught(self, gap: Tensor) -> None:
        """Take in a micro-batch's log-ratios of teacher and policy."""
        self.taught_tokens += int((gap != 0).sum())
        self.gap += float(gap.sum())

    @classmethod
    def merged(cls, parts: Sequence[UpdateMetrics]) -> UpdateMetrics:
        """Of all ranks together."""
        out = cls(
            **{f.name: sum(getattr(part, f.name) for part in parts) for f in fields(cls)},
        )
        out.ratio_max = max(part.ratio_max for part in parts)
        out.ratio_min = min(part.ratio_min for part in parts)
        return out

    def numbers(self) -> dict[str, float]:
        """Means over tokens. ``ratio`` is trainer over sampler; ``kl`` the k3 estimate of KL(sampler || trainer)."""
        n = max(1, self.tokens)
        taught = {"taught_share": self.taught_tokens / n, "teacher_gap": self.gap / n} if self.taught_tokens else {}
        return {
            "loss": self.loss,
            "tokens": float(self.tokens),
            "packed_tokens": float(self.packed),
            "ratio_mean": self.ratio / n,
            "ratio_max": self.ratio_max,
            "ratio_min": self.ratio_min if self.tokens else 0.0,
            "kl": self.kl / n,
            "entropy": self.entropy / n,
            "logprob": self.logprob / n,
            "clip_share": self.clipped / n,
            "missing": float(self.missing),
        } | taught
