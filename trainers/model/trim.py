"""The last layer only where its output is read.

Keys and values of the last layer are needed at every position, everything behind its attention only where a token is
to be predicted: about a third of the positions of a warm-start batch, one a row while sampling.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

KNOWN = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")
"""Pre-norm layers of the form x + attention(norm(x)), then x + mlp(norm(x))."""


def install(net: Any) -> None:
    """Let the last layer of a known kind return only the positions that its ``wanted`` argument names."""
    last = net.base_model.layers[-1]
    if type(last).__name__ in KNOWN:
        last.forward = MethodType(_forward, last)


def trims(net: Any) -> bool:
    """Whether :func:`install` took. Sharing weights out renames the classes of layers."""
    return type(net.base_model.layers[-1]).__name__.removeprefix("FSDP") in KNOWN


def _forward(layer: Any, hidden_states: Tensor, **rest: Any) -> Tensor:
    """(1, N, width) -> (1, M, width) for ``wanted`` of M positions."""
    attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **rest)
    x = (hidden_states + attended).index_select(1, rest["wanted"])
    return x + layer.mlp(layer.post_attention_layernorm(x))
