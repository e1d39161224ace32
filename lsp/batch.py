"""``lanser batch``: JSONL requests in, JSONL bundles out, in order, over one warm server (pydantic).

Invariant: every line is answered by exactly one line; a bad one by an error bundle, and the run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from lsp import assemble
from lsp.bundle import BatchRequest, first_problem
from lsp.errors import Code, LanserError
from lsp.selectors import format as write
from lsp.session import Session
from lsp.verbs import call


def parse(line: str) -> tuple[str, dict[str, Any]]:
    """Command and arguments of one line. ``BAD_INPUT``."""
    try:
        asked = BatchRequest.model_validate_json(line)
    except ValidationError as error:
        raise LanserError(Code.BAD_INPUT, f"not a request: {first_problem(error)}") from None
    selector = asked.selector if asked.selector is None or isinstance(asked.selector, str) else write(asked.selector)
    return asked.cmd, asked.args if selector is None else {**asked.args, "selector": selector}


async def answer(session: Session, line: str) -> dict[str, Any]:
    """The bundle of one line."""
    try:
        cmd, args = parse(line)
    except LanserError as error:
        return assemble.bundle(assemble.request("batch"), session, error=error)
    return await call(session, cmd, args)


async def run(session: Session, lines: Iterable[str], out: Any) -> int:
    """Answer every non-empty line on ``out``; how many failed."""
    failed = 0
    for line in _filled(lines):
        bundle = await answer(session, line)
        failed += bundle["status"] == "error"
        out.write(json.dumps(bundle, ensure_ascii=False) + "\n")
        out.flush()
    return failed


def _filled(lines: Iterable[str]) -> Iterator[str]:
    return (line for line in lines if line.strip())
