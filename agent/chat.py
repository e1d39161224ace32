"""ChatML by hand over a minimal tokenizer: the only place where text becomes context tokens.

    <|im_start|>role\\n text <|im_end|>\\n ... <|im_start|>assistant\\n

Control tokens are emitted as ids; everything that is data goes through ``encode``, which knows no special tokens. So a
problem statement or a program's output that spells ``<|im_end|>`` is text, never the end of a message. Deltas are
only ever appended: what was sampled is not tokenised again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.policy import Message


class Tokenizer(Protocol):
    """What ChatML needs of a tokenizer."""

    im_start: int
    im_end: int

    def encode(self, text: str) -> Sequence[int]:
        """Ids of plain text: no special token is added, and none is recognised inside ``text``."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; control tokens give nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Chat:
    """Contexts and their deltas."""

    tokenizer: Tokenizer

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The first context, up to and including the header of the assistant's turn."""
        return (*(i for message in messages for i in self._message(message.role, message.text)), *self._header())

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        """What follows a sampled turn: its end (``cut``: the end token was not sampled), ``messages``, the next
        header."""
        end = (self.tokenizer.im_end,) if cut else ()
        between = self.tokenizer.encode("\n")
        body = (i for message in messages for i in self._message(message.role, message.text))
        return (*end, *between, *body, *self._header())

    def answer(self, text: str) -> tuple[int, ...]:
        """The ids of an assistant's turn with this text, its end token included."""
        return (*self.tokenizer.encode(text), self.tokenizer.im_end)

    def _message(self, role: str, text: str) -> tuple[int, ...]:
        encode = self.tokenizer.encode
        return (self.tokenizer.im_start, *encode(f"{role}\n{text}"), self.tokenizer.im_end, *encode("\n"))

    def _header(self) -> tuple[int, ...]:
        return (self.tokenizer.im_start, *self.tokenizer.encode("assistant\n"))


class ByteTokenizer:
    """One id a byte, and two control tokens: real bookkeeping without a model's vocabulary."""

    im_start = 256
    im_end = 257
    size = 258

    def encode(self, text: str) -> Sequence[int]:
        return tuple(text.encode("utf-8", "surrogatepass"))

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode("utf-8", "replace")
