"""What is opened, and what grading says: pure data.

A :class:`Task` is one row in SWE-bench's schema, read unchanged from either a SWE-bench row or one of ours. A row
holds no source: ``origin`` names where the source comes from (a purl, or a repository and commit) and ``sha256`` pins
it. A :class:`TaskSource` turns a row into a :class:`Prepared` pair of folders; sandboxes are opened on copies of
``base`` and grading restores ``tests`` over it. A :class:`Verdict` keeps what a grader saw apart from what a reward
makes of it.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _json_list(value: Any) -> Any:
    """SWE-bench stores the two test lists as JSON strings; accept either form."""
    return json.loads(value) if isinstance(value, str) else value


TestIds = Annotated[tuple[str, ...], BeforeValidator(_json_list)]


class Case(BaseModel):
    """One call and what it must give, as plain data: what a value oracle checks outside of the tests' process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    call: str
    """``module:qualname``, importable from the task's source root."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    value: Any = None
    """What the call returns, as JSON has it (a tuple is a list)."""
    raises: str | None = None
    """Name of the exception that it raises instead."""


class Task(BaseModel):
    """One task in SWE-bench's schema, with the fields that let it be rebuilt from a package index."""

    model_config = ConfigDict(frozen=True, extra="allow")

    instance_id: str
    """Unique name, safe as a file name."""
    repo: str
    """``owner/name`` of a repository, or the package's name for a task made from a source distribution."""
    base_commit: str
    """The commit that the agent starts from. For a source distribution: the deterministic commit of the base tree."""
    problem_statement: str
    """What the agent is told. Never holds the gold patch."""
    patch: str
    """The gold patch (unified diff against the base tree)."""
    test_patch: str = ""
    """Changes to the tests that grading applies; empty where the hidden tests come from ``hidden``."""
    FAIL_TO_PASS: TestIds
    """Test ids that fail on the base tree and pass with the gold patch."""
    PASS_TO_PASS: TestIds
    """Test ids that pass before and after."""

    origin: str | None = None
    """purl of the source, for example ``pkg:pypi/toolz@0.12.1``."""
    sha256: str | None = None
    """Hash of the source distribution that ``origin`` names."""
    license: str | None = None
    """SPDX identifier of the source's licence."""
    difficulty: str | None = None
    """What the statement gives away, or SWE-bench's own estimate."""
    level: Literal["starter", "standard"] | None = None
    """``starter``: a fault in one function of at most 8 lines, which the statement names."""
    split: Literal["train", "heldout"] | None = None
    """By package, never by task."""
    focus: str | None = None
    """``path/to/module.py::qualname`` of the function that the statement names, relative to the workspace."""
    hidden: tuple[str, ...] = ()
    """Test files that are absent from the agent's tree and restored at grading (paths relative to the workspace)."""
    test_files: tuple[str, ...] = ()
    """The test files that grading runs (paths relative to the workspace)."""
    source_root: str = "."
    """Folder, relative to the workspace, that goes on the import path (``src`` for a src layout)."""
    oracle: tuple[Case, ...] = ()
    """Values that grading checks where the code under test cannot reach; never shown to an agent."""


class Prepared(BaseModel):
    """A task made concrete on this machine: folders to copy from, none of them ever written."""

    model_config = ConfigDict(frozen=True)

    task: Task
    base: Path
    """The tree that the agent starts from: one commit, no later history, no hidden test."""
    tests: Path
    """A tree of the test files and test configuration, restored over the graded tree."""
    site: Path
    """Site-packages folder with pytest and the task's test dependencies: its code never runs in our environment."""
    image: str | None = None
    """Docker image that the task asks for; ``None`` takes the default one."""
    python: str | None = None
    """Interpreter of the task's code, by its absolute path inside the sandbox; ``None``: the toolbox's own."""
    pytest_args: tuple[str, ...] = ()
    """Arguments that the task's tests need, ``("-p", "pytest_mock")`` for example: no plugin is loaded by itself."""
    command: str = ""
    """Shell command of a test program that is not pytest, whose results are read from its log; ``{python}`` and
    ``{files}`` (the test files) are filled in. Empty: pytest runs under the recorder."""
    log: str = ""
    """Parser of that log (:mod:`sandbox.grading.logs`)."""


class TaskSource(Protocol):
    """Where tasks come from. Implemented on the benchmarks floor, used through this face below it."""

    def prepare(self, task: Task) -> Prepared:
        """Build (or find cached) the folders of a task. Raises ``TaskError`` with one clear sentence."""
        ...


class TaskError(Exception):
    """A task cannot be loaded or built: unknown name, broken row, hash mismatch. The message is one sentence."""


class Failure(StrEnum):
    """Who is at fault when an episode or a grading does not end normally (invariant 6)."""

    POLICY = "policy"
    TOOL = "tool"
    SANDBOX = "sandbox"
    GRADER = "grader"
    INFRA = "infra"


class Status(StrEnum):
    """What grading saw. Only ``RESOLVED`` is worth 1."""

    RESOLVED = "resolved"
    FAILED = "failed"
    TAMPERED = "tampered"
    TIMEOUT = "timeout"
    INFRA = "infra"


class Verdict(BaseModel):
    """The grade of one patch on one task. ``grade`` is 1 for a resolved task and 0 for everything else."""

    model_config = ConfigDict(frozen=True)

    status: Status
    results: dict[str, bool] = {}
    """Per listed test id (F2P then P2P): passed. Missing, skipped and errored tests are ``False``."""
    flags: tuple[str, ...] = ()
    """Suspicions about the patch, each a short phrase; a flagged grade earns no positive credit in training."""
    detail: str = ""
    """One line for a person: why it is not resolved."""
    seconds: float = 0.0
    """Wall time of the grading, not part of equality between runs."""

    @property
    def grade(self) -> int:
        return int(self.status is Status.RESOLVED)
