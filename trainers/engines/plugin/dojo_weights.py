"""A weight transfer engine for vLLM that reads safetensors files. It runs inside the server, not in ours.

vLLM finds it through the entry point beside this file when the folder is on the server's path; then
``--weight-transfer-config '{"backend": "file"}'`` chooses it. Tensors that a file does not hold keep their values, so a
trainer sends only what learns. Written for the server's Python, and for vLLM 0.32.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportMissingParameterType=false
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "file"


@dataclass
class Begin:
    """Nothing is negotiated."""


@dataclass
class Update:
    """Where the tensors are: every ``*.safetensors`` of the folder."""

    folder: str


def register() -> None:
    """What vLLM calls in every process of a server."""
    factory = importlib.import_module("vllm.distributed.weight_transfer.factory").WeightTransferEngineFactory
    if NAME not in factory._registry:
        factory.register_engine(NAME, _engine())


def _engine() -> Any:
    base: Any = importlib.import_module("vllm.distributed.weight_transfer.base").WeightTransferEngine

    class FileTransfer(base):
        """Reads what the trainer wrote."""

        init_info_cls = Begin
        update_info_cls = Update

        def init_transfer_engine(self, init_info: Begin) -> None:
            """Nothing to set up."""

        def start_weight_update(self) -> None:
            """Layers are taken apart as they are loaded."""
            _reload().initialize_layerwise_reload(self.model)

        def receive_weights(self, update_info: Update) -> None:
            """Load the tensors of a folder under their names in the checkpoint."""
            self.model.load_weights(_tensors(Path(update_info.folder)))

        def finish_weight_update(self) -> None:
            """... and put together again."""
            _reload().finalize_layerwise_reload(self.model, self.model_config)

        def shutdown(self) -> None:
            """Nothing is open."""

    return FileTransfer


def _reload() -> Any:
    return importlib.import_module("vllm.model_executor.model_loader.reload")


def _tensors(folder: Path) -> Any:
    load_file: Any = importlib.import_module("safetensors.torch").load_file
    for path in sorted(folder.glob("*.safetensors")):
        yield from load_file(path).items()
