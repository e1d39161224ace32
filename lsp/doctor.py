"""``lanser doctor``: each server, found or not, its version, what it offers, and how long it takes to start (standard
library only).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lsp import assemble, servers
from lsp.errors import LanserError
from lsp.host import Options
from lsp.queries import run_verb
from lsp.servers import Profile, find_program
from lsp.session import Session

SAMPLE = "def greet(name: str) -> str:\n    return name\n\n\ngreet('x')\n"


async def examine(name: str, timeout: float = 60.0) -> dict[str, Any]:
    """One server: cold start to the first definition, in seconds, measured on a one-file workspace."""
    profile = servers.load(name)
    row: dict[str, Any] = {
        "server": profile.name,
        "found": find_program(profile.command[0]),
        "version": None,
        "supported": profile.supported,
        "freshness": profile.freshness,
        "capabilities": {},
        "cold_start_s": None,
        "problem": None,
    }
    if row["found"] is None:
        row["problem"] = f"{profile.command[0]} is not installed"
        return row
    try:
        return {**row, **await _measure(profile, timeout)}
    except LanserError as error:
        return {**row, "problem": f"{error.code.label}: {error.message}"}


async def _measure(profile: Profile, timeout: float) -> dict[str, Any]:
    suffix = profile.suffixes[0]
    with tempfile.TemporaryDirectory(prefix="lanser-") as folder:
        (Path(folder) / f"sample{suffix}").write_text(SAMPLE, "utf-8")
        began = time.monotonic()
        async with Session(folder, profile, Options(timeout=timeout)) as session:
            bundle = await run_verb(session, "def", {"selector": f"sample{suffix}@L5:C1"})
            took = time.monotonic() - began
            return {
                "version": assemble.server_info(session, session.host)["version"],
                # Some servers register what they are pulled for later, or not at all, and answer.
                "capabilities": {**bundle["capabilities"], "pullDiagnostics": profile.diagnostics == "pull"},
                "cold_start_s": round(took, 2),
                "problem": bundle["error"]["message"] if bundle["error"] else None,
            }


async def examine_all() -> list[dict[str, Any]]:
    """Every server that ships with a profile, one after the other."""
    return [await examine(name) for name in servers.names()]


def lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The rows as a table for people."""
    cells = [("server", "version", "supported", "cold start", "freshness", "lacks")]
    for row in rows:
        if row["problem"]:
            cells.append((row["server"], "-", row["supported"], "-", "-", row["problem"]))
            continue
        lacks = [name for name, offered in row["capabilities"].items() if not offered]
        start = f"{row['cold_start_s']} s"
        cells.append(
            (row["server"], row["version"], row["supported"], start, row["freshness"], ", ".join(lacks) or "nothing")
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
