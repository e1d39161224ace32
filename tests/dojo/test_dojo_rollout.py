"""What a scripted rollout speaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.chat import ByteTokenizer
from agent.policy import Message
from dojo.rollout import spoken
from trainers.config import EMBEDDED, ModelConfig
from trainers.model.load import embedded, missing
from trainers.model.tokenizer import ModelError, ModelTokenizer

HELLO = (Message(role="user", text="hello"),)


def test_a_tiny_model_speaks_bytes() -> None:
    assert isinstance(spoken(ModelConfig(name="tiny")).tokenizer, ByteTokenizer)


def test_without_the_embedded_model_bytes_are_spoken_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPODOJO_CACHE", str(tmp_path))
    assert isinstance(spoken(ModelConfig(name=EMBEDDED)).tokenizer, ByteTokenizer)
    assert "speaks bytes, not the model's tokens: the embedded model is not there yet" in capsys.readouterr().err


@pytest.mark.skipif(bool(missing()), reason="the embedded model is not there")
def test_a_scripted_policy_speaks_the_tokens_of_the_model_that_may_learn_from_it() -> None:
    for name in (EMBEDDED, str(embedded())):
        chat = spoken(ModelConfig(name=name))
        assert isinstance(chat.tokenizer, ModelTokenizer)
        assert chat.open(HELLO)[0] == chat.tokenizer.im_start and len(chat.open(HELLO)) < len(
            "user\nhello\nassistant\n"
        )


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        spoken(ModelConfig(name=str(tmp_path)))
