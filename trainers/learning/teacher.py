"""The policy as its own teacher: what it thinks of its tokens once it knows the feedback (SDPO, arXiv:2601.20802).

With q the policy given the feedback, p the policy without it, and no gradient through either in the advantage,

    A_t = log q(y_t | feedback, context) - log p(y_t | context)        in [-bound, bound]

is added, times ``weight``, to the reward's advantage of the token. On-policy the expected gradient of -A log p is that
of KL(p || q), token by token, teacher fixed. The feedback is a user's message right before the header of the context's
first assistant's turn (whichever turn a row learns from, so that splitting a rollout into rows changes nothing), or
before everything where there is no such header; the row's tokens stay as they were sampled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.chat import Chat, Tokenizer
from agent.policy import Message
from trainers.config import Distill
from trainers.learning.batch import Micro
from trainers.model.forward import Flat, flatten, forward
from trainers.protocol import Row

if TYPE_CHECKING:
    from torch import Tensor


def informed(row: Row, chat: Chat, tokens: int) -> Row:
    """The row in the context that holds its lesson, cut to ``tokens`` tokens of text."""
    header = chat.open([])
    text = chat.tokenizer.decode(chat.tokenizer.encode(row.lesson)[:tokens])
    added = chat.open([Message(role="user", text=text)])[: -len(header)]
    place = next((i for i in range(len(row.ids)) if row.ids[i : i + len(header)] == header), 0)
    unlearned = (0.0,) * len(added)

    def told[T](values: tuple[T, ...], new: tuple[T, ...]) -> tuple[T, ...]:
        return (*values[:place], *new, *values[place:])

    return replace(
        row,
        ids=told(row.ids, added),
        mask=told(row.mask, (False,) * len(added)),
        logprobs=told(row.logprobs, unlearned),
        advantages=told(row.advantages, unlearned),
    )


def gaps(config: Distill, net: Any, tokenizer: Tokenizer, flat: Flat, now: Tensor, temperature: float) -> Tensor:
    """(N,) A_t of a micro-batch's tokens, 0 where their row has no lesson."""
    import torch

    found = torch.zeros_like(now, requires_grad=False)
    rows = list({id(row): row for row in flat.owners if row.lesson}.values())
    if not rows:
        return found
    chat = Chat(tokenizer)
    again = flatten(Micro(blocks=[[informed(row, chat, config.tokens)] for row in rows]))
    with torch.no_grad():
        knowing, _ = forward(net, again, temperature)
        places = torch.tensor([i for i, row in enumerate(flat.owners) if row.lesson], device=now.device)
        found[places] = (knowing - now.detach()[places]).clamp(-config.bound, config.bound)
    return found
