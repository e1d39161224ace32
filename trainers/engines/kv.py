"""Keys and values of a wave: a group's prompt once, each rollout's own tokens in a slot that it keeps between turns.

A rollout sees the first ``seen`` tokens of its group's prefix and then its own tokens. The prefixes of all groups are
one padded tensor, the own tokens are one tensor of slots; both are attended to without copying, the scores are joined
before the softmax. Active rollouts occupy the first slots: a finished one is swapped behind them, so every product
works on active rows only. A context that does not continue what is cached (a fork) keeps the common part and
recomputes the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from agent.trajectory import Key
from trainers.engines.batcher import Ask
from trainers.model.attention import hidden
from trainers.model.packing import Packed, common, pack

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 128
"""Tokens of one rollout that are prefilled at a time; bounds the scores in memory."""
PREFILL = 4096
"""Tokens of prompts that are prefilled at a time."""
GROW = 64
"""Slots grow by multiples of this many tokens."""


@dataclass(slots=True)
class Rollout:
    """What is cached of one episode."""

    key: Key
    group: int
    seen: int
    """Tokens of the group's prefix that are its own beginning."""
    own: list[int] = field(default_factory=list[int])
    """Token ids whose keys and values are in its slot."""
    pending: list[int] = field(default_factory=list[int])
    """Token ids that are known and not computed yet."""

    @property
    def position(self) -> int:
        return self.seen + len(self.own)


class Cache:
    """The cache of one wave. Not thread-safe: only the engine's worker touches it."""

    def __init__(self, net: Any) -> None:
        config = net.config
        self.net = net
        self.heads = int(config.num_attention_heads)
        self.kv = int(config.num_key_value_heads)
        self.width = int(getattr(config, "head_dim", None) or config.hidden_size // self.heads)
        self.layers = int(config.num_hidden_layers)
        self.slots: list[Rollout] = []
        self.active = 0
        self.version: int | None = None
        """Weights that computed what is cached."""
        self._prefixes: list[list[int]] = []
        self._groups: dict[tuple[int, int, int], int] = {}
        self._prefix: Tensor = self._new(0, 0)
        self._own: Tensor = self._new(0, 0)

    def admit(self, asks: Sequence[Ask]) -> None:
        """Let the asking episodes join the active ones, behind them and in this order, with their new tokens
        pending."""
        known = [rollout.key for rollout in self.slots]
        self._open([ask for ask in asks if ask.key not in known])
        for ask in asks:
            self._continue(self.slots[self._place(ask.key)], ask.context)
        self._reserve(0)
        for ask in asks:
            self._swap(self._place(ask.key), self.active)
            self.active += 1

    def refresh(self, version: int) -> bool:
        """Forget everything when the weights are not those that computed it; returns whether they were not."""
        stale = self.version not in (version, None)
        if stale:
            self.slots, self.active, self._prefixes, self._groups = [], 0, [], {}
            self._prefix, self._own = self._new(0, 0), self._new(0, 0)
        self.version = version
        return stale

    def drop(self, key: Key) -> None:
        """Free the slot of an episode that ended and is not active."""
        if any(rollout.key == key for rollout in self.slots):
            self._swap(self._place(key), len(self.slots) - 1)
            self.slots.pop()

    def retire(self, slot: int) -> None:
        """Move an active slot behind the active ones: its turn is complete. The last active one takes its place."""
        self.active -= 1
        self._swap(slot, self.active)

    def advance(self) -> Tensor:
        """Compute all pending tokens of the active rollouts; final hidden state of the last one of each, (active,
        width)."""
        rollouts = self.slots[: self.active]
        last: list[Any] = [None] * len(rollouts)
        while any(rollout.pending for rollout in rollouts):
            for slot, state in self._chunk(rollouts):
                last[slot] = state
        import torch

        return torch.stack(last)

    def _chunk(self, rollouts: Sequence[Rollout]) -> Iterator[tuple[int, Tensor]]:
        import torch

        parts = [rollout.pending[:CHUNK] for rollout in rollouts]
        self._reserve(max(len(rollout.own) + len(part) for rollout, part in zip(rollouts, parts, strict=True)))
        step = Step(self, [len(part) for part in parts])
        ids = torch.tensor([i for part in parts for i in part], device=self._own.device)
        ends = list(accumulate(len(part) for part in parts))
        slots = [slot for slot, part in enumerate(parts) if part]
        wanted = torch.tensor([ends[slot] - 1 for slot in slots], device=self._own.device)
        states = hidden(self.net, ids, step.positions, step, wanted)
        for rollout, part in zip(rollouts, parts, strict=True):
            rollout.own += part
            rollout.pending = rollout.pending[CHUNK:]
        yield from zip(slots, states, strict=True)

    def _open(self, asks: Sequence[Ask]) -> None:
        """Slots for new episodes; the prompts that they share are computed once."""
        fresh: dict[tuple[int, int, int], list[Ask]] = {}
        for ask in asks:
            fresh.setdefault(ask.order[:3], []).append(ask)
        new: list[list[int]] = []
        for name, members in fresh.items():
            if name not in self._groups:
                self._groups[name] = len(self._prefixes) + len(new)
                shared = common([ask.context for ask in members])
                new.append(list(members[0].context[: min(shared, min(len(ask.context) for ask in members) - 1)]))
            self.slots += [Rollout(ask.key, self._groups[name], -1) for ask in members]
        self._prefill(new)

    def _continue(self, rollout: Rollout, context: Sequence[int]) -> None:
        """Keep what the context shares with the cache (all but its last token at most), leave the rest pending."""
        prefix = self._prefixes[rollout.group]
        if rollout.seen < 0:
            rollout.seen = min(common([prefix, context]), len(context) - 1)
        seen = min(common([prefix[: rollout.seen], context]), len(context) - 1)
        rest = context[seen:]
        keep = min(common([rollout.own, rest]), len(rest) - 1) if seen == rollout.seen else 0
        rollout.seen, rollout.own, rollout.pending = seen, rollout.own[:keep], list(rest[keep:])

    def _place(self, key: Key) -> int:
        return next(i for i, rollout in enumerate(self.slots) if rollout.key == key)

    def _swap(self, a: int, b: int) -> None:
        if a == b:
            return
        self.slots[a], self.slots[b] = self.slots[b], self.slots[a]
        used = max(len(self.slots[a].own), len(self.slots[b].own))
        first = self._own[:, :, a, :, :used].clone()
        self._own[:, :, a, :, :used] = self._own[:, :, b, :, :used]
        self._own[:, :, b, :, :used] = first

    def _new(self, rows: int, tokens: int) -> Tensor:
        import torch

        like = next(self.net.parameters())
        shape = (self.layers, 2, rows, self.kv, tokens, self.width)
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def _reserve(self, tokens: int) -> None:
        """A slot for everybody with room for so many own tokens; grows by half, so that copies stay rare."""
        rows, size = self._own.shape[2], self._own.shape[4]
        if len(self.slots) > rows or tokens > size:
            wanted = max(tokens, size * 3 // 2) if tokens > size else size
            grown = self._new(max(rows, len(self.slots)), -(-wanted // GROW) * GROW)
            used = min(size, max((len(rollout.own) for rollout in self.slots), default=0))
            grown[:, :, :rows, :, :used] = self._own[..., :used, :]
            self._own = grown

    def _prefill(self, prompts: Sequence[list[int]]) -> None:
        """Keys and values of new prefixes, several prompts at a time."""
        longest = max((len(p) for p in (*self._prefixes, *prompts)), default=0)
        old, groups = self._prefix, len(self._prefixes)
        self._prefix = self._new(groups + len(prompts), longest)
        self._prefix[:, :, :groups, :, : old.shape[4]] = old
        self._prefixes += prompts
        batch: list[int] = []
        for group in range(groups, len(self._prefixes)):
            if batch and sum(len(self._prefixes[g]) for g in (*batch, group)) > PREFILL:
                self._compute(batch)
                batch = []
            batch.append(group)
        self._compute(batch)

    def _compute(self, groups: Sequence[int]) -> None:
        import torch

        groups = [group for group in groups if self._prefixes[group]]
        if not groups:
            return
        line, blocks = pack([[self._prefixes[group]] for group in groups])
        layout = Packed(blocks, keep=True)
        positions = [position for block in blocks for position in block.positions()]
        device = self._prefix.device
        ids, places = torch.tensor(line, device=device), torch.tensor(positions, device=device)
        hidden(self.net, ids, places, layout, places[:1])
        for layer, pair in enumerate(layout.kept):
            for which, tensor in enumerate(pair):
                for group, block in zip(groups, blocks, strict=True):
                    part = tensor[:, block.start : block.start + block.size]
                    self._prefix[layer, which, group, :, : block.size] = part


class Step:
    """The layout of new tokens of the active rollouts of a cache; writes their keys and values into the slots."""

    def __init__(self, cache: Cache, sizes: Sequence[int]) -> None:
        import torch

        self.cache = cache
        rollouts = cache.slots[: cache.active]
        device = cache._own.device

        def on(values: Any) -> Tensor:
            return torch.tensor(values, device=device)

        self.longest = max(sizes)
        self.even = min(sizes) == self.longest
        begins = [len(rollout.own) for rollout in rollouts]
        self.tokens = max(b + s for b, s in zip(begins, sizes, strict=True))
        self.positions = on([r.position + i for r, size in zip(rollouts, sizes, strict=True) for i in range(size)])
        self.rows = on([row for row, size in enumerate(sizes) for _ in range(size)])
        self.places = on([b + i for b, size in zip(begins, sizes, strict=True) for i in range(size)])
        starts = [sum(sizes[:row]) for row in range(len(sizes))]
        self.spread = on(
            [
                start + min(i, max(size - 1, 0))
                for start, size in zip(starts, sizes, strict=True)
                for i in range(self.longest)
            ]
        ).clamp_(max=max(len(self.positions) - 1, 0))
        self.flat = on([row * self.longest + i for row, size in enumerate(sizes) for i in range(size)])
        self._group(rollouts, on)
        self._mask(rollouts, begins, on)

    def _group(self, rollouts: Sequence[Rollout], on: Any) -> None:
        """Rows by group, padded to the largest group: (G, m) rows, and the flat place of each row in that table."""
        members: dict[int, list[int]] = {}
        for row, rollout in enumerate(rollouts):
            members.setdefault(rollout.group, []).append(row)
        most = max(len(rows) for rows in members.values())
        self.groups = on(list(members))
        self.all = list(members) == list(range(self.cache._prefix.shape[2]))
        self.table = on([rows + [rows[0]] * (most - len(rows)) for rows in members.values()])
        place = {row: g * most + i for g, rows in enumerate(members.values()) for i, row in enumerate(rows)}
        self.place = on([place[row] for row in range(len(rollouts))])
        self.shared = max(rollout.seen for rollout in rollouts)

    def _mask(self, rollouts: Sequence[Rollout], begins: Sequence[int], on: Any) -> None:
        """(B, 1, 1, longest, shared + tokens), additive."""
        import torch

        like = self.cache._own
        seen = on([rollout.seen for rollout in rollouts])[:, None, None]
        first = torch.arange(self.shared, device=like.device)[None, None] >= seen
        until = on(list(begins))[:, None, None] + torch.arange(self.longest, device=like.device)[None, :, None]
        second = torch.arange(self.tokens, device=like.device)[None, None] > until
        hide = torch.cat([first.expand(-1, self.longest, -1), second], 2)[:, None, None]
        self.mask = torch.zeros(hide.shape, dtype=like.dtype, device=like.device).masked_fill_(hide, float("-inf"))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """See :meth:`trainers.model.attention.Layout.attend`."""
        cache = self.cache
        own = cache._own[layer]
        own[0, self.rows, :, self.places] = k.transpose(0, 1)
        own[1, self.rows, :, self.places] = v.transpose(0, 1)
        keys, values = own[:, : cache.active, :, : self.tokens]
        repeat = cache.heads // cache.kv
        q = q.transpose(0, 1) * scale
        if not self.even:
            q = q.index_select(0, self.spread)
        # (B, kv, repeat * longest, d): query heads that share keys are further queries of one head.
        q = q.view(cache.active, self.longest, cache.kv, repeat, -1).permute(0, 2, 3, 1, 4).flatten(2, 3)
        out = self._join(layer, q, q @ keys.transpose(2, 3), values)
        out = out.view(cache.active, cache.heads, self.longest, -1).transpose(1, 2).flatten(0, 1)
        return out if self.even else out.index_select(0, self.flat)

    def _join(self, layer: int, q: Tensor, scores: Tensor, values: Tensor) -> Tensor:
        """Softmax over the shared prefix and the own tokens together; (B, kv, repeat * longest, d)."""
        import torch

        cache = self.cache
        rows, kv, queries, width = q.shape
        prefix = cache._prefix[layer] if self.all else cache._prefix[layer].index_select(1, self.groups)
        keys, shared = prefix[..., : self.shared, :]
        grouped = q.index_select(0, self.table.flatten()).view(*self.table.shape, kv, queries, width)
        grouped = grouped.transpose(1, 2).flatten(2, 3)
        before = (grouped @ keys.transpose(2, 3)).view(len(self.groups), kv, -1, queries, self.shared)
        before = before.transpose(1, 2).flatten(0, 1).index_select(0, self.place)
        joined = torch.cat([before, scores], -1).view(rows, kv, -1, self.longest, self.shared + self.tokens)
        weights = torch.softmax(joined + self.mask, -1).view(rows, kv, queries, -1)
        left = weights[..., : self.shared].index_select(0, self.table.flatten())
        left = left.view(*self.table.shape, kv, queries, self.shared).transpose(1, 2).flatten(2, 3)
        prompt = (left @ shared).view(len(self.groups), kv, -1, queries, width).transpose(1, 2).flatten(0, 1)
        return weights[..., self.shared :] @ values + prompt.index_select(0, self.place)
