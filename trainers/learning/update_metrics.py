"""What one update shows: sums over its tokens, turned into numbers at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from trainers.config import LossConfig
from trainers.losses import clip, correction, opsm
from trainers.losses.build import clipped
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
    more: dict[str, float] = field(default_factory=dict[str, float])
    """Sums over tokens of what only some losses have."""

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
        self.clipped += float(clipped(config.policy, tokens).sum())
        if config.correction:
            self._sum("corrected_share", correction.above(config.correction, tokens))
        if config.opsm is not None:
            self._sum("forgotten_share", 1 - opsm.keep(config.opsm, tokens))
        if tokens.reference is not None:
            d = (tokens.reference - now).clamp(-clip.LIMIT, clip.LIMIT)
            self._sum("reference_kl", d.exp() - d - 1)

    def taught(self, gap: Tensor) -> None:
        """Take in a micro-batch's log-ratios of teacher and policy."""
        self._sum("taught_share", gap != 0)
        self._sum("teacher_gap", gap)

    def _sum(self, name: str, values: Tensor) -> None:
        self.more[name] = self.more.get(name, 0.0) + float(values.sum())

    @classmethod
    def merged(cls, parts: Sequence[UpdateMetrics]) -> UpdateMetrics:
        """Of all ranks together."""
        out = cls()
        for name in (f.name for f in fields(cls) if f.name != "more"):
            setattr(out, name, sum(getattr(part, name) for part in parts))
        for name in dict.fromkeys(name for part in parts for name in part.more):
            out.more[name] = sum(part.more.get(name, 0.0) for part in parts)
        out.ratio_max = max(part.ratio_max for part in parts)
        out.ratio_min = min(part.ratio_min for part in parts)
        return out

    def numbers(self) -> dict[str, float]:
        """Means over tokens. ``ratio`` is trainer over sampler; ``kl`` the k3 estimate of KL(sampler || trainer).

        Where the loss has them: ``corrected_share`` of the correction's weights are above its cap, ``forgotten_share``
        of the tokens are dropped with their stale sequence, ``reference_kl`` estimates KL(trainer || reference),
        ``taught_share`` of the tokens have a teacher, who thinks ``teacher_gap`` more of them.
        """
        n = max(1, self.tokens)
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
        } | {name: value / n for name, value in self.more.items()}
