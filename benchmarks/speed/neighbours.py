"""Definition and references on the same symbols by multilspy and by lanser, both with the same jedi-language-server.

multilspy is no dependency of ours: it is installed on demand into an environment of its own in the cache, whose
jedi-language-server both sides start.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import venv
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.speed.measure import Measured, Unmeasured, paired
from benchmarks.speed.workspace import CORE, positions
from lsp.host import Options
from lsp.queries import run_verb
from lsp.session import Session
from sandbox.toolbox import cache_root

REQUIREMENT = "multilspy==0.1.1"
STARTS = 5
"""Processes of each side: jedi takes seconds for one list of references."""
SCRIPT = """
import asyncio, json, sys, time
from multilspy import LanguageServer
from multilspy.multilspy_config import MultilspyConfig
from multilspy.multilspy_logger import MultilspyLogger

async def main(root, path, places, runs):
    began = time.perf_counter()
    config = MultilspyConfig.from_dict({"code_language": "python"})
    config.server_binary = sys.argv[2]
    server = LanguageServer.create(config, MultilspyLogger(), root)
    async def ask(line, column):
        await server.request_definition(path, line, column)
        await server.request_references(path, line, column)
    async with server.start_server():
        await ask(*places[0])
        cold, warm = time.perf_counter() - began, []
        for run in range(runs):
            at = time.perf_counter()
            await ask(*places[run % len(places)])
            warm.append(time.perf_counter() - at)
    print(json.dumps({"cold": cold, "warm": warm}))

asyncio.run(main(**json.loads(sys.argv[1])))
"""


@dataclass(frozen=True)
class Asked:
    """Definition and references at places of one file: once, then ``runs`` times."""

    root: str
    path: str
    places: list[tuple[int, int]]
    runs: int


@dataclass
class Took:
    """Seconds to the first pair of answers, and of each pair after it."""

    cold: list[float] = field(default_factory=list[float])
    warm: list[float] = field(default_factory=list[float])


def measure(root: Path, runs: int) -> list[Measured]:
    """Cold (to the first pair of answers) and warm, in turns; one line with the reason when multilspy cannot be had."""
    home = cache_root() / "speed" / REQUIREMENT.replace("==", "-")
    if reason := install(home):
        return [Measured(f"against {REQUIREMENT}", "", note=reason)]
    asked = Asked(str(root), CORE, positions(root), -(-runs // STARTS))
    theirs, ours = Took(), Took()
    for _ in range(STARTS):
        _multilspy(home, asked, theirs)
        asyncio.run(_lanser(home, asked, ours))
    return [*_pair("cold", theirs.cold, ours.cold), *_pair("warm", theirs.warm, ours.warm)]


def _pair(kind: str, theirs: list[float], ours: list[float]) -> list[Measured]:
    """Both sides ask about the same places in the same order: jedi takes 0.1 s for one and 5 s for another."""
    slow = Measured(f"def + refs, {kind}: {REQUIREMENT}", "ms", tuple(1e3 * seconds for seconds in theirs), "jedi")
    fast = Measured(f"def + refs, {kind}: lanser", "ms", tuple(1e3 * seconds for seconds in ours), "same jedi server")
    return [slow, fast, paired(f"def + refs, {kind}: multilspy / lanser", slow, fast)]


def install(home: Path) -> str:
    """Make the environment unless it is there; why that failed, empty when it did not."""
    if (home / "ready").is_file():
        return ""
    try:
        venv.create(home, with_pip=True, clear=True)
        command = [str(home / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"no environment could be made: {error}"
    if done.returncode:
        return f"pip could not install it: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    (home / "ready").touch()
    return ""


def _multilspy(home: Path, asked: Asked, took: Took) -> None:
    command = [str(home / "bin/python"), "-c", SCRIPT, json.dumps(asdict(asked)), _server(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unmeasured(f"multilspy failed: {done.stderr.strip()[-300:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    took.cold.append(found["cold"])
    took.warm += found["warm"]


def _server(home: Path) -> str:
    return str(home / "bin/jedi-language-server")


async def _lanser(home: Path, asked: Asked, took: Took) -> None:
    async def ask(session: Session, line: int, column: int) -> None:
        for verb in ("def", "refs"):
            bundle = await run_verb(session, verb, {"selector": f"{asked.path}@L{line + 1}:C{column + 1}"})
            if bundle["status"] != "ok":
                raise Unmeasured(f"lanser failed: {bundle['error']['message']}")

    began = time.perf_counter()
    async with Session(asked.root, "jedi-language-server", Options(command=(_server(home),), timeout=300)) as session:
        await ask(session, *asked.places[0])
        took.cold.append(time.perf_counter() - began)
        for run in range(asked.runs):
            at = time.perf_counter()
            await ask(session, *asked.places[run % len(asked.places)])
            took.warm.append(time.perf_counter() - at)
