"""An engine without a model: it records what another one samples, and plays it back.

    Recording(engine, path)       samples as ``engine`` does; every sample is on disk before it is given
    RecordedEngine(path, chat)    gives what was sampled for the same key, turn and context

A record is a line: the key, the turn, a digest of the context, and the sample. Files of finished trajectories are
records, too, since a trajectory holds all of it. Playing back is strict: a request whose context is not the recorded
one fails, with the turn at which it drifted. So it is a double for everything above it, and a proof that prompts, tools
and templates still say what they said.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.chat import Chat
from agent.policy import Around, Message, Policy, PolicyError, Sampled
from agent.store import Store, StoreError
from agent.trajectory import Key, Trajectory
from trainers.errors import TrainingError
from trainers.protocol import Engine


class Record(BaseModel):
    """One sample with what was asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    key: Key
    turn: int
    context: str
    """Digest of the token ids before the sample."""
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    cut: bool
    version: int = 0

    def sampled(self) -> Sampled:
        """As the engine gave it."""
        return Sampled(ids=self.ids, logprobs=self.logprobs, text=self.text, cut=self.cut, version=self.version)


def digest(context: Sequence[int]) -> str:
    """Of token ids."""
    return hashlib.blake2b(array("q", context).tobytes(), digest_size=16).hexdigest()


@dataclass(slots=True)
class RecordedEngine:
    """See :class:`trainers.protocol.Engine`."""

    path: Path
    chat: Chat
    version: int = 0
    _records: dict[tuple[Key, int], Record] = field(init=False)

    def __post_init__(self) -> None:
        """Read the file. Raises :class:`trainers.errors.TrainingError`."""
        self._records = {(record.key, record.turn): record for record in read(self.path)}

    def policy(self, *, temperature: float) -> Policy:
        """Plays back, whatever the temperature: the log-probabilities are those of the recording."""
        return Playback(self.path.name, self.chat, self._records)

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class Playback:
    """See :class:`agent.policy.Policy`."""

    name: str
    chat: Chat
    records: dict[tuple[Key, int], Record]

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of the first context."""
        return self.chat.open(messages)

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        """Ids that follow a sampled turn."""
        return self.chat.reply(messages, cut)

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        """What was sampled. Raises :class:`PolicyError` when nothing was, or for another context."""
        record = self.records.get((key, turn))
        if record is None:
            raise PolicyError(f"nothing was recorded for turn {turn} of episode {key} in {self.name}")
        if record.context != digest(context):
            raise PolicyError(
                f"turn {turn} of episode {key} drifted: its context of {len(context)} tokens is not the recorded one; "
                "the prompt, a tool or the tokenizer says something else now"
            )
        return record.sampled()


@dataclass(frozen=True, slots=True)
class Recording:
    """An engine whose samples are appended to a file."""

    inner: Engine
    path: Path

    @property
    def version(self) -> int:
        """Of the engine that samples."""
        return self.inner.version

    def policy(self, *, temperature: float) -> Policy:
        """Samples and records."""
        return RecordingPolicy(self.inner.policy(temperature=temperature), self.path)

    def close(self) -> None:
        """Close the engine that samples."""
        self.inner.close()


@dataclass(slots=True)
class RecordingPolicy(Around):
    """See :class:`agent.policy.Policy`."""

    path: Path

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        """One sample, recorded before it is given."""
        got = await self.inner.sample(context, key, turn, max_tokens)
        record = Record(
            key=key,
            turn=turn,
            context=digest(context),
            ids=got.ids,
            logprobs=got.logprobs,
            text=got.text,
            cut=got.cut,
            version=got.version,
        )
        with self.path.open("a") as file:
            file.write(record.model_dump_json() + "\n")
        return got


def read(path: Path) -> Iterator[Record]:
    """The records of a file of samples, a file of trajectories, or a run folder: its training and its last evaluation,
    since the evaluations of a run share their keys. Raises :class:`TrainingError`."""
    files = [path]
    if path.is_dir():
        evaluations = [path / f"evals-{stage}.jsonl" for stage in ("before", "warm", "after")]
        files = [*path.glob("trajectories.jsonl"), *[file for file in evaluations if file.is_file()][-1:]]
    if not files or not all(file.is_file() for file in files):
        raise TrainingError(f"engine.path = {path} holds no samples: name a run folder or a file of trajectories")
    for file in files:
        try:
            yield from _records(file)
        except (StoreError, ValidationError, ValueError) as error:
            raise TrainingError(f"engine.path = {file} cannot be played back ({str(error).splitlines()[0]})") from None


def _records(file: Path) -> Iterator[Record]:
    with file.open() as lines:
        first = lines.readline()
    if first and "context" in json.loads(first):
        with file.open() as lines:
            yield from (Record.model_validate_json(line) for line in lines if line.endswith("\n"))
    else:
        for trajectory in Store(file).read():
            yield from records(trajectory)


def records(trajectory: Trajectory) -> Iterator[Record]:
    """The samples of an episode."""
    context: list[int] = []
    for index, turn in enumerate(trajectory.turns):
        context = [*turn.prompt] if turn.fork else [*context, *turn.prompt]
        yield Record(
            key=trajectory.key,
            turn=index,
            context=digest(context),
            ids=turn.sampled,
            logprobs=turn.logprobs,
            text=turn.text,
            cut=turn.cut,
            version=turn.version,
        )
        context += turn.sampled
