"""The shape of a model, from which its memory and time follow: out of ``config.json``, or known by name. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.config import EMBEDDED
from trainers.model.tokenizer import ModelError


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder of the Llama or Qwen family, dense or with experts."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv: int
    """Heads of keys and values."""
    head: int
    """Width of a head."""
    inner: int
    """Width inside the MLP, or inside one expert."""
    experts: int = 0
    """0: a dense MLP."""
    active: int = 0
    """Experts that a token goes through."""
    tied: bool = False
    """Embedding and head are one matrix."""

    @property
    def attention(self) -> int:
        """Parameters of the attention of one layer."""
        return self.hidden * self.head * (2 * self.heads + 2 * self.kv)

    @property
    def layer(self) -> int:
        """Parameters of one layer, its matrices and two norms."""
        mlps = max(1, self.experts)
        return self.attention + 3 * self.hidden * self.inner * mlps + self.hidden * self.experts + 2 * self.hidden

    @property
    def embedding(self) -> int:
        """Parameters of the embedding; of the head as many again, unless tied."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def used(self) -> int:
        """Parameters that a token is multiplied with: matrices of its experts, and the head."""
        mlps = self.active if self.experts else 1
        return self.layers * (self.attention + 3 * self.hidden * self.inner * mlps) + self.embedding

    def lora(self, rank: int, layers: int) -> int:
        """Parameters of adapters on the seven matrices of the last ``layers`` layers."""
        q, kv = self.heads * self.head, self.kv * self.head
        sides = 2 * (self.hidden + q) + 2 * (self.hidden + kv) + 3 * max(1, self.experts) * (self.hidden + self.inner)
        return rank * sides * layers


KNOWN = {
    "tiny": Shape(258, 64, 4, 4, 2, 16, 128, tied=True),
    EMBEDDED: Shape(49_152, 576, 30, 9, 3, 64, 1536, tied=True),
    "qwen2.5-7b": Shape(152_064, 3584, 28, 28, 4, 128, 18_944),
    "qwen2.5-coder-7b": Shape(152_064, 3584, 28, 28, 4, 128, 18_944),
    "llama-3.1-8b": Shape(128_256, 4096, 32, 32, 8, 128, 14_336),
    "qwen3-8b": Shape(151_936, 4096, 36, 32, 8, 128, 12_288),
    "qwen3-14b": Shape(151_936, 5120, 40, 40, 8, 128, 17_408),
    "qwen2.5-coder-32b": Shape(152_064, 5120, 64, 40, 8, 128, 27_648),
    "qwen3-32b": Shape(151_936, 5120, 64, 64, 8, 128, 25_600),
    "qwen3-30b-a3b": Shape(151_936, 2048, 48, 32, 4, 128, 768, experts=128, active=8),
}
"""Architectures by the lower-case names of their folders, without ``-instruct``: a plan needs no weights."""


def shape(name: str) -> Shape:
    """The shape of the model that ``model.name`` names. Raises :class:`ModelError` when neither is known."""
    file = Path(name).expanduser() / "config.json"
    if file.is_file():
        return read(json.loads(file.read_text()), str(file))
    last = Path(name).name.lower()
    found = KNOWN.get(last) or KNOWN.get(last.removesuffix("-instruct"))
    if found is None:
        raise ModelError(
            f"nothing is known of the model {name}: there is no {file}, and its name is none of {', '.join(KNOWN)}"
        )
    return found


def read(config: Mapping[str, Any], where: str) -> Shape:
    """The shape in a model's ``config.json``. Raises :class:`ModelError` when it is of another family."""
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        experts = config.get("num_experts") or config.get("num_local_experts") or 0
        return Shape(
            vocabulary=config["vocab_size"],
            hidden=hidden,
            layers=config["num_hidden_layers"],
            heads=heads,
            kv=config.get("num_key_value_heads") or heads,
            head=config.get("head_dim") or hidden // heads,
            inner=(experts and config.get("moe_intermediate_size")) or config["intermediate_size"],
            experts=experts,
            active=config.get("num_experts_per_tok", 0) if experts else 0,
            tied=bool(config.get("tie_word_embeddings")),
        )
    except KeyError as error:
        raise ModelError(f"{where} has no {error}: a plan needs a decoder of the Llama or Qwen family") from None
