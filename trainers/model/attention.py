"""Attention over packed tokens: one function for sampling and learning, for every model that takes attention functions.

A forward pass gets all its tokens in one line, ``input_ids`` of shape (1, N), without padding: every matrix product
works on real tokens only. Who sees whom is known to a *layout*, which travels through the model as a keyword argument
and answers :meth:`Layout.attend` in each layer. Two exist: :class:`trainers.model.packing.Packed` (a shared prefix and
rows that continue it) and :class:`trainers.engines.kv.Step` (rows that continue what is cached).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from trainers.model.trim import trims

if TYPE_CHECKING:
    from torch import Tensor

NAME = "repodojo"


class Layout(Protocol):
    """Knows which packed token may see which keys."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """``q`` (heads, N, d), ``k`` and ``v`` (kv heads, N, d) of one layer -> (N, heads, d)."""
        ...


def install(net: Any) -> None:
    """Make a model use :func:`attention`. Its forward passes then need ``layout=...``."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention)
    net.set_attn_implementation(NAME)


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scaling: float, **rest: Any
) -> tuple[Tensor, None]:
    """What transformers calls in every layer; it makes no mask for an attention that it does not know."""
    layout: Layout = rest["layout"]
    return layout.attend(module.layer_idx, query[0], key[0], value[0], scaling)[None], None


def hidden(net: Any, ids: Tensor, positions: Tensor, layout: Layout, wanted: Tensor) -> Tensor:
    """Final hidden states, (M, width), at the M packed indices ``wanted``, of token ids at positions (both (N,))."""
    if net.config._attn_implementation != NAME:
        raise RuntimeError(f"the model's attention is {net.config._attn_implementation}, which sees across packed rows")
    out = net.base_model(
        input_ids=ids[None], position_ids=positions[None], use_cache=False, layout=layout, wanted=wanted
    ).last_hidden_state[0]
    return out if trims(net) else out.index_select(0, wanted)
