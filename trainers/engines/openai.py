"""Any endpoint with OpenAI's chat completions, for evaluation: text in, text out.

The bookkeeping is that of a model here, so prompts, windows and budgets are counted with the tokenizer that the config
names. A context is cut into messages at its control tokens, which data can never spell. The endpoint gives no token ids
and no log-probabilities of its own sampling: the ids are those of its text in our tokenizer and the log-probabilities
are unknown (NaN), so nothing can be learned from such an episode; training is refused at start.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.chat import Chat
from agent.policy import Message, Policy, Sampled
from agent.trajectory import Key
from trainers.engine_config import OpenAIConfig
from trainers.engines.http import Client, ServerError
from trainers.engines.vllm import seed

TRIES = 6
FIRST_S = 1.0
"""Seconds before the second try; doubled before each further one."""
AGAIN = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""


@dataclass(slots=True)
class OpenAIEngine:
    """See :class:`trainers.protocol.Engine`."""

    config: OpenAIConfig
    chat: Chat
    first_s: float = FIRST_S
    version: int = 0
    client: Client = field(init=False)
    room: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        key = os.environ.get(self.config.key)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.client = Client(self.config.url, self.config.request_s, headers, name="endpoint")
        self.room = asyncio.Semaphore(self.config.at_once)

    def policy(self, *, temperature: float) -> Policy:
        """A policy over the endpoint's model."""
        return ChatPolicy(self, temperature)

    async def complete(self, body: dict[str, Any]) -> Any:
        """The first choice of a chat completion. Raises :class:`trainers.engines.http.ServerError`."""
        wait = self.first_s
        for _ in range(TRIES - 1):
            try:
                return await self._once(body)
            except ServerError as error:
                if error.status not in AGAIN:
                    raise
            await asyncio.sleep(wait)
            wait *= 2
        return await self._once(body)

    async def _once(self, body: dict[str, Any]) -> Any:
        async with self.room:
            answer = await self.client.post("/chat/completions", body)
        try:
            choice = answer["choices"][0]
            return str(choice["message"]["content"] or ""), choice.get("finish_reason") == "length"
        except (KeyError, IndexError, TypeError) as error:
            raise ServerError(
                f"the endpoint at {self.client.url} answered with no completion: {str(answer)[:200]}"
            ) from error

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class ChatPolicy:
    """See :class:`agent.policy.Policy`."""

    engine: OpenAIEngine
    temperature: float

    @property
    def name(self) -> str:
        return self.engine.config.model

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of the first context."""
        return self.engine.chat.open(messages)

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        """Ids that follow an answer."""
        return self.engine.chat.reply(messages, cut)

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        """One answer."""
        config, chat = self.engine.config, self.engine.chat
        body: dict[str, Any] = {
            "model": config.model,
            "messages": messages(chat, context),
            "temperature": self.temperature,
            "max_tokens": max(1, max_tokens),
            "seed": seed(key, turn) % 2**31,
        }
        body |= {"top_p": config.top_p} if config.top_p < 1 else {}
        body |= {"top_k": config.top_k} if config.top_k else {}
        text, cut = await self.engine.complete(body)
        ids = chat.answer(text)[: -1 if cut else None] or chat.answer("")
        return Sampled(ids=ids, logprobs=(math.nan,) * len(ids), text=text, cut=ids[-1] != chat.tokenizer.im_end)


def messages(chat: Chat, context: Sequence[int]) -> list[dict[str, str]]:
    """The messages of a context; the header of the turn that comes next is none."""
    tokenizer = chat.tokenizer
    found: list[dict[str, str]] = []
    begin: int | None = None
    for place, token in enumerate(context):
        if token == tokenizer.im_start:
            begin = place + 1
        elif token == tokenizer.im_end and begin is not None:
            role, _, text = tokenizer.decode(context[begin:place]).partition("\n")
            found.append({"role": role, "content": text})
            begin = None
    return found
