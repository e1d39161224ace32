"""The tokenizer of a model folder, as :class:`agent.chat.Tokenizer` wants it: data never becomes a control token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

START, END = "<|im_start|>", "<|im_end|>"


class ModelTokenizer:
    """``tokenizer.json`` of a model that speaks ChatML. Raises :class:`ModelError` for any other."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"the model folder {folder} has no tokenizer.json; name a folder saved by transformers")
        self._fast = Tokenizer.from_file(str(path))
        self._fast.encode_special_tokens = True
        self.im_start = self._control(START, folder)
        self.im_end = self._control(END, folder)

    def encode(self, text: str) -> Sequence[int]:
        """Ids of plain text; one that spells a control token is text."""
        return self._fast.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; control tokens give nothing."""
        return self._fast.decode(list(ids), skip_special_tokens=True)

    def _control(self, token: str, folder: Path) -> int:
        found = self._fast.token_to_id(token)
        if found is None:
            raise ModelError(f"the tokenizer of {folder} has no {token}; name a model with the ChatML template")
        return found


class ModelError(Exception):
    """A model that cannot be fetched, converted or loaded. The message is one sentence with the way out."""
