"""Control flow of an episode, and the one translation of foreign errors per trust boundary.

An episode ends by an exception that says why: :class:`Stop` for a reason of its own (submitted, out of budget), and
:class:`Fault` for something that broke. Code behind a trust boundary raises what it likes; :func:`boundary` is the
only place that turns it into a :class:`Fault`, so that the loop above sees two kinds of exception and no others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from agent.policy import PolicyError
from agent.trajectory import End
from sandbox.protocol import SandboxError
from sandbox.task import Failure, TaskError


class Stop(Exception):
    """The episode is over for a reason of its own."""

    def __init__(self, end: End, detail: str = "") -> None:
        super().__init__(detail or end.value)
        self.end = end
        self.detail = detail


class Fault(Exception):
    """Something outside the policy broke. ``failure`` says on which side of which boundary."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail


class ToolError(Exception):
    """A tool refuses its arguments or cannot do what they ask. The message is the observation."""


class FormatError(Exception):
    """An answer holds no action, or more than one. The message is the observation."""


_FOREIGN: dict[Failure, tuple[type[Exception], ...]] = {
    # A policy's engine may sit behind a socket; whatever its transport raises is infrastructure.
    Failure.INFRA: (PolicyError, SandboxError, OSError, asyncio.TimeoutError),
    Failure.SANDBOX: (SandboxError, OSError, asyncio.TimeoutError),
    Failure.GRADER: (SandboxError, TaskError, OSError, asyncio.TimeoutError),
    # Tools are pluggable: nothing that one of them raises may take down the run.
    Failure.TOOL: (Exception,),
}


@contextmanager
def boundary(failure: Failure) -> Generator[None]:
    """What is known to come from behind this boundary leaves as a :class:`Fault`; a bug of ours propagates as it is."""
    try:
        yield
    except (Stop, Fault, ToolError, FormatError):
        raise
    except SandboxError as error:
        raise Fault(failure if failure is not Failure.TOOL else Failure.SANDBOX, one_line(error)) from error
    except _FOREIGN[failure] as error:
        raise Fault(failure, one_line(error)) from error


def one_line(error: BaseException) -> str:
    """``Kind: message`` on one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
