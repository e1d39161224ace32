"""The user-visible errors of training, and the one boundary that makes them.

Whatever stops a run for a reason outside our code (a full disk, a checkpoint of another config, a sandbox engine that
died) leaves as a :class:`TrainingError` whose message is one sentence that names the thing and the way out. What was
finished is on disk before it is counted (invariant 10): the way out of an interruption is ``dojo train --resume``.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from agent.policy import PolicyError
from sandbox.protocol import SandboxError

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
}


class TrainingError(Exception):
    """Something that stops training and that a user can mend. The message is one sentence."""


@contextmanager
def boundary(run: Path) -> Generator[None]:
    """Turn what a user can mend into one sentence; everything else is a fault of ours and propagates unchanged."""
    again = f"then run 'dojo train --resume {run}': nothing finished is lost"
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise TrainingError(f"{_DISK[error.errno]} ({error.filename or run}); free some space, {again}") from error
    except SandboxError as error:
        raise TrainingError(
            f"the sandbox failed ({error}); mend it ('dojo doctor' says what works), {again}"
        ) from error
    except PolicyError as error:
        raise TrainingError(f"the engine that samples failed ({error}); mend it, {again}") from error
    except MemoryError as error:
        raise TrainingError(
            f"memory ran out; use smaller train.wave or train.prompts in a new run, or {again}"
        ) from error
