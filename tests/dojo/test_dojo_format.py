"""A model whose tokens lose the action format is refused before anything is played."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.formats import FORMATS
from dojo.build import check_format
from dojo.config import Config
from dojo.errors import UserError


def config(model: str, form: str) -> Config:
    return Config.model_validate({"model": {"name": model}, "agent": {"format": form}})


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_carry_every_format(form: str) -> None:
    check_format(config("tiny", form))


@pytest.mark.model
@pytest.mark.parametrize("form", FORMATS)
def test_the_embedded_model_carries_every_format(form: str) -> None:
    check_format(config("smollm2-135m-instruct", form))


def test_a_tokenizer_that_folds_white_space_is_refused_with_the_way_out(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"[UNK]": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"cannot carry agent\.format = 'fenced'.*choose another format"):
        check_format(config(str(tmp_path), "fenced"))
