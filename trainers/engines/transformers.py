"""The engine in this process: samples with the weights that learn, on a CPU or one GPU.

One worker thread generates, batch after batch in the order of arrival; torch releases the interpreter, so sandboxes are
served meanwhile. A batch is prefilled (only what is new), then every active row draws a token a step until its end of
turn or its limit; finished rows leave the batch at once and are delivered at once. Logits exist for last positions
only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agent.chat import Chat
from agent.policy import Message, Sampled
from agent.trajectory import Key
from trainers.engines.batcher import Ask, Deliver, Wave
from trainers.engines.draw import draw, uniform
from trainers.engines.head import Head
from trainers.engines.kv import Cache
from trainers.model import Model


@dataclass(slots=True)
class Draft:
    """A turn that is being sampled."""

    ask: Ask
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])

    def add(self, token: int, logprob: float) -> None:
        self.ids.append(token)
        self.logprobs.append(logprob)


class TransformersEngine:
    """See :class:`trainers.protocol.Engine`. ``wave`` is what :attr:`trainers.components.Machine.wave` wants."""

    def __init__(self, model: Model, threads: int = 1) -> None:
        self.model = model
        self.chat = Chat(model.tokenizer)
        self._head = Head(model.net.lm_head)
        self._threads = threads
        self.sampled = 0
        """Tokens drawn so far, for rates."""
        self._executor = ThreadPoolExecutor(1, "engine")

    @property
    def version(self) -> int:
        """How often the weights were updated."""
        return self.model.version

    def policy(self, *, temperature: float) -> ModelPolicy:
        """Samples alone, each request a batch of its own: for single episodes. Groups want :meth:`wave`."""
        return ModelPolicy(self, partial(self._alone, temperature))

    def wave(self, size: int, temperature: float) -> OpenWave:
        """Samples ``size`` episodes in lockstep."""
        cache = Cache(self.model.net)
        wave = Wave(size, partial(self._generate, cache, temperature), self._executor, partial(self._drop, cache))
        return OpenWave(ModelPolicy(self, wave.ask), wave)

    def close(self) -> None:
        """Stop the worker when the batch that runs is through."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _alone(self, temperature: float, ask: Ask) -> Sampled:
        wave = self.wave(1, temperature)
        try:
            return await wave.wave.ask(ask)
        finally:
            wave.leave(ask.key)

    def _drop(self, cache: Cache, key: Key) -> None:
        """In the worker, behind the batches that were asked for before."""
        self._executor.submit(cache.drop, key)

    def _generate(self, cache: Cache, temperature: float, asks: Sequence[Ask], deliver: Deliver) -> None:
        """One turn of a batch; in the worker thread."""
        import torch

        with torch.no_grad(), self.model.lock:
            torch.set_num_threads(self._threads)
            cache.refresh(self.version)
            indices = cache.admit(asks)
            drafts = [Draft(asks[i]) for i in indices]
            while drafts:
                self._token(cache, temperature, drafts)
                for slot in reversed([i for i, draft in enumerate(drafts) if self._complete(draft)]):
                    cache.retire(slot)
                    draft, index = drafts[slot], indices[slot]
                    drafts[slot], indices[slot] = drafts[-1], indices[-1]
                    del drafts[-1], indices[-1]
                    deliver(index, self._sample(draft))

    def _token(self, cache: Cache, temperature: float, drafts: Sequence[Draft]) -> None:
        """One more token of every draft."""
        logits = self._head(cache.advance())
        uniforms = [uniform(d.ask.key, d.ask.turn, len(d.ids)) for d in drafts] if temperature > 0 else []
        for draft, rollout, token, logprob in zip(
            drafts, cache.slots, *draw(logits, temperature, uniforms), strict=False
        ):
            draft.add(token, logprob)
            rollout.pending = [token]
        self.sampled += len(drafts)

    def _complete(self, draft: Draft) -> bool:
        return draft.ids[-1] == self.model.tokenizer.im_end or len(draft.ids) >= draft.ask.max_tokens

    def _sample(self, draft: Draft) -> Sampled:
        return Sampled(
            ids=tuple(draft.ids),
            logprobs=tuple(draft.logprobs),
            text=self.model.tokenizer.decode(draft.ids),
            cut=draft.ids[-1] != self.model.tokenizer.im_end,
            version=self.version,
        )


class ModelPolicy:
    """See :class:`agent.policy.Policy`."""

    def __init__(self, engine: TransformersEngine, ask: Callable[[Ask], Any]) -> None:
        self.name = f"{engine.model.name}@v{engine.version}"
        self._chat = engine.chat
        self._ask = ask

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of the first context."""
        return self._chat.open(messages)

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        """Ids that follow a sampled turn."""
        return self._chat.reply(messages, cut)

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        """One turn of at least one token."""
        return await self._ask(Ask(tuple(context), key, turn, max(1, max_tokens)))


@dataclass(slots=True)
class OpenWave:
    """See :class:`trainers.components.Wave`."""

    policy: ModelPolicy
    wave: Wave

    def leave(self, key: Key) -> None:
        """This episode samples no more; its keys and values are freed."""
        self.wave.leave(key)
