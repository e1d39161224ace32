"""A machine that only samples: an endpoint, or a recording. Whoever asks it to learn is told why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from agent.chat import ByteTokenizer, Chat
from trainers.components import Machine
from trainers.config import EMBEDDED, ModelConfig
from trainers.engine_config import OpenAIConfig, RecordedConfig
from trainers.errors import TrainingError
from trainers.model.load import embedded
from trainers.model.tokenizer import ModelTokenizer
from trainers.protocol import Engine, Row


def sampler(engine: OpenAIConfig | RecordedConfig, model: ModelConfig) -> Machine:
    """Loads the tokenizer and no weights. Raises :class:`trainers.errors.TrainingError`,
    :class:`trainers.model.tokenizer.ModelError`, or :class:`trainers.engines.http.ServerError` where nobody answers."""
    from trainers.engines.openai import OpenAIEngine
    from trainers.engines.recorded import RecordedEngine, Recording

    if isinstance(engine, RecordedConfig):
        return Machine(RecordedEngine(engine.path, chat(model)), NoLearner(engine.kind))
    endpoint = OpenAIEngine(engine, chat(model))
    endpoint.client.reach()
    made: Engine = endpoint
    if engine.record is not None:
        made = Recording(made, engine.record)
    return Machine(made, NoLearner(engine.kind))


def chat(model: ModelConfig) -> Chat:
    """Contexts of a model, without its weights."""
    return Chat(ByteTokenizer() if model.name == "tiny" else ModelTokenizer(folder(model)))


def folder(model: ModelConfig) -> Path:
    """Where a model's files are. The embedded one is made when it is not there."""
    return embedded() if model.name == EMBEDDED else Path(model.name).expanduser()


@dataclass(frozen=True, slots=True)
class NoLearner:
    """See :class:`trainers.protocol.Learner`: it has no weights."""

    kind: str

    def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """Refused."""
        self._refuse()

    def imitate(self, rows: Sequence[Row]) -> dict[str, float]:
        """Refused."""
        self._refuse()

    def save(self, folder: Path) -> None:
        """Refused."""
        self._refuse()

    def load(self, folder: Path) -> None:
        """Refused."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TrainingError(
            f"engine.kind = '{self.kind}' holds no weights of ours: a checkpoint is evaluated with engine.kind = "
            "'transformers' or 'vllm', and this engine with --policy model"
        )
