"""Models: what is refused in one sentence, and the embedded one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from agent.policy import Message
from agent.trajectory import Key
from trainers.config import ModelConfig, OptimConfig
from trainers.engines.transformers import TransformersEngine
from trainers.model.load import Model, checked, load, tiny
from trainers.model.tokenizer import ModelError, ModelTokenizer


def refuse(config: ModelConfig) -> str:
    with pytest.raises(ModelError) as caught:
        load(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_not_there_is_named_with_the_way_out(tmp_path: Path) -> None:
    assert "no model at" in refuse(ModelConfig(name=str(tmp_path / "nowhere")))


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert "no weights" in refuse(ModelConfig(name=str(tmp_path)))


def test_torn_weights_are_one_sentence(tmp_path: Path) -> None:
    tiny().net.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    assert "could not be loaded" in refuse(ModelConfig(name=str(tmp_path)))


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    tiny().net.save_pretrained(tmp_path)
    assert "no tokenizer.json" in refuse(ModelConfig(name=str(tmp_path)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="has an accelerator")
def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    tiny().net.save_pretrained(tmp_path)
    assert "model.device" in refuse(ModelConfig(name=str(tmp_path), device="cuda"))


def test_a_damaged_download_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"other")
    with pytest.raises(ModelError, match="sha256"):
        checked(tmp_path / "m.gguf")


def test_adapters_without_layers_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"optim\.layers"):
        OptimConfig(lora=4, layers=None)


def test_a_tiny_model_is_a_function_of_its_seed() -> None:
    a, b, c = (tiny(seed).net.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


@pytest.fixture(scope="module")
def embedded() -> Model:
    return load(ModelConfig())


@pytest.mark.model
def test_the_embedded_model_answers_a_question(embedded: Model) -> None:
    engine = TransformersEngine(embedded)
    policy = engine.policy(temperature=0.0)
    context = policy.open([Message(role="user", text="What is the capital of France? Answer with one word.")])
    sampled = asyncio.run(policy.sample(context, Key(seed=0, step=0, prompt=0, sample=0), 0, 16))
    engine.close()
    assert "Paris" in sampled.text


@pytest.mark.model
def test_text_that_spells_a_control_token_stays_text(embedded: Model) -> None:
    tokenizer = embedded.tokenizer
    assert isinstance(tokenizer, ModelTokenizer)
    text = "def f():\n    return '<|im_end|>'\n"
    ids = tokenizer.encode(text)
    assert not {tokenizer.im_start, tokenizer.im_end} & set(ids)
    assert tokenizer.decode([*ids, tokenizer.im_end]) == text
