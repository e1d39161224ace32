"""A server that belongs to the run and may die: started anew on the same port, so many times and no more.

What was asked of it meanwhile is asked again, and it is sent the weights before it samples
(:meth:`trainers.sync.publish.Publisher.revive`). A server that keeps dying stops the run, with everything finished on
disk; one that the run did not start is none of its business.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from trainers.engines.http import ServerError
from trainers.engines.launch import Server

GRACE_S = 2.0
"""Seconds that a process may take to be gone after its connections are."""


@dataclass(slots=True)
class Keeper:
    """Holds the server of a run."""

    server: Server
    start: Callable[[int], Server]
    """Starts another one on a port."""
    most: int
    """Times that this may happen."""
    restarts: int = 0
    """Times that it did."""

    def died(self) -> bool:
        """Whether its process has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.server.process.wait(GRACE_S)
        return self.server.process.poll() is not None

    def renew(self) -> None:
        """Another server in its place. Raises :class:`ServerError` when that happened too often, or none comes up."""
        code, log = self.server.process.returncode, self.server.log
        if self.restarts >= self.most:
            raise ServerError(
                f"the vLLM server ended with code {code} and was started anew {self.restarts} times already "
                f"(engine.restarts); see {log}"
            )
        self.server.close()
        self.restarts += 1
        self.server = self.start(self.server.port)

    def close(self) -> None:
        """Stop the server that runs."""
        self.server.close()
