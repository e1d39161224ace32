"""The ways in which weights get to a server. Each is tried under a pause; raising means that nothing is known to have
arrived."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trainers.engines.http import ServerError
from trainers.engines.vllm_api import Api

KEEP = 2
"""Exported folders kept: the one that the server reads and the one before."""
Export = Callable[[Path], Path]
"""Writes what is to be sent into a folder, whole; returns the folder."""


class Push(Protocol):
    """One way."""

    def prepare(self, version: int) -> None:
        """Whatever can be done while the server samples on: writing files."""
        ...

    async def send(self, api: Api, version: int) -> None:
        """Let the server take the weights and name them; it is paused."""
        ...

    def renew(self) -> None:
        """The server is a new one, which knows nothing of what was sent."""
        ...


@dataclass(slots=True)
class ByFile:
    """The server reloads a whole checkpoint from a folder that both see."""

    export: Export
    home: Path
    folder: Path = field(init=False, default=Path())

    def prepare(self, version: int) -> None:
        """Write the checkpoint."""
        self.folder = _written(self.export, self.home, version)

    async def send(self, api: Api, version: int) -> None:
        """Reload and name."""
        await api.reload(self.folder)
        await api.label(str(version))

    def renew(self) -> None:
        """Nothing is kept."""


@dataclass(slots=True)
class ByTransfer:
    """The server's weight transfer, with the ``file`` engine that :mod:`trainers.engines.plugin` adds to it: it takes
    what a safetensors file holds, so only what learns is written."""

    export: Export
    home: Path
    folder: Path = field(init=False, default=Path())
    _begun: bool = field(init=False, default=False)

    def prepare(self, version: int) -> None:
        """Write the tensors."""
        self.folder = _written(self.export, self.home, version)

    async def send(self, api: Api, version: int) -> None:
        """Transfer and name."""
        if not self._begun:
            await api.begin_transfer({})
            self._begun = True
        await api.transfer({"folder": str(self.folder)}, str(version))

    def renew(self) -> None:
        """The transfer begins anew."""
        self._begun = False


@dataclass(slots=True)
class ByAdapter:
    """The server loads the LoRA adapters again under the same name; its other weights never change."""

    export: Export
    home: Path
    name: str
    folder: Path = field(init=False, default=Path())

    def prepare(self, version: int) -> None:
        """Write the adapters."""
        self.folder = _written(self.export, self.home, version)

    async def send(self, api: Api, version: int) -> None:
        """Load and name."""
        await api.load_adapter(self.name, self.folder)
        await api.label(str(version))

    def renew(self) -> None:
        """Nothing is kept."""


@dataclass(slots=True)
class ByNccl:
    """The server's weight transfer over NCCL: needs a GPU each for trainer and server, and vLLM in both
    environments."""

    session: Any
    """A trainer-side weight transfer engine of vLLM (:func:`trainers.sync.nccl.session`)."""

    def prepare(self, version: int) -> None:
        """Nothing is written."""

    async def send(self, api: Api, version: int) -> None:
        """Broadcast and name; HTTP calls and collectives run side by side inside."""
        import asyncio

        async with asyncio.timeout(api.sync_s):
            await asyncio.to_thread(self.session.send_weights)
        await api.label(str(version))
        await api.forget()

    def renew(self) -> None:
        """The collective group ended with the server: raises :class:`ServerError`."""
        raise ServerError("a transfer over NCCL cannot go on with a new server; resume the run")


def _written(export: Export, home: Path, version: int) -> Path:
    folder = export(home / f"v{version:06d}")
    for old in sorted(home.glob("v*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return folder
