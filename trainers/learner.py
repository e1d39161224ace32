"""The learner in this process: one optimiser step over packed micro-batches.

The last layers learn (or LoRA adapters on them), embeddings and head are frozen, so no graph is built below the first
layer that learns and no logits are kept. Sampling and learning share the weights; a step counts ``model.version`` up.
Normalisers are computed over the whole step before it is cut into micro-batches (invariant 8). Rollouts without credit
are left out of the forward pass when the loss gives them no gradient; they still count in the normalisers.

The warm start and the policy gradient have an optimiser each: the moments of one mean nothing to the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainers import average, batch, recompute
from trainers.config import LossConfig, OptimConfig, SftConfig
from trainers.estimators.reinforce import estimated
from trainers.forward import Flat, flatten, forward
from trainers.losses.aggregate import weights
from trainers.losses.build import dead_without_credit, losses
from trainers.losses.tokens import Tokens
from trainers.masters import lend, masters, settle
from trainers.model import Model
from trainers.packing import Packed, pack
from trainers.protocol import Row
from trainers.ranks import Alone, Ranks
from trainers.schedule import policy_rate, rate
from trainers.sharded import shard, state, whole
from trainers.teacher import gaps
from trainers.trainable import swapped, trainable
from trainers.update_metrics import UpdateMetrics

if TYPE_CHECKING:
    from torch import Tensor

Stage = Literal["sft", "policy"]
Objective = Callable[["Flat", "Tensor", "UpdateMetrics"], "Tensor"]
"""Loss of a micro-batch from its tokens and their weights; tells the metrics."""


class TransformersLearner:
    """See :class:`trainers.protocol.Learner`."""

    def __init__(
        self,
        model: Model,
        optim: OptimConfig,
        loss: LossConfig,
        sft: SftConfig,
        temperature: float,
        threads: int = 1,
        ranks: Ranks | None = None,
        shared: str | None = None,
    ) -> None:
        """``temperature`` is the sampler's: log-probabilities are taken at it. ``shared`` is the device on which the
        weights are shared out over the ranks (:mod:`trainers.sharded`)."""
        self.ranks: Ranks = ranks or Alone()
        self.threads = threads
        self.model, self.optim, self.loss, self.sft = model, optim, loss, sft
        self.temperature = temperature
        self.shared = shared is not None
        self.parameters = _learning(model.net, optim, shared)
        self.masters = masters(self.parameters)
        """What the optimiser steps, by the name of the weight."""
        self.imitated = 0
        """Supervised steps made."""
        self.stepped = 0
        """Policy-gradient steps made."""
        self.stage: Stage = "sft"
        self.optimiser = self._optimiser()
        self._weights: dict[str, float] = {}
        self.reference: dict[str, Tensor] = {}
        """Trainable weights before the first policy-gradient step, when a KL penalty needs them."""
        self.average: dict[str, Tensor] = {}
        """The running average of the masters since then, when ``optim.ema`` is set."""

    def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """One policy-gradient step. Without any credit nothing is stepped. Raises ``ValueError`` for a broken row."""
        self._enter("policy")
        rows = self._credited(rows)
        lr = policy_rate(self.optim, self.stepped)
        self.stepped += 1
        return self._step(rows, lr, self._policy_loss, self._live(rows))

    def imitate(self, rows: Sequence[Row]) -> dict[str, float]:
        """One supervised step: mean cross-entropy of the masked tokens of all rows, at temperature 1."""
        self._enter("sft")
        batch.check(rows)
        lr = rate(self.sft, self.imitated)
        self.imitated += 1
        return self._step(rows, lr, self._cross_entropy, list(batch.rollouts(rows).values()))

    def gradient(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """The gradient that :meth:`update` would step along, before clipping, by parameter; nothing is stepped."""
        self._enter("policy")
        rows = self._credited(rows)
        self._accumulate(rows, self._policy_loss, self._live(rows))
        found = {name: whole(p.grad).clone() for name, p in self.parameters.items() if p.grad is not None}
        self._clear()
        return found

    def averaged(self) -> AbstractContextManager[None]:
        """The model with the averaged weights, as long as it lasts and where there are any. Nothing may learn
        meanwhile."""
        return average.lent(self.parameters, self.average if self.optim.ema is not None else {})

    def save(self, folder: Path) -> None:
        """Trainable weights, optimiser and counters into an existing folder."""
        from trainers.state_files import save

        save(self, folder)
        if not self.ranks.rank:
            average.save(self.average, folder)

    def load(self, folder: Path) -> None:
        """Bit for bit what was saved. Raises :class:`trainers.tokenizer.ModelError`."""
        from trainers.state_files import load

        with self.model.lock:
            load(self, folder)
        self.average = average.load(folder, self.masters)
        self.reference = self._parked(self.reference)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """The network's whole state; every rank must ask for all of it, if weights are shared out."""
        return state(self.model.net)

    def enter(self, stage: Stage) -> None:
        """Begin a stage with a fresh optimiser, unless it is the current one."""
        self._enter(stage)

    def _enter(self, stage: Stage) -> None:
        if stage == self.stage:
            return
        self.stage = stage
        self.optimiser = self._optimiser()
        if stage == "policy" and self.loss.kl:
            self.reference = self._parked({name: p.detach().clone() for name, p in self.parameters.items()})
        if stage == "policy" and self.optim.ema is not None:
            self.average = average.start(self.masters)

    def _parked(self, reference: dict[str, Tensor]) -> dict[str, Tensor]:
        """Where the reference waits for its use."""
        away = self.loss.kl is not None and self.loss.kl.offload
        return {name: value.cpu() for name, value in reference.items()} if away else reference

    def _optimiser(self) -> Any:
        import torch

        return torch.optim.AdamW(
            list(self.masters.values()),
            lr=self.optim.lr,
            betas=self.optim.betas,
            weight_decay=self.optim.weight_decay,
            fused=True,
        )

    def _credited(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Checked, and with the advantages that the loss is to see."""
        batch.check(rows)
        return rows if self.loss.estimator is None else estimated(self.loss.estimator, rows)

    def _live(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Rollouts that can have a gradient."""
        found = list(batch.rollouts(rows).values())
        return [part for part in found if not batch.dead(part)] if dead_without_credit(self.loss) else found

    def _step(
        self, rows: Sequence[Row], lr: float, objective: Objective, chosen: Sequence[Sequence[Row]]
    ) -> dict[str, float]:
        """Gradients of all micro-batches, then one step of the optimiser."""
        import torch

        began = time.perf_counter()
        with self.model.lock:
            torch.set_num_threads(self.threads)
            shown = self._accumulate(rows, objective, chosen)
            norm = self._apply(lr) if shown.tokens else 0.0
        seconds = time.perf_counter() - began
        return shown.numbers() | {
            "grad_norm": norm,
            "lr": lr,
            "skipped": float(not math.isfinite(norm)),
            "rollouts": float(len(self._weights)),
            "live": float(len(chosen)),
            "seconds": seconds,
            "tokens_per_s": shown.packed / seconds if seconds else 0.0,
        }

    def _accumulate(self, rows: Sequence[Row], objective: Objective, chosen: Sequence[Sequence[Row]]) -> UpdateMetrics:
        """Add the gradients of the whole step, micro-batch by micro-batch."""
        shown = UpdateMetrics()
        self._weights = self._normalisers(rows)
        micros = batch.micros(self.ranks.share(chosen), self.optim.tokens, by_group=self.stage == "policy")
        flats = [flatten(micro) for micro in micros]
        shown.missing = sum(flat.missing for flat in flats)
        shown.packed = sum(len(flat.line) for flat in flats)
        live = [flat for flat in flats if flat.targets]
        idle = max(self.ranks.gather(len(live))) - len(live) if self.shared else 0
        for flat in live:
            objective(flat, self._per_token(flat), shown).backward()
        for _ in range(idle):
            self._idle(objective)
        return self._over_ranks(shown)

    def _idle(self, objective: Objective) -> None:
        """A pass of weight 0: each gathers weights from all ranks, so that all must make as many."""
        line, blocks = pack([[[0, 0]]])
        flat = Flat(line, Packed(blocks), [0], [0], [0.0], [0.0], ["idle"])
        objective(flat, self._tensor([0.0]), UpdateMetrics()).backward()

    def _over_ranks(self, shown: UpdateMetrics) -> UpdateMetrics:
        """Sums over all ranks: gradients in place, metrics returned."""
        import torch

        if self.ranks.size == 1:
            return shown
        if self.shared:  # their gradients were summed where they are owned
            return UpdateMetrics.merged(self.ranks.gather(shown))
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.ranks.sum([p.grad for p in self.parameters.values() if p.grad is not None])
        return UpdateMetrics.merged(self.ranks.gather(shown))

    def _normalisers(self, rows: Sequence[Row]) -> dict[str, float]:
        """Weight of each token of each rollout, over the whole step."""
        found = batch.rollouts(rows)
        counts = [sum(sum(row.mask) for row in part) for part in found.values()]
        kind = self.loss.aggregation if self.stage == "policy" else "token-mean"
        return dict(zip(found, weights(kind, counts, self.loss.length), strict=True))

    def _per_token(self, flat: Flat) -> Tensor:
        return self._tensor([self._weights[rollout] for rollout in flat.rollouts])

    def _tensor(self, values: Sequence[float]) -> Tensor:
        import torch

        like = next(iter(self.parameters.values()))
        kind = torch.float64 if like.dtype == torch.float64 else torch.float32
        return torch.tensor(values, dtype=kind, device=like.device)

    def _cross_entropy(self, flat: Flat, weight: Tensor, shown: UpdateMetrics) -> Tensor:
        now, entropy = forward(self.model.net, flat, 1.0)
        loss = -(now * weight).sum()
        shown.add(self.loss, self._tokens(flat, now, now.detach()), entropy, loss.item())
        return loss

    def _policy_loss(self, flat: Flat, weight: Tensor, shown: UpdateMetrics) -> Tensor:
        now, entropy = forward(self.model.net, flat, self.temperature)
        sampler = self._tensor(flat.sampler)
        tokens = self._tokens(flat, now, sampler)
        if self.loss.distill is not None:
            gap = gaps(self.loss.distill, self.model.net, self.model.tokenizer, flat, now, self.temperature)
            tokens = replace(tokens, advantage=tokens.advantage + self.loss.distill.weight * gap)
            shown.taught(gap)
        loss = (losses(self.loss, tokens) * weight).sum()
        shown.add(self.loss, tokens, entropy, loss.item())
        return loss

    def _tokens(self, flat: Flat, now: Tensor, sampler: Tensor) -> Tokens:
        """What the loss reads. With a sampler correction the ratio is to this step's own weights, which it starts
        at."""
        import torch

        index = {name: i for i, name in enumerate(dict.fromkeys(flat.rollouts))}
        return Tokens(
            now=now,
            old=now.detach() if self.stage == "policy" and self.loss.correction else sampler,
            sampler=sampler,
            advantage=self._tensor(flat.advantages),
            rollout=torch.tensor([index[name] for name in flat.rollouts], device=now.device),
            reference=self._reference(flat) if self.stage == "policy" and self.loss.kl else None,
        )

    def _reference(self, flat: Flat) -> Tensor:
        import torch

        here = {name: value.to(self.parameters[name].device) for name, value in self.reference.items()}
        with torch.no_grad(), swapped(self.parameters, here):
            return forward(self.model.net, flat, self.temperature)[0]

    def _clear(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def _apply(self, lr: float) -> float:
        """Clip, step, count; a gradient that is not finite is thrown away. Returns the norm before clipping."""
        import torch

        norm = float(whole(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.optim.clip)))
        if math.isfinite(norm):
            for group in self.optimiser.param_groups:
                group["lr"] = lr
            lend(self.parameters, self.masters)
            self.optimiser.step()
            settle(self.parameters, self.masters)
            if self.average and self.optim.ema is not None:
                average.move(self.average, self.masters, self.optim.ema)
            self.model.version += 1
        self._clear()
        return norm


def _learning(net: Any, optim: OptimConfig, shared: str | None) -> dict[str, Any]:
    """Parameters that learn, by name; prepares the network for it."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = trainable(net, optim)
    if optim.checkpointing:
        recompute.install(net)
    if shared is None:
        return found
    shard(net, shared)
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
