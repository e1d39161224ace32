"""A machine whose samples come from a vLLM server: the learner here, the server beside it, weights sent between.

The server is started on the model's own folder and belongs to the run, or it is one that runs already. What cannot work
is refused before anything is loaded where possible, else by the first call.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agent.chat import Chat
from trainers.components import Machine
from trainers.config import LossConfig, ModelConfig, OptimConfig, ScaleConfig, SftConfig
from trainers.engine_config import VllmConfig
from trainers.engines import environment, launch
from trainers.engines.http import Client
from trainers.engines.keeper import Keeper
from trainers.engines.recorded import Recording
from trainers.engines.vllm import VllmEngine
from trainers.engines.vllm_api import HOW, Api, Draw
from trainers.errors import TrainingError
from trainers.model.load import Model, load
from trainers.sampler import folder
from trainers.sync import export
from trainers.sync.publish import Publisher, SyncedLearner
from trainers.sync.push import ByAdapter, ByFile, ByNccl, ByTransfer, Push

ADAPTER = "policy-adapter"
"""Name of the LoRA adapters at the server."""


def served_machine(
    engine: VllmConfig,
    model: ModelConfig,
    optim: OptimConfig,
    loss: LossConfig,
    sft: SftConfig,
    *,
    seed: int = 0,
    temperature: float = 0.8,
    scale: ScaleConfig | None = None,
    log: Path | None = None,
) -> Machine:
    """Load the learner, reach or start the server, and see that it does what is needed of it.

    ``log`` is where a server that is started writes. Raises :class:`trainers.errors.TrainingError`,
    :class:`trainers.model.tokenizer.ModelError` or :class:`trainers.engines.http.ServerError`, one sentence each.
    """
    from trainers.learning.learners import driven, learner

    if engine.url is not None:  # one that is not there is found out before minutes go by
        _run(Api(Client(engine.url, engine.request_s), engine.sync_s).models())
    scale = scale or ScaleConfig()
    loaded = load(model, seed, shared=scale.parallel == "fsdp2")
    made = learner(loaded, model, optim, loss, sft, temperature=temperature, scale=scale)
    learning = driven(made)
    closing: list[Callable[[], object]] = []
    parts = _Parts(engine, optim, loaded, folder(model), frozenset(made.parameters))
    try:
        publisher = _connected(parts, model, closing, log)
    except BaseException:
        _close(closing)
        raise
    served = publisher.engine
    return Machine(Recording(served, engine.record) if engine.record else served, SyncedLearner(learning, publisher))


def _connected(parts: _Parts, model: ModelConfig, closing: list[Callable[[], object]], log: Path | None) -> Publisher:
    """What sends weights to a server that is reached or started, and seen to do what is needed of it."""
    engine = parts.engine
    keeper = None if engine.url else _started(engine, model, parts.optim, closing, log)
    url = engine.url or (keeper.server.url if keeper else "")
    served = _engine(engine, url, parts.loaded, closing)
    home = engine.folder or _temporary(closing)
    _probe(served)
    publisher = Publisher(served, parts.loaded, _ways(parts, served, home), keeper=keeper)
    served.freshen, served.revive = publisher.publish, publisher.revive
    served.restarts = lambda: publisher.restarts
    if engine.sync == "lora":
        publisher.publish()  # a server that loads no adapters is found out now
    return publisher


@dataclass(frozen=True, slots=True)
class _Parts:
    """What sending weights depends on."""

    engine: VllmConfig
    optim: OptimConfig
    loaded: Model
    source: Path
    """The model's folder: configuration and tokenizer."""
    names: frozenset[str]
    """Parameters that learn."""


def _temporary(closing: list[Callable[[], object]]) -> Path:
    home = Path(tempfile.mkdtemp(prefix="repodojo-weights-"))
    closing.insert(0, partial(shutil.rmtree, home, ignore_errors=True))
    return home


def _started(
    engine: VllmConfig, model: ModelConfig, optim: OptimConfig, closing: list[Callable[[], object]], log: Path | None
) -> Keeper:
    python = engine.python or environment.interpreter()
    flags = ["--dtype", model.dtype, "--enable-scale-out", *_flags(engine, optim)]
    if model.device == "cpu":
        flags += ["--enforce-eager", "--max-num-seqs", "32"]
    elif engine.share:
        flags += ["--enable-sleep-mode"]
    where = log or Path(tempfile.mkdtemp(prefix="repodojo-vllm-")) / "vllm.log"
    start = partial(
        launch.start,
        python,
        folder(model),
        where,
        limit_s=engine.start_s,
        flags=[*flags, *engine.flags],
        cpu=model.device == "cpu",
    )
    keeper = Keeper(start(), lambda port: start(port=port), engine.restarts)
    closing.append(keeper.close)
    return keeper


def _flags(engine: VllmConfig, optim: OptimConfig) -> list[str]:
    if engine.sync == "lora":
        return ["--enable-lora", "--max-lora-rank", str(max(8, optim.lora or 0)), "--max-loras", "1"]
    if engine.sync == "transfer":
        return ["--weight-transfer-config", json.dumps({"backend": engine.backend})]
    return []


def _close(closing: list[Callable[[], object]]) -> None:
    """End what was started, the last first."""
    while closing:
        closing.pop()()


def _engine(engine: VllmConfig, url: str, loaded: Model, closing: list[Callable[[], object]]) -> VllmEngine:
    api = Api(Client(url, engine.request_s), engine.sync_s)
    names = _run(api.models())
    if not names:
        raise TrainingError(f"the server at {url} serves no model; {HOW}")
    return VllmEngine(api, Chat(loaded.tokenizer), engine, loaded.name, names[0], closing=closing)


def _ways(parts: _Parts, served: VllmEngine, home: Path) -> Sequence[Push]:
    """How weights get there, the way out last."""
    engine, loaded, optim = parts.engine, parts.loaded, parts.optim
    whole = ByFile(partial(export.full, loaded, parts.source), home / "full")
    if engine.sync == "lora":
        served.served = ADAPTER
        return [ByAdapter(partial(export.adapter, loaded, optim, loaded.name), home / "adapter", ADAPTER)]
    if engine.sync == "file":
        return [whole]
    if engine.backend == "nccl":
        from trainers.sync.nccl import session

        workers = _run(served.api.workers())
        return [ByNccl(session(loaded, served.api.client.url, workers, engine.sync_s)), whole]
    return [ByTransfer(partial(export.changed, loaded, parts.names), home / "changed"), whole]


def _probe(served: VllmEngine) -> None:
    """See that log-probabilities are those of the distribution that is drawn from: with one token to choose from, it
    has probability 1."""
    draw = Draw(temperature=1.0, seed=0, max_tokens=1, stop=served.chat.tokenizer.im_end, top_k=1)
    drawn = _run(served.api.generate(served.served, served.chat.tokenizer.encode("x"), draw))
    if abs(drawn.logprobs[0]) > 1e-4:
        raise TrainingError(
            f"the server at {served.api.client.url} gives log-probabilities of another distribution than the one that "
            f"it draws from; {HOW}"
        )


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """In an event loop of its own; the caller may be inside one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
