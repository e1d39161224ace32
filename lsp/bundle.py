"""The Analysis Bundle as types: one envelope for every command (pydantic; needs no language server and no pygls).

:mod:`lsp.assemble` builds the same shape as plain dicts; these types check, document and generate the JSON Schema.
Invariants: unknown keys are refused everywhere but in ``facts.*`` items that a server fills; ``bundleId`` and
``factsId`` are recomputed by :func:`verify`, so that a stored bundle that was altered is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lsp.canonical import bundle_id, facts_id
from lsp.errors import Code, LanserError
from lsp.selectors import AnchorSpec, AstSpec, CursorSpec, RangeSpec, SymbolSpec

Selector = Annotated[CursorSpec | RangeSpec | SymbolSpec | AstSpec | AnchorSpec, Field(discriminator="kind")]
"""A PositionSpec in its JSON form, told apart by ``kind``."""
FlatRange = Annotated[list[int], Field(min_length=4, max_length=4)]
"""[start line, start column, end line, end column], 0-based, in code points."""
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Strict(BaseModel):
    """A part of the envelope."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Location(Strict):
    """A place; ``uri`` is relative to the workspace, or ``typeshed:``, ``site:``, ``stdlib:``, ``external:`` and a
    path.
    """

    uri: str
    range: FlatRange


class Diagnostic(Location):
    """One finding of the server."""

    severity: Literal["error", "warning", "information", "hint"]
    code: str
    message: str
    source: str
    suppressed: bool
    """A comment in the file suppresses it; it counts all the same."""


class SymbolItem(Location):
    """One symbol that the server lists; ``kind`` is LSP's SymbolKind."""

    name: str
    kind: int


class Targets(Strict):
    """The set of files whose diagnostics count."""

    count: int
    digest: Digest
    missing: list[str]
    unreadable: list[str]


class Facts(Strict):
    """What the server said; which fields are there depends on the command."""

    provenance: Literal["lsp"]
    freshness: Literal["proved", "assumed"]
    definitions: list[Location] | None = None
    references: list[Location] | None = None
    total: int | None = None
    hover: str | None = None
    symbols: list[SymbolItem] | None = None
    location: Location | None = None
    text: str | None = None
    symbolId: str | None = None
    anchor: str | None = None
    """An ``anchor://`` selector that nothing else in the file could pass for (``locate``)."""
    diagnostics: list[Diagnostic] | None = None
    counts: dict[str, int] | None = None
    suppressed: int | None = None
    targets: Targets | None = None
    count: int | None = None
    """D: counted diagnostics, suppressed ones included; ``None``: missing, never 0."""
    floor: int | None = None
    """How much of ``count`` is there because evasion must not pay."""
    start: int | None = None
    """D at the start of the episode."""
    new: list[Diagnostic] | None = None
    """Diagnostics that the compared revision did not have."""
    base: str | None = None
    """The revision that was compared with."""
    placeholder: str | None = None
    """What ``prepare-rename`` would rename."""
    actions: list[dict[str, Any]] | None = None
    """Code actions that the server offers."""
    trajectory: list[dict[str, Any]] | None = None
    """Per turn: diagnostics, safety, confidence, reward."""


class Request(Strict):
    """What was asked."""

    cmd: str
    selector: str | dict[str, Any] | None
    args: dict[str, Any]


class Candidate(Strict):
    """A place that a selector may mean, with what speaks for it."""

    uri: str
    range: FlatRange
    score: float
    features: dict[str, float]
    name: str | None


class Resolved(Candidate):
    """The place that was chosen."""

    docVersion: str | None
    """Digest of the file's content when it was resolved: pins a later selector to it."""


class Resolution(Strict):
    """How the selector was read."""

    original: str | dict[str, Any]
    resolved: Resolved
    confidence: Annotated[float, Field(ge=0, le=1)]
    disambiguation: list[Candidate]
    weights: dict[str, float]
    tau: float


class Edits(Strict):
    """A mutation that was prepared, and what became of it."""

    workspaceEdit: dict[str, Any]
    """The edit in LSP's form with relative URIs and ranges in code points."""
    diff: str
    files: dict[str, str]
    """Path to the digest of the content that the edit was computed on."""
    applied: bool
    safe: bool
    """Every safety check passed: S_t."""
    checks: dict[str, bool]


class Reward(Strict):
    """One turn's process reward."""

    version: Literal["pr-v1", "pr-v2"]
    r: float
    components: dict[str, float]
    weights: dict[str, float]


class Server(Strict):
    name: str
    version: str


class Python(Strict):
    executable: str
    version: str
    venv: str | None


class Environment(Strict):
    """Who answered."""

    server: Server
    positionEncoding: str | None
    python: Python
    configDigest: Digest | None
    platform: str


class Hashing(Strict):
    algo: Literal["sha256"]
    canonical: Literal["RFC 8785"]


class Meta(Strict):
    """What is about the answer rather than in it. ``timing`` and ``workspace`` are outside the hashed domain."""

    exit_code: int
    sorting_keys: list[str]
    hashing: Hashing
    truncated: bool
    cursor: str | None
    timing: dict[str, float | None]
    workspace: str | None


class Error(Strict):
    """A failure: its code, one sentence, whether trying again can help, and evidence."""

    code: str
    message: str
    retry: str
    evidence: dict[str, Any]


class Bundle(Strict):
    """The envelope."""

    version: Literal["1"]
    bundleId: Digest
    factsId: Digest
    status: Literal["ok", "error"]
    error: Error | None
    request: Request
    resolution: Resolution | None
    facts: Facts | None
    edits: Edits | None
    processReward: Reward | None
    environment: Environment
    capabilities: dict[str, bool]
    meta: Meta


class BatchRequest(BaseModel):
    """One line of ``lanser batch``."""

    model_config = ConfigDict(extra="forbid")

    cmd: str
    selector: str | Selector | None = None
    args: dict[str, Any] = {}
    id: str | int | None = None
    """For the caller; the answers come in the order of the requests."""


SELECTORS: TypeAdapter[Selector] = TypeAdapter(Selector)


def selector_from_json(value: Mapping[str, Any]) -> Selector:
    """A selector in its JSON form. ``BAD_SELECTOR_SYNTAX`` with the field that is wrong."""
    try:
        return SELECTORS.validate_python(dict(value))
    except ValidationError as error:
        raise LanserError(Code.BAD_SELECTOR_SYNTAX, f"not a selector: {first_problem(error)}") from None


def selector_to_json(selector: Selector) -> dict[str, Any]:
    """The JSON form, empty fields left out."""
    return SELECTORS.dump_python(selector, mode="json", exclude_none=True)


def validate(payload: Any) -> Bundle:
    """``payload`` as a bundle. ``BAD_INPUT`` with the first thing that is wrong."""
    try:
        return Bundle.model_validate(payload)
    except ValidationError as error:
        raise LanserError(Code.BAD_INPUT, f"not an Analysis Bundle: {first_problem(error)}") from None


def verify(payload: Mapping[str, Any]) -> None:
    """Check shape and both ids. ``BAD_INPUT`` when the bundle was altered."""
    validate(payload)
    for key, made in (("bundleId", bundle_id(payload)), ("factsId", facts_id(payload))):
        if payload[key] != made:
            raise LanserError(Code.BAD_INPUT, f"{key} is {payload[key]}, but the content hashes to {made}")


def first_problem(error: ValidationError) -> str:
    """Place and reason of the first problem that pydantic found."""
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def schemas() -> dict[str, Any]:
    """JSON Schemas of what goes in and out, by name."""
    return {
        "bundle": Bundle.model_json_schema(),
        "selector": SELECTORS.json_schema(),
        "batch-request": BatchRequest.model_json_schema(),
    }
