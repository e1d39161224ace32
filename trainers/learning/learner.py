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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainers.config import LossConfig, OptimConfig, SftConfig
from trainers.estimators.reinforce import estimated
from trainers.learning import average, batch, state_files
from trainers.learning.optimiser import Adam, Optimiser
from trainers.learning.ranks import Alone, Ranks
from trainers.learning.schedule import policy_rate, rate
from trainers.learning.sharded import alike, shard, state, whole
from trainers.learning.state_files import Counters, Saved
from trainers.learning.teacher import gaps
from trainers.learning.update_metrics import UpdateMetrics
from trainers.losses.aggregate import weights
from trainers.losses.build import dead_without_credit, losses
from trainers.losses.tokens import Tokens
from trainers.model import recompute
from trainers.model.forward import Flat, flatten, forward
from trainers.model.load import Model
from trainers.model.packing import Packed, pack
from trainers.model.trainable import swapped, trainable
from trainers.protocol import Row

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
        zero: int | None = None,
    ) -> None:
        """``temperature`` is the sampler's: log-probabilities are taken at it. ``shared`` is the device on which the
        weights are shared out over the ranks (:mod:`trainers.learning.sharded`), ``zero`` the stage in which DeepSpeed
        shares the rest out (:mod:`trainers.learning.zero`)."""
        self.ranks: Ranks = ranks or Alone()
        self.threads = threads
        self.model, self.optim, self.loss, self.sft = model, optim, loss, sft
        self.temperature = temperature
        self.shared = shared is not None
        self.parameters = _learning(model.net, optim, shared)
        self.imitated = 0
        """Supervised steps made."""
        self.stepped = 0
        """Policy-gradient steps made."""
        self.stage: Stage = "sft"
        self.optimiser: Optimiser = _optimiser(model.net, self.parameters, optim, self.ranks, self.shared, zero)
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
        return self.optimiser.gradient()

    def averaged(self) -> AbstractContextManager[None]:
        """The model with the averaged weights, as long as it lasts and where there are any. Nothing may learn
        meanwhile."""
        return average.lent(self.parameters, self.average if self.optim.ema is not None else {})

    def save(self, folder: Path) -> None:
        """Trainable weights, optimiser and counters into an existing folder: the same for any number of ranks, of which
        each gives its part of what is shared out and rank 0 writes. There is no random state: nothing in a step
        draws."""
        saved = Saved(
            weights=self._kept(self.optimiser.weights()),
            moments=self._kept(self.optimiser.moments()),
            reference=self._kept((name, whole(value)) for name, value in self.reference.items()),
            counters=Counters(self.stage, self.imitated, self.stepped, self.model.version),
        )
        if not self.ranks.rank:
            state_files.save(saved, folder)
            average.save(self.average, folder)

    def _kept(self, parts: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        """Given by all ranks, kept by rank 0."""
        return {name: value.contiguous() for name, value in parts if not self.ranks.rank}

    def load(self, folder: Path) -> None:
        """Bit for bit what was saved. Raises :class:`trainers.model.tokenizer.ModelError`; then nothing is changed."""
        with self.model.lock:
            saved = state_files.load(folder, {name: tuple(p.shape) for name, p in self.parameters.items()})
            self._enter(saved.counters.stage)
            self.optimiser.load(saved.weights, saved.moments)
            self.imitated, self.stepped = saved.counters.imitated, saved.counters.stepped
            self.model.version = saved.counters.version
        self.average = average.load(folder, self.optimiser.masters) if self.optim.ema is not None else {}
        placed = {name: alike(value, self.parameters[name]) for name, value in saved.reference.items()}
        self.reference = self._parked(placed)

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
        self.optimiser.restart()
        if stage == "policy" and self.loss.kl:
            self.reference = self._parked({name: p.detach().clone() for name, p in self.parameters.items()})
        if stage == "policy" and self.optim.ema is not None:
            self.average = average.start(self.optimiser.masters)

    def _parked(self, reference: dict[str, Tensor]) -> dict[str, Tensor]:
        """Where the reference waits for its use."""
        away = self.loss.kl is not None and self.loss.kl.offload
        return {name: value.cpu() for name, value in reference.items()} if away else reference

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
        passes = max(self.ranks.gather(len(live))) if self.optimiser.even else len(live)
        for index in range(passes):
            loss = (
                objective(live[index], self._per_token(live[index]), shown)
                if index < len(live)
                else self._idle(objective)
            )
            self.optimiser.backward(loss, last=index == passes - 1)
        self.optimiser.reduce()
        return UpdateMetrics.merged(self.ranks.gather(shown)) if self.ranks.size > 1 else shown

    def _idle(self, objective: Objective) -> Tensor:
        """The loss of a pass of weight 0, for a rank that has fewer of them than another."""
        line, blocks = pack([[[0, 0]]])
        flat = Flat(line, Packed(blocks), [0], [0], [0.0], [0.0], ["idle"])
        return objective(flat, self._tensor([0.0]), UpdateMetrics())

    def _normalisers(self, rows: Sequence[Row]) -> dict[str, float]:
        """Weight of each token of each rollout, over the whole step."""
        found = batch.rollouts(rows)
        counts = [sum(sum(row.mask) for row in part) for part in found.values()]
        kind = self.loss.aggregation if self.stage == "policy" else "token-mean"
        prompts = [part[0].group for part in found.values()]
        return dict(zip(found, weights(kind, counts, self.loss.length, prompts), strict=True))

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

    def _apply(self, lr: float) -> float:
        """Step and count; a gradient that is not finite is thrown away. Returns the norm before clipping."""
        norm = self.optimiser.step(lr)
        if math.isfinite(norm):
            if self.average and self.optim.ema is not None:
                average.move(self.average, self.optimiser.masters, self.optim.ema)
            self.model.version += 1
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


def _optimiser(
    net: Any, parameters: dict[str, Any], optim: OptimConfig, ranks: Ranks, shared: bool, zero: int | None
) -> Optimiser:
    if zero is None:
        return Adam(parameters, optim, ranks, shared)
    from trainers.learning.zero import Zero

    return Zero(net, parameters, optim, zero)
