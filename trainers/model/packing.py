"""Packed training rows: a shared prefix once, the rows' continuations behind it, no padding in any matrix product.

Rows of one group begin with the same prompt, rows of a warm start with the same instructions. A *block* holds the
longest common prefix of its rows once and then each row's tail. A tail sees the prefix and itself, causally;
positions restart behind the prefix. So hidden states and gradients are those of separate rows (tested in float64), at
the cost of one prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

QUERIES = 128
"""Queries of a tail that are attended at a time: keys that come later are not even multiplied."""


@dataclass(frozen=True, slots=True)
class Block:
    """Shapes of one block in the packed line."""

    start: int
    """Index of its first token."""
    prefix: int
    """Tokens of the shared prefix; may be 0."""
    tails: tuple[int, ...]
    """Tokens of each row behind the prefix."""

    @property
    def size(self) -> int:
        return self.prefix + sum(self.tails)

    def places(self, row: int) -> list[int]:
        """Packed index of each token of a row."""
        begin = self.start + self.prefix + sum(self.tails[:row])
        return [*range(self.start, self.start + self.prefix), *range(begin, begin + self.tails[row])]

    def positions(self) -> list[int]:
        """Position of each token of the block in its own row."""
        return [*range(self.prefix), *(self.prefix + i for tail in self.tails for i in range(tail))]


def common(rows: Sequence[Sequence[int]]) -> int:
    """Length of the longest common prefix."""
    first, last = min(map(tuple, rows)), max(map(tuple, rows))
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def pack(blocks: Sequence[Sequence[Sequence[int]]]) -> tuple[list[int], tuple[Block, ...]]:
    """Token ids in one line, and its blocks. Each block is a list of rows of token ids; a tail may be empty."""
    line: list[int] = []
    shapes: list[Block] = []
    for rows in blocks:
        prefix = common(rows)
        shapes.append(Block(len(line), prefix, tuple(len(row) - prefix for row in rows)))
        line += rows[0][:prefix]
        for row in rows:
            line += row[prefix:]
    return line, tuple(shapes)


@dataclass(slots=True)
class Packed:
    """The layout of packed blocks. Also keeps keys and values when asked to (``keep``), for prompts that are
    prefilled."""

    blocks: tuple[Block, ...]
    keep: bool = False
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list[tuple["Tensor", "Tensor"]])
    """Per layer: keys and values, (kv heads, N, d)."""
    _masks: dict[tuple[int, int, int], Tensor] = field(default_factory=dict[tuple[int, int, int], "Tensor"])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """See :meth:`trainers.model.attention.Layout.attend`."""
        import torch

        if self.keep:
            self.kept.append((k, v))
        sizes = [size for block in self.blocks for size in (block.prefix, *block.tails)]
        pieces = zip(*(iter(x.split_with_sizes(sizes, 1)) for x in (q, k, v)), strict=True)
        out: list[Tensor] = []
        for block in self.blocks:
            prefix = next(pieces)
            tails = [next(pieces) for _ in block.tails]
            out.append(_causal(prefix[0], prefix[1], prefix[2], scale))
            out += self._tails(prefix[1:], [tail for tail in tails if tail[0].shape[1]], scale)
        return torch.cat(out)

    def _tails(self, prefix: tuple[Tensor, ...], tails: list[tuple[Tensor, ...]], scale: float) -> list[Tensor]:
        """Rows behind a prefix, padded to the longest only inside the attention."""
        import torch
        from torch.nn.functional import pad

        if not tails:
            return []
        sizes = [tail[0].shape[1] for tail in tails]
        longest, shared = max(sizes), prefix[0].shape[1]
        q, k, v = (
            torch.stack([pad(tail[i], (0, 0, 0, longest - size)) for tail, size in zip(tails, sizes, strict=True)])
            for i in range(3)
        )
        k, v = (
            torch.cat([p.expand(len(tails), *p.shape), own], 2) if shared else own
            for p, own in zip(prefix, (k, v), strict=True)
        )
        parts = [self._queries(q, k, v, begin, shared, scale) for begin in range(0, longest, QUERIES)]
        return [row[:size] for row, size in zip(torch.cat(parts, 1).unbind(), sizes, strict=True)]

    def _queries(self, q: Tensor, k: Tensor, v: Tensor, begin: int, shared: int, scale: float) -> Tensor:
        """A slice of the queries of padded tails, against no more keys than it can see; (R, n, heads, d)."""
        from torch.nn.functional import scaled_dot_product_attention

        rows, heads, longest, width = q.shape
        kv, end = k.shape[1], min(begin + QUERIES, longest)
        # Query heads that share keys become further queries of one head: keys and values need not be repeated.
        folded = q[:, :, begin:end].reshape(rows, kv, -1, width)
        keys, values = (x[:, :, : shared + end] for x in (k, v))
        mask = self._mask(shared + begin, end - begin, heads // kv, q)
        out = scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=scale)
        return out.view(rows, heads, end - begin, width).transpose(1, 2)

    def _mask(self, seen: int, count: int, repeat: int, like: Tensor) -> Tensor:
        """(repeat * count, seen + count), additive: everything before, and causally the queries' own positions."""
        import torch

        key = (seen, count, repeat)
        if key not in self._masks:
            own = torch.full((count, count), float("-inf"), dtype=like.dtype, device=like.device).triu(1)
            self._masks[key] = torch.cat([own.new_zeros(count, seen), own], 1).repeat(repeat, 1)
        return self._masks[key]


def _causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Plain causal attention of one prefix: (heads, P, d) and (kv heads, P, d) -> (P, heads, d)."""
    from torch.nn.functional import scaled_dot_product_attention

    if not q.shape[1]:
        return q.transpose(0, 1)
    repeat = q.shape[0] // k.shape[0]
    k, v = (x.repeat_interleave(repeat, 0) for x in (k, v))
    return scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, scale=scale)[0].transpose(0, 1)
