"""The trainer's end of vLLM's weight transfer over NCCL: for GPUs only, never run on a CPU.

vLLM's own trainer side is used, so it must be importable here (``pip install 'repodojo[vllm]'``). It broadcasts from
this process to every worker of the server while the server is told over HTTP to receive.
"""

from __future__ import annotations

import importlib
import importlib.util
import socket
from typing import Any

from trainers.errors import TrainingError
from trainers.model.load import Model


def available() -> str:
    """Why it cannot be used; empty when it can."""
    import torch

    if not torch.cuda.is_available() or torch.cuda.device_count() < 1:
        return "engine.backend = 'nccl' needs a GPU each for trainer and server; set it to 'file'"
    if importlib.util.find_spec("vllm") is None:
        return "engine.backend = 'nccl' needs vLLM beside the trainer: pip install 'repodojo[vllm]', or use 'file'"
    return ""


def session(model: Model, url: str, workers: int, limit_s: float) -> Any:
    """A trainer-side engine with ``send_weights()``. Raises :class:`TrainingError`."""
    if reason := available():
        raise TrainingError(reason)
    nccl: Any = importlib.import_module("vllm.distributed.weight_transfer.nccl_engine")
    base: Any = importlib.import_module("vllm.distributed.weight_transfer.base")
    clients: Any = importlib.import_module("vllm.distributed.weight_transfer.clients")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    info = nccl.NCCLTrainerInitInfo(
        rank=0, master_address=socket.gethostbyname(socket.gethostname()), master_port=port, world_size=1 + workers
    )
    return nccl.NCCLTrainerWeightTransferEngine.trainer_init(
        info, client=clients.HTTPVLLMWeightSyncClient(url, limit_s), source=base.ModuleSource(model.net)
    )
