"""A vLLM server as an engine: token ids in, token ids, log-probabilities and the version of the weights out.

The server holds weights of its own: :mod:`trainers.sync` sends it what was learned. A sample names the weights that
drew it, span by span, because an update may come in the middle of it; one of weights that this run never sent (a
server that was restarted, or that somebody else updates) is refused, since it would be learned from with the wrong
staleness. Samples of a server depend on who shares its batches, so a run is repeated in distribution, not bit by bit;
each request carries a seed that is a function of its key and turn.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.chat import Chat
from agent.policy import Message, Policy, PolicyError, Sampled
from agent.trajectory import Key
from trainers.engine_config import VllmConfig
from trainers.engines.http import ServerError
from trainers.engines.vllm_api import Api, Draw, Drawn, Span


@dataclass(slots=True)
class VllmEngine:
    """See :class:`trainers.protocol.Engine`."""

    api: Api
    chat: Chat
    config: VllmConfig
    name: str
    """Of the model, for people."""
    served: str
    """Name of the model, or of the adapter, at the server."""
    version: int = 0
    """How often the weights were updated; whoever sends some sets it."""
    labels: set[str] = field(default_factory=set[str])
    """Versions that this run has given to weights. While empty, any is accepted: nothing was ever sent."""
    missing: int = 0
    """Tokens so far that came without a log-probability."""
    freshen: Callable[[], object] = lambda: None
    """Sends weights that were not sent yet; called before a policy is handed out."""
    restarts: Callable[[], int] = lambda: 0
    """How often the server was started anew."""
    revive: Callable[[int], bool] = lambda seen: False
    """After a failure, with what ``restarts`` said before: whether a new server stands in the place of a dead one."""
    closing: list[Callable[[], object]] = field(default_factory=list[Callable[[], object]])
    """Called at the end, the last one first."""

    def policy(self, *, temperature: float) -> Policy:
        """A policy over the weights that the server holds, now and later."""
        self.freshen()
        return ServedPolicy(self, temperature)

    async def sample(self, context: Sequence[int], draw: Draw) -> Sampled:
        """One turn, asked for again where the server died and was started anew. Raises :class:`PolicyError`."""
        drawn = None
        while drawn is None:
            seen = self.restarts()
            try:
                drawn = await self.api.generate(self.served, context, draw)
            except ServerError as error:
                if error.status or not await asyncio.to_thread(self.revive, seen):
                    raise
        self.missing += sum(logprob != logprob for logprob in drawn.logprobs)
        spans = self._spans(drawn)
        return Sampled(
            ids=drawn.ids,
            logprobs=drawn.logprobs,
            text=self.chat.tokenizer.decode(drawn.ids),
            cut=drawn.ids[-1] != draw.stop,
            version=min((version for version, _ in spans), default=self.version),
            spans=spans if len(spans) > 1 else (),
        )

    def close(self) -> None:
        """Stop what belongs to this engine: the server, if it was started for it."""
        while self.closing:
            self.closing.pop()()

    def _spans(self, drawn: Drawn) -> tuple[tuple[int, int], ...]:
        """Versions and numbers of tokens; none before anything was sent."""
        return tuple((self._number(span), span.tokens) for span in drawn.spans) if self.labels else ()

    def _number(self, span: Span) -> int:
        if span.version not in self.labels:
            raise PolicyError(
                f"the server at {self.api.client.url} samples with weights '{span.version}' that this run never sent "
                "(was it restarted, or does somebody else update it?)"
            )
        return int(span.version)


@dataclass(frozen=True, slots=True)
class ServedPolicy:
    """See :class:`agent.policy.Policy`."""

    engine: VllmEngine
    temperature: float

    @property
    def name(self) -> str:
        """With the version of the moment."""
        return f"{self.engine.name}@v{self.engine.version}"

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of the first context."""
        return self.engine.chat.open(messages)

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        """Ids that follow a sampled turn."""
        return self.engine.chat.reply(messages, cut)

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        """One turn of at least one token."""
        config = self.engine.config
        draw = Draw(
            temperature=self.temperature,
            seed=seed(key, turn),
            max_tokens=max(1, max_tokens),
            stop=self.engine.chat.tokenizer.im_end,
            top_p=config.top_p,
            top_k=config.top_k,
        )
        return await self.engine.sample(context, draw)


def seed(key: Key, turn: int) -> int:
    """Of one request, in [0, 2^62): a function of its key and turn."""
    return int.from_bytes(hashlib.blake2b(f"{key}/{turn}".encode(), digest_size=8).digest()) >> 2
