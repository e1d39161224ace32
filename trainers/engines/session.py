"""The decoding of one wave, in the engine's worker thread.

Rows that join are prefilled (only what is new), then every active row draws a token a step until its end of turn or its
limit. A finished row leaves the batch and is delivered at once. Logits exist for last positions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from agent.policy import Sampled
from agent.trajectory import Key
from trainers.engines.batcher import Ask
from trainers.engines.draw import draw, uniform
from trainers.engines.head import Head
from trainers.engines.kv import Cache
from trainers.engines.stream import LAG, Deliver, Progress
from trainers.model.load import Model


@dataclass(slots=True)
class Draft:
    """A turn that is being sampled."""

    ask: Ask
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    versions: list[int] = field(default_factory=list[int])
    """Of the weights that drew each token."""

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Runs of tokens of the same weights: (version, tokens)."""
        return tuple((version, len(list(run))) for version, run in groupby(self.versions))


class Session:
    """The active rows of a wave and their cache; the i-th draft is in the i-th slot."""

    def __init__(self, model: Model, head: Head, temperature: float) -> None:
        self.model = model
        self.temperature = temperature
        self._head = head
        self._cache = Cache(model.net)
        self._drafts: list[Draft] = []

    def run(self, asks: Sequence[Ask], step: int, until: int | None, deliver: Deliver) -> Progress:
        """See :data:`trainers.engines.stream.Segment`. The caller holds the model's lock, without gradients."""
        self._refresh()
        self._cache.admit(asks)
        self._drafts += [Draft(ask) for ask in asks]
        back: dict[Key, int] = {}
        while self._drafts and (until is None or step < until):
            self._token()
            step += 1
            for slot in reversed([i for i, draft in enumerate(self._drafts) if self._complete(draft)]):
                draft = self._retire(slot)
                back[draft.ask.key] = step + LAG
                until = step + LAG if until is None else min(until, step + LAG)
                deliver(draft.ask.key, self._sample(draft))
        return Progress(step, len(self._drafts), back)

    def drop(self, key: Key) -> None:
        """Free what an episode that left holds, in the middle of a turn if need be."""
        for slot in [i for i, draft in enumerate(self._drafts) if draft.ask.key == key]:
            self._retire(slot)
        self._cache.drop(key)

    def _refresh(self) -> None:
        """After an update, rows in the middle of a turn go on under the new weights, their keys computed anew."""
        if self._cache.refresh(self.model.version):
            self._cache.admit([self._resumed(draft) for draft in self._drafts])

    def _resumed(self, draft: Draft) -> Ask:
        ask = draft.ask
        return Ask((*ask.context, *draft.ids), ask.key, ask.turn, ask.max_tokens)

    def _token(self) -> None:
        """One more token of every draft."""
        logits = self._head(self._cache.advance())
        uniforms = [uniform(d.ask.key, d.ask.turn, len(d.ids)) for d in self._drafts] if self.temperature > 0 else []
        drawn = zip(*draw(logits, self.temperature, uniforms), strict=True)
        for draft, rollout, (token, logprob) in zip(self._drafts, self._cache.slots, drawn, strict=False):
            draft.ids.append(token)
            draft.logprobs.append(logprob)
            draft.versions.append(self.model.version)
            rollout.pending = [token]

    def _retire(self, slot: int) -> Draft:
        """Take a row out of the batch; the last active one takes its place, in the cache too."""
        self._cache.retire(slot)
        draft, self._drafts[slot] = self._drafts[slot], self._drafts[-1]
        del self._drafts[-1]
        return draft

    def _complete(self, draft: Draft) -> bool:
        return draft.ids[-1] == self.model.tokenizer.im_end or len(draft.ids) >= draft.ask.max_tokens

    def _sample(self, draft: Draft) -> Sampled:
        spans = draft.spans
        return Sampled(
            ids=tuple(draft.ids),
            logprobs=tuple(draft.logprobs),
            text=self.model.tokenizer.decode(draft.ids),
            cut=draft.ids[-1] != self.model.tokenizer.im_end,
            version=min(draft.versions),
            spans=spans if len(spans) > 1 else (),
        )
