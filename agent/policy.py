"""The policy protocol: token ids in, token ids and log-probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from agent.trajectory import Key


class Message(BaseModel):
    """One chat message. Its text is data: special tokens in it are encoded as plain text, never as control tokens."""

    model_config = ConfigDict(frozen=True)

    role: Literal["system", "user"]
    text: str


class Sampled(BaseModel):
    """One sample of one turn."""

    model_config = ConfigDict(frozen=True)

    ids: tuple[int, ...]
    """Sampled ids, the end-of-turn token included when it was drawn."""
    logprobs: tuple[float, ...]
    """At the sampler's temperature; same length as ``ids``. NaN where unknown: such a token carries no loss."""
    text: str
    """Decoded without the end-of-turn token."""
    cut: bool
    """Ended by length."""
    version: int = 0
    """Weights that drew it; the oldest of them when they changed on the way."""
    spans: tuple[tuple[int, int], ...] = ()
    """Runs of tokens as (version, tokens) when the weights changed on the way; ``()``: all by ``version``."""


class Policy(Protocol):
    """What plays an episode. Scripted policies are real doubles of it: same bookkeeping, no model."""

    @property
    def name(self) -> str:
        """Name with weights, for people: ``SmolLM2-135M-Instruct@v3``."""
        ...

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of the first context, up to and including the header of the assistant's turn."""
        ...

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        """Token ids that follow a sampled turn: close it (unless its end token was sampled, ``cut`` false), add
        ``messages``, open the assistant's next turn. Never re-tokenises what came before."""
        ...

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        """Draw one turn. Deterministic in (weights, context, key, turn). Raises ``PolicyError`` when the engine
        fails."""
        ...


@dataclass(slots=True)
class Around:
    """A policy around another one: what it does not say itself, ``inner`` says."""

    inner: Policy

    @property
    def name(self) -> str:
        return self.inner.name

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self.inner.open(messages)

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        return self.inner.reply(messages, cut)

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        return await self.inner.sample(context, key, turn, max_tokens)


class PolicyError(Exception):
    """The engine behind a policy failed: infrastructure, not the model's own fault."""
