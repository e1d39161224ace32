"""The store: nothing that was stored is lost or changed, whatever tears the file."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from agent.scored import Scored, ScoredFacts, ScoredTurn, ScoredVerdict
from agent.store import SideFiles, Store, StoreError
from agent.trajectory import Action, End, Facts, Key, Trajectory, Turn
from sandbox.task import Verdict

FACTS = st.builds(
    Facts,
    format_ok=st.booleans(),
    tool_ok=st.booleans(),
    diagnostics=st.none() | st.integers(0, 9),
    tests=st.none() | st.text("01", max_size=5),
)
TURNS = st.builds(
    Turn,
    prompt=st.tuples(st.integers(0, 49151)),
    sampled=st.tuples(st.integers(0, 49151), st.integers(0, 49151)),
    logprobs=st.tuples(st.floats(-1e3, 0), st.floats(-1e-300, 0)),
    text=st.text(max_size=30),
    action=st.none() | st.builds(Action, tool=st.just("bash"), args=st.dictionaries(st.text(), st.text(), max_size=2)),
    observation=st.text(max_size=30),
    facts=FACTS,
)
TRAJECTORIES = st.builds(
    Trajectory,
    task=st.text(max_size=10),
    key=st.builds(
        Key, seed=st.integers(0, 3), step=st.integers(0, 3), prompt=st.integers(0, 3), sample=st.integers(0, 3)
    ),
    policy=st.just("p"),
    turns=st.lists(TURNS, max_size=3).map(tuple),
    end=st.sampled_from(End),
    tests=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    patch=st.text(max_size=20),
)


def make(sample: int = 0) -> Trajectory:
    key = Key(seed=0, step=1, prompt=2, sample=sample)
    turn = Turn(
        prompt=(1, 2), sampled=(3,), logprobs=(-0.25,), text="x", facts=Facts(format_ok=True, tool_ok=True, tree="t")
    )
    return Trajectory(task="t-1", key=key, policy="p", turns=(turn,), end=End.SUBMITTED)


@given(st.lists(TRAJECTORIES, max_size=4))
@settings(max_examples=60)
def test_what_is_stored_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, stored: list[Trajectory]
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "t.jsonl")
    for trajectory in stored:
        store.append(trajectory)
    assert list(store.read()) == [trajectory.seal() for trajectory in stored]


@given(st.lists(TRAJECTORIES, min_size=1, max_size=4, unique_by=lambda one: str(one.key)))
@settings(max_examples=60)
def test_what_scoring_reads_is_what_was_stored(
    tmp_path_factory: pytest.TempPathFactory, stored: list[Trajectory]
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "t.jsonl")
    for trajectory in stored:
        store.append(trajectory)
    found = {str(one.key): one for group in store.groups() for one in group}
    assert found.keys() == {str(one.key) for one in stored}
    for whole in store.read():
        scored = found[str(whole.key)]
        assert _common(scored, whole) and scored.outcome == whole.outcome
        for less, more in zip(scored.turns, whole.turns, strict=True):
            assert less.sampled == ",".join(map(str, more.sampled)) and less.tokens == more.tokens
            assert (less.text, less.action) == (more.text, more.action) and _common(less.facts, more.facts)


def _common(less: Any, more: Any) -> bool:
    names = {field.name for field in fields(less)} - {"turns", "verdict"}
    return all(getattr(less, name) == getattr(more, name) for name in names)


@pytest.mark.parametrize(
    ("less", "more"), [(ScoredFacts, Facts), (ScoredTurn, Turn), (ScoredVerdict, Verdict), (Scored, Trajectory)]
)
def test_what_scoring_reads_is_declared_as_it_is_stored(less: type[Any], more: type[BaseModel]) -> None:
    light, whole = TypeAdapter[Any](less).json_schema(), more.model_json_schema()
    for name, declared in light["properties"].items():
        if name not in ("sampled", "turns", "facts", "verdict"):
            assert declared | {"description": ""} == whole["properties"][name] | {"description": ""}, name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("true", "7"), "not a trajectory"),
        (('"tests":null', '"tests":"012"'), "not a trajectory"),
        (('"diagnostics":null', '"diagnostics":0.5'), "not a trajectory"),
        (('"diagnostics":null', '"diagnostics":NaN'), "not a trajectory"),
        (('"end":"submitted"', '"end":"won"'), "not a trajectory"),
        (("3", "4"), "was changed after it was sealed"),
        (("-0.25", "-0.75"), "was changed after it was sealed"),
    ],
)
def test_a_broken_fact_is_refused_by_scoring_as_by_reading(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    store = Store(tmp_path / "t.jsonl")
    store.append(make())
    text = store.path.read_text()
    assert change[0] in text
    store.path.write_text(text.replace(*change, 1))
    for read in (store.read, store.groups):
        with pytest.raises(StoreError, match=f"line 1.* {says}"):
            list(read())


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), max_size=12), st.randoms())
@settings(max_examples=60)
def test_groups_come_whole_whatever_the_order_in_which_their_episodes_finished(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int, int]], random: Random
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "t.jsonl")
    stored = [
        make().model_copy(update={"key": Key(seed=0, step=step, prompt=prompt, sample=sample), "patch": f"{i}"})
        for i, (step, prompt, sample) in enumerate(places)
    ]
    random.shuffle(stored)
    for trajectory in stored:
        store.append(trajectory)
    found = list(store.groups())
    assert len(found) == len({(step, prompt) for step, prompt, _ in places})
    first = store.index()
    for group in found:
        keys = [one.key for one in group]
        assert [key.sample for key in keys] == sorted({key.sample for key in keys})
        assert len({(key.step, key.prompt) for key in keys}) == 1
        assert [one.patch for one in group] == [first[key].patch for key in keys]
    assert sum(map(len, found)) == len(first)


def test_a_torn_last_line_belongs_to_no_group(tmp_path: Path) -> None:
    store = Store(tmp_path / "t.jsonl")
    for sample in range(3):
        store.append(make(sample))
    store.path.write_bytes(store.path.read_bytes()[:-5])
    assert [[one.key.sample for one in group] for group in store.groups()] == [[0, 1]]


def test_arguments_that_look_like_a_record_are_read_as_they_are(tmp_path: Path) -> None:
    args = {"a": 1, "logprobs": ["]", 2], "prompt": [[1], {"prompt": [3]}], "text": '"prompt":[1]'}
    action = Action(tool="bash", args=args)
    made = make()
    turn = made.turns[0].model_copy(update={"action": action, "text": '{"prompt":[1,2],"logprobs":[0.5]}'})
    store = Store(tmp_path / "t.jsonl")
    store.append(made.model_copy(update={"turns": (turn,)}))
    for found in (next(store.read()).turns[0], next(store.groups())[0].turns[0]):
        assert found.action == action and found.text == turn.text


def test_arguments_that_quote_lists_of_words_are_read_as_they_are(tmp_path: Path) -> None:
    args = {"prompt": ["a"], "sampled": ["b"], "logprobs": ["c"], "text": "d"}
    turn = make().turns[0].model_copy(update={"action": Action(tool="bash", args=args)})
    store = Store(tmp_path / "t.jsonl")
    store.append(make().model_copy(update={"turns": (turn,)}))
    assert next(store.groups())[0].turns[0].action == turn.action


def test_a_record_of_an_older_program_keeps_its_seal(tmp_path: Path) -> None:
    body = json.loads(make().model_dump_json())
    for name in ("tests", "detail"):
        del body[name]
    old = json.dumps(body, separators=(",", ":"))
    digest = hashlib.sha256(old.encode()).hexdigest()
    path = tmp_path / "t.jsonl"
    path.write_text(old.replace('"digest":""', f'"digest":"sha256:{digest}"') + "\n")
    assert next(Store(path).read()).model_copy(update={"digest": ""}) == make()


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_a_torn_last_line_is_skipped_and_the_next_append_removes_it(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "t.jsonl"
    Store(path).append(make(0))
    whole = path.read_bytes()
    Store(path).append(make(1))
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:kept])
    assert list(Store(path).read()) == [make(0).seal()]
    Store(path).append(make(2))
    assert [t.key.sample for t in Store(path).read()] == [0, 2]


def test_a_record_that_was_changed_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    store = Store(path)
    store.append(make(0))
    store.append(make(1))
    path.write_text(path.read_text().replace('"end":"submitted"', '"end":"turns"', 1))
    with pytest.raises(StoreError, match="line 1 was changed"):
        list(store.read())


def test_another_schema_version_and_a_foreign_line_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({**json.loads(make().seal().model_dump_json()), "schema_version": 99}) + "\n")
    with pytest.raises(StoreError, match="schema version 99"):
        list(Store(path).read())
    path.write_text("[1]\n")
    with pytest.raises(StoreError, match="line 1"):
        list(Store(path).read())


def test_an_absent_file_holds_nothing(tmp_path: Path) -> None:
    assert list(Store(tmp_path / "none.jsonl").read()) == []


def test_the_index_finds_a_trajectory_by_its_key(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "t.jsonl")
    for sample in range(3):
        store.append(make(sample))
    assert store.index()[make(1).key] == make(1).seal()


def test_kill_9_loses_nothing_that_append_returned_from(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from agent.store import Store
        from agent.trajectory import *
        store = Store(Path(sys.argv[1]))
        facts = Facts(format_ok=False, tool_ok=False)
        turn = Turn(prompt=(1,) * 4000, sampled=(2,), logprobs=(0.0,), text='', facts=facts)
        for i in range(10**6):
            key = Key(seed=0, step=0, prompt=0, sample=i)
            store.append(Trajectory(task='t', key=key, policy='p', turns=(turn,), end=End.TURNS))
            print(i, flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    counted = [int(process.stdout.readline()) for _ in range(5)]
    os.kill(process.pid, signal.SIGKILL)
    counted += [int(line) for line in process.stdout.read().split("\n") if line]
    process.wait()
    process.stdout.close()
    stored = [t.key.sample for t in Store(path).read()]
    assert stored[: len(counted)] == counted


def test_side_files_are_named_by_their_content_and_checked(tmp_path: Path) -> None:
    side = SideFiles(tmp_path)
    name = side.put({"b": 1, "a": [1, 2]})
    assert name == side.put({"a": [1, 2], "b": 1}) and side.get(name) == {"a": [1, 2], "b": 1}
    with pytest.raises(StoreError, match="no side file"):
        side.get("sha256:" + "0" * 64)
    next(tmp_path.rglob("*.json")).write_text("{}")
    with pytest.raises(StoreError, match="was changed"):
        side.get(name)
