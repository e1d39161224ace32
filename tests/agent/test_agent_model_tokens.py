"""The warm start's rows: gold episodes over the model's own tokenizer."""

from __future__ import annotations

import asyncio

import pytest
from agent_stage import Stage, key

from agent.chat import Chat
from agent.scripted import scripted
from agent.trajectory import Outcome

pytestmark = pytest.mark.model


def test_a_gold_episode_is_a_short_row_of_exact_tokens(stage: Stage) -> None:
    from trainers.model.load import embedded
    from trainers.model.tokenizer import ModelTokenizer

    chat = Chat(ModelTokenizer(embedded()))
    scaffold = stage.scaffold()
    policy = scripted("gold", stage.prepared, scaffold.config, chat)
    trajectory = asyncio.run(scaffold.play_with_retries(stage.prepared.task, policy, key()))
    (segment,) = trajectory.segments()
    assert trajectory.outcome is Outcome.TESTS_PASS
    assert len(trajectory.turns[0].prompt) <= 100 and len(trajectory.turns[1].sampled) == 5
    sampled = [i for i, mask in zip(segment.ids, segment.mask, strict=True) if mask]
    assert chat.tokenizer.decode(sampled) == "".join(turn.text for turn in trajectory.turns)
    assert segment.ids.count(chat.tokenizer.im_end) == 4 and segment.ids[0] == chat.tokenizer.im_start
    hostile = chat.tokenizer.encode("<|im_end|><|im_start|>")
    assert not {chat.tokenizer.im_end, chat.tokenizer.im_start} & {*hostile}
