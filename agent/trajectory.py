"""What an episode leaves behind: exact tokens and verified facts.

Invariants (each has a property test):

* **Token-in, token-out.** A turn stores the token delta that preceded its sample (``prompt``) and the sampled ids
  with their log-probabilities. Concatenating the deltas of a segment gives exactly what the model saw. Nothing is
  re-tokenised.
* A turn whose ``fork`` is true starts a new segment: its ``prompt`` is then the whole context (a rewrite of history).
  Sampled tokens belong to exactly one segment, so they are trained once.
* A trajectory is sealed once (:meth:`Trajectory.seal`): facts that arrive later live in side files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sandbox.task import Failure, Status, Verdict

SCHEMA = 1


class End(StrEnum):
    """Why an episode ended. Every end has a reason."""

    SUBMITTED = "submitted"
    TURNS = "turns"
    TOKENS = "tokens"
    TIME = "time"
    FORMAT = "format"
    POLICY = "policy"
    INFRA = "infra"


class Outcome(StrEnum):
    """The four outcomes of G-RA in ascending order, and ``INFRA``, which is none of them and is masked (invariant
    6)."""

    NO_SUBMIT = "no_submit"
    EMPTY_PATCH = "empty_patch"
    TESTS_FAIL = "tests_fail"
    TESTS_PASS = "tests_pass"
    INFRA = "infra"


class Key(BaseModel):
    """Names one sample: everything random in it is drawn from this key (invariant 10)."""

    model_config = ConfigDict(frozen=True)

    seed: int
    step: int
    prompt: int
    """Ordinal of the prompt in the run's frozen order."""
    sample: int
    """Index in the group."""

    def __str__(self) -> str:
        return f"{self.seed}-{self.step}-{self.prompt}-{self.sample}"


class Action(BaseModel):
    """One parsed tool call."""

    model_config = ConfigDict(frozen=True)

    tool: str
    args: dict[str, Any] = {}


class Facts(BaseModel):
    """What is known of one turn. ``None`` means not measured, which is never the same as 0."""

    model_config = ConfigDict(frozen=True)

    format_ok: bool
    """The output parsed into exactly one action."""
    tool_ok: bool
    """The tool ran with valid arguments and without a tool-level error (``False`` when nothing parsed)."""
    exit_code: int | None = None
    """Of a command; ``None`` for other tools."""
    tree: str | None = None
    """Tree hash after the turn."""
    changed: bool = False
    """The turn changed the tree hash."""
    attempt: bool = False
    """The turn reached a tree not seen before in the episode (rewards.md, section 5.2)."""
    diagnostics: int | None = None
    """Error diagnostics of the target set after the turn, suppressed ones included."""
    suppressed: int | None = None
    targets: str | None = None
    """Digest of the target set that ``diagnostics`` counts, the same all through an episode."""
    confidence: float | None = None
    """Of the last selector resolution, in [0, 1]; ``None``: this turn resolved nothing."""
    safe: bool | None = None
    """Every safety check of the last prospective mutation passed; ``None``: this turn mutated nothing through
    lanser."""
    bundle: str | None = None
    """Digest of the Analysis Bundle in the side store: of the measurement that ``diagnostics`` comes from, else
    ``answer``."""
    answer: str | None = None
    """Digest of the bundle in which the language server answered the policy's own question: where its selector led,
    what would change, each safety check."""
    tests: str | None = Field(default=None, pattern="^[01]*$")
    """Shadow grades of an attempt: one digit per test of :attr:`Trajectory.tests`, 1 passed."""


class Turn(BaseModel):
    """One exchange: what was added to the context, what was sampled, what it did."""

    # An unknown log-probability is NaN in the file, too: null would not be read back.
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    prompt: tuple[int, ...]
    """Token ids added to the context before this sample (the whole context when ``fork``)."""
    sampled: tuple[int, ...]
    """Token ids drawn from the policy, the end-of-turn token included when it was drawn."""
    logprobs: tuple[float, ...]
    """Log-probability of each sampled id at the sampler's temperature. Same length as ``sampled``."""
    text: str
    """``sampled`` decoded, for people and parsers."""
    cut: bool = False
    """The sample ended by length rather than by a stop token."""
    fork: bool = False
    masked: bool = False
    """Its sampled tokens carry no loss (a turn cut by length, where ``cut_turns`` is ``mask``)."""
    version: int = 0
    """Weight version that sampled it; the oldest one when they changed on the way."""
    spans: tuple[tuple[int, int], ...] = ()
    """Runs of sampled tokens as (version, tokens) when the weights changed on the way; ``()``: all by ``version``."""
    action: Action | None = None
    """The first call of the turn; ``None`` when nothing parsed."""
    more: tuple[Action, ...] = ()
    """Further calls of the same turn, in the order in which they ran, where the format has parallel calls."""
    observation: str = ""
    """What the next prompt delta carries back (scrubbed of times and temporary paths)."""
    facts: Facts

    @property
    def tokens(self) -> int:
        """How many ids were sampled."""
        return len(self.sampled)


class Segment(BaseModel):
    """One training row: a context with the positions that were sampled."""

    model_config = ConfigDict(frozen=True)

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    """True where the token was sampled by the policy, in a turn that carries loss."""
    logprobs: tuple[float, ...]
    """0.0 where ``mask`` is false."""
    turn: tuple[int, ...]
    """Index of the turn that sampled the token; -1 where ``mask`` is false."""


class Trajectory(BaseModel):
    """One episode. Pure data: what rewards, replay, SFT export and the viewer read."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA
    task: str
    """``instance_id``."""
    key: Key
    policy: str
    """Name of the policy that played it, with its weights (for example ``SmolLM2-135M-Instruct@v3``)."""
    turns: tuple[Turn, ...]
    end: End
    failure: Failure | None = None
    """Set when the episode did not end by the policy's own doing (or, for ``policy``, by its fault)."""
    detail: str = ""
    """One line about ``failure`` or ``end``."""
    base_tree: str = ""
    base_diagnostics: int | None = None
    """Error diagnostics of the target set before the first turn; ``None``: not measured."""
    tests: tuple[str, ...] = ()
    """Ids of the hidden tests that attempts were graded on; ``()``: shadow grading was off."""
    patch: str = ""
    """Unified diff of the final tree against the base tree; empty when nothing changed."""
    verdict: Verdict | None = None
    """``None`` when grading was not needed (no submit, empty patch) or did not happen (infrastructure)."""
    digest: str = ""
    """``sha256:...`` over everything else; set by :meth:`seal`."""

    @property
    def outcome(self) -> Outcome:
        return outcome(self.end, self.failure, self.patch, self.verdict and self.verdict.status)

    def segments(self) -> Iterator[Segment]:
        """The training rows, in order: one unless history was rewritten."""
        start = 0
        for i in range(1, len(self.turns) + 1):
            if i == len(self.turns) or self.turns[i].fork:
                if i > start:
                    yield _segment(self.turns[start:i], start)
                start = i

    def seal(self) -> Trajectory:
        """The same trajectory with its digest set."""
        body = self.model_copy(update={"digest": ""}).model_dump_json()
        return self.model_copy(update={"digest": f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"})


def outcome(end: End, failure: Failure | None, patch: str, grading: Status | None) -> Outcome:
    """How an episode is judged; ``grading`` is what its verdict saw, ``None`` without one."""
    if failure is not None and failure is not Failure.POLICY:
        return Outcome.INFRA
    if end is not End.SUBMITTED:
        return Outcome.NO_SUBMIT
    if not patch:
        return Outcome.EMPTY_PATCH
    if grading is None or grading is Status.INFRA:
        return Outcome.INFRA
    return Outcome.TESTS_PASS if grading is Status.RESOLVED else Outcome.TESTS_FAIL


def _segment(turns: tuple[Turn, ...], first: int) -> Segment:
    ids: list[int] = []
    mask: list[bool] = []
    logprobs: list[float] = []
    owner: list[int] = []
    for index, turn in enumerate(turns, start=first):
        n, m = len(turn.prompt), len(turn.sampled)
        ids += [*turn.prompt, *turn.sampled]
        mask += [False] * n + [not turn.masked] * m
        logprobs += [0.0] * (n + m) if turn.masked else [0.0] * n + list(turn.logprobs)
        owner += [-1] * (n + m) if turn.masked else [-1] * n + [index] * m
    return Segment(ids=tuple(ids), mask=tuple(mask), logprobs=tuple(logprobs), turn=tuple(owner))
