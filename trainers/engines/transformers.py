"""The engine in this process: samples with the weights that learn, on a CPU or one GPU.

One worker thread generates, batch after batch in the order of arrival; torch releases the interpreter, so sandboxes are
served meanwhile. A batch is prefilled (only what is new), then every active row draws a token a step until its end of
turn or its limit; finished rows leave the batch at once and are delivered at once. Logits exist for last positions
only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from agent.chat import Chat
from agent.policy import Message, Sampled
from agent.trajectory import Key
from trainers.engines.batcher import Ask
from trainers.engines.head import Head
from trainers.engines.session import Session
from trainers.engines.stream import Deliver, Progress, Stream
from trainers.model.load import Model


class TransformersEngine:
    """See :class:`trainers.protocol.Engine`. ``wave`` is what :attr:`trainers.components.Machine.wave` wants."""

    def __init__(self, model: Model, threads: int = 1) -> None:
        self.model = model
        self.chat = Chat(model.tokenizer)
        self._head = Head(model.net.lm_head)
        self._threads = threads
        self._executor = ThreadPoolExecutor(1, "engine")

    @property
    def version(self) -> int:
        """How often the weights were updated."""
        return self.model.version

    def policy(self, *, temperature: float) -> ModelPolicy:
        """Samples alone, each request a batch of its own: for single episodes. Groups want :meth:`wave`."""
        return ModelPolicy(self, partial(self._alone, temperature))

    def wave(self, size: int, temperature: float) -> OpenWave:
        """Samples ``size`` episodes together."""
        session = Session(self.model, self._head, temperature)
        stream = Stream(size, partial(self._segment, session), partial(self._executor.submit, session.drop))
        return OpenWave(ModelPolicy(self, stream.ask), stream)

    def close(self) -> None:
        """Stop the worker when the batch that runs is through."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _alone(self, temperature: float, ask: Ask) -> Sampled:
        wave = self.wave(1, temperature)
        try:
            return await wave.stream.ask(ask)
        finally:
            wave.leave(ask.key)

    async def _segment(
        self, session: Session, asks: Sequence[Ask], step: int, until: int | None, deliver: Deliver
    ) -> Progress:
        """Decode in the worker, behind what other waves asked for before."""
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._executor, self._work, session, asks, step, until, deliver)

    def _work(self, session: Session, asks: Sequence[Ask], step: int, until: int | None, deliver: Deliver) -> Progress:
        import torch

        with torch.no_grad(), self.model.lock:
            torch.set_num_threads(self._threads)
            return session.run(asks, step, until, deliver)


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
    stream: Stream

    def leave(self, key: Key) -> None:
        """This episode samples no more; its keys and values are freed."""
        self.stream.leave(key)
