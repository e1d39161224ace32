"""Tools describe themselves by their argument models; they work in a real sandbox, the web one with a real server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from agent_stage import Stage, make_prepared, make_site, play, says
from pydantic import ValidationError

from agent import tools
from agent.config import AgentConfig
from agent.doubles import ExactGrader
from agent.errors import ToolError
from agent.store import SideFiles
from agent.tools.describe import arguments, page, parameters, schema
from agent.tools.search import PER_FILE, SHOWN, Match, parse, render
from agent.tools.tool import Scene, Web
from agent.tools.web import WebSearch, WebSearchArgs, fetch
from agent.tools.web import render as render_results
from agent.trajectory import Trajectory
from sandbox.local import LocalBackend
from sandbox.network import Allow
from sandbox.protocol import Spec
from sandbox.task import Prepared

NAMES = ("bash", "edit", "rewrite", "lsp", "search", "test", "submit")
ALL = {name: tools.load((name,))[name] for name in tools.BUILT_IN}


# -- descriptions -----------------------------------------------------------------------------------------------------


def test_the_reference_page_is_the_one_that_the_models_give() -> None:
    written = Path(__file__).parents[2] / "docs" / "tools.md"
    assert written.read_text(encoding="utf-8") == page(ALL.values()), "run: python -m agent.tools > docs/tools.md"


@pytest.mark.parametrize("name", tools.BUILT_IN)
def test_every_argument_is_described_by_a_docstring_in_the_model(name: str) -> None:
    found = schema(ALL[name])["function"]["parameters"]
    assert set(found["properties"]) == set(ALL[name].Args.model_fields)
    assert all(one["description"] for one in found["properties"].values())
    assert found["additionalProperties"] is False


def test_a_schema_says_choices_and_what_may_be_left_out() -> None:
    found = parameters(ALL["edit"])
    assert found["required"] == ["command", "path"]
    assert found["properties"]["command"]["enum"] == ["view", "create", "str_replace", "insert", "undo_edit"]
    assert found["properties"]["insert_line"]["type"] == "integer" and "default" not in found["properties"]["path"]
    assert arguments(ALL["test"]) == "select?, keyword?"


def test_an_argument_called_title_is_no_title_of_the_schema() -> None:
    assert parameters(ALL["lsp"])["properties"]["title"]["type"] == "string"


# -- in a sandbox -----------------------------------------------------------------------------------------------------


def block(fence: str, body: str = "") -> str:
    return f"```{fence}\n{body}\n```"


def lsp(**args: object) -> str:
    return block("lsp", json.dumps(args))


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    found = make_prepared(tmp_path)
    make_site(found.site)
    (found.base / "tests").mkdir()
    (found.base / "tests" / "test_seen.py").write_text(
        "from pack.core import clamp\n\n\ndef test_low():\n    assert clamp(-1, 0, 3) == 3\n"
    )
    return found


def played(prepared: Prepared, *texts: str, side: SideFiles | None = None, **config: object) -> Trajectory:
    async def work() -> Trajectory:
        backend = LocalBackend(unsafe=True)
        try:
            stage = Stage(prepared, backend, ExactGrader(), side)
            return await play(stage, says(*texts, block("submit")), tools=NAMES, max_turns=len(texts) + 1, **config)
        finally:
            await backend.close()

    return asyncio.run(work())


def observed(trajectory: Trajectory) -> list[str]:
    return [turn.observation for turn in trajectory.turns]


ADD = "py://pack.core#Counter.add"


def test_the_language_server_answers_shortly_and_its_confidence_is_a_fact(prepared: Prepared, tmp_path: Path) -> None:
    side = SideFiles(tmp_path / "side")
    asked = (
        lsp(verb="def", selector=ADD),
        lsp(verb="refs", selector="py://pack.core#clamp"),
        lsp(verb="symbols", path="pack/core.py"),
    )
    turns = played(prepared, *asked, lsp(verb="diag"), lsp(verb="hover", selector=ADD), side=side).turns
    assert turns[0].observation == "pack/core.py:13:9: def add(self, k=1):"
    assert turns[1].observation.split("\n")[0].startswith("pack/core.py:4:5: def clamp")
    assert "tests/test_seen.py" in turns[1].observation
    assert turns[2].observation.split("\n") == ["4: clamp", "9: Counter", "10: Counter.__init__", "13: Counter.add"]
    assert turns[3].observation == "no errors, no warnings" and "def add" in turns[4].observation
    assert turns[0].facts.confidence == 1.0 and turns[2].facts.confidence is None
    assert side.get(turns[0].facts.bundle or "")["request"]["cmd"] == "def"
    assert not any(turn.facts.changed for turn in turns)


def test_a_rename_is_a_preview_until_it_is_applied_and_its_safety_is_a_fact(prepared: Prepared, tmp_path: Path) -> None:
    rename, side = {"verb": "rename", "selector": ADD, "name": "plus"}, SideFiles(tmp_path / "side")
    trajectory = played(prepared, lsp(**rename), lsp(**rename, apply=True), diagnostics=True, side=side)
    preview, applied, _ = trajectory.turns
    assert "+    def plus(self" in preview.observation and "nothing was written" in preview.observation
    assert preview.facts.safe is True and not preview.facts.changed
    assert applied.observation.endswith("written: 1 files") and applied.facts.safe is True
    assert applied.facts.attempt and applied.facts.diagnostics == 0 and applied.facts.targets is not None
    assert "+    def plus(self" in trajectory.patch and ".lanser" not in trajectory.patch
    assert preview.facts.bundle == preview.facts.answer != applied.facts.answer != applied.facts.bundle
    answer, measured = side.get(applied.facts.answer or ""), side.get(applied.facts.bundle or "")
    assert answer["resolution"]["confidence"] == 1.0 and all(answer["edits"]["checks"].values())
    assert measured["request"]["cmd"] == "diag" and measured["facts"]["targets"]["digest"] == applied.facts.targets


def test_code_actions_are_listed_and_one_of_them_is_shown_and_then_taken(prepared: Prepared) -> None:
    (prepared.base / "pack/late.py").write_text("def where():\n    return os.getcwd()\n")
    here = {"verb": "code-action", "selector": "pack/late.py@L2:C12"}
    chosen = {**here, "title": "import os"}
    trajectory = played(prepared, lsp(**here), lsp(**chosen), lsp(**chosen, apply=True), diagnostics=True)
    listed, preview, applied, _ = trajectory.turns
    assert "quickfix: import os" in listed.observation.split("\n") and listed.facts.safe is None
    assert "+import os" in preview.observation and preview.facts.safe is True and not preview.facts.changed
    assert applied.facts.attempt and applied.facts.safe is True and applied.facts.confidence == 1.0
    assert "+import os" in trajectory.patch


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"verb": "def"}, "error: lsp: arguments: def needs a selector."),
        ({"verb": "rename", "selector": ADD}, "error: lsp: arguments: rename needs a name."),
        ({"verb": "symbols"}, "error: lsp: arguments: symbols needs a path."),
        ({"verb": "fly"}, "error: lsp: verb: "),
    ],
)
def test_a_question_that_is_not_whole_is_refused(stage: Stage, args: dict[str, object], reason: str) -> None:
    turn = asyncio.run(play(stage, says(lsp(**args)), tools=NAMES, max_turns=1)).turns[0]
    assert turn.observation.startswith(reason) and not turn.facts.tool_ok


def test_what_the_server_cannot_answer_is_an_observation(prepared: Prepared) -> None:
    turn = played(prepared, lsp(verb="def", selector="py://pack.core#Nope")).turns[0]
    assert turn.observation.startswith("error: ") and turn.facts.format_ok and not turn.facts.tool_ok


def test_search_shows_definitions_first_and_tests_last(prepared: Prepared) -> None:
    (prepared.base / "pack" / "use.py").write_text("from pack.core import clamp\n\nx = clamp(1, 2, 3)\n")
    found, inside, none, wrong, nowhere, *_ = observed(
        played(
            prepared,
            block("search", "clamp"),
            block("search pack", "cl.mp\\("),
            block("search", "zzz"),
            block("search", "(("),
            block("search nowhere", "x"),
        )
    )
    places = [line.split(": ")[0] for line in found.split("\n")]
    assert (
        places[0] == "pack/core.py:4" and places[1] == "pack/use.py:3" and places[-1].startswith("tests/test_seen.py")
    )
    assert "tests" not in inside and none == "no match"
    assert wrong.startswith("error: Unmatched") and nowhere == "error: nowhere: No such file or directory."


def test_the_working_directory_of_the_shell_is_neither_used_nor_changed(prepared: Prepared) -> None:
    texts = (block("bash", "cd pack"), block("search", "# pack"), block("test"), block("bash", "pwd"))
    seen = observed(played(prepared, *texts))
    assert seen[1].startswith("README.md:1") and seen[3] == "/workspace/pack"


def test_visible_tests_run_and_hidden_ones_are_not_there(prepared: Prepared) -> None:
    texts = (
        block("test"),
        block("test", "tests/test_seen.py::test_low"),
        block("test", "tests/test_core.py"),
        block("test", "-x"),
    )
    trajectory = played(prepared, *texts, block("test", "'a"))
    seen = observed(trajectory)
    assert "1 passed" in seen[0] and "1 passed" in seen[1] and trajectory.turns[0].facts.exit_code == 0
    assert "not found: tests/test_core.py" in seen[2] and trajectory.turns[2].facts.exit_code == 4
    assert seen[3].startswith("error: test: select: -x is an option") and "quotation mark" in seen[4]
    assert not any(turn.facts.changed for turn in trajectory.turns)


# -- ranking ----------------------------------------------------------------------------------------------------------


def test_matches_are_capped_per_file_and_in_all_and_the_rest_is_counted() -> None:
    many = [Match(f"f{i}.py", line, "x") for i in range(10) for line in range(20)]
    lines = render(many, more=False).split("\n")
    assert len(lines) == SHOWN + 1 and lines[-1].startswith(f"[{200 - SHOWN} more matches in 10 files")
    assert sum(line.startswith("f0.py") for line in lines) == PER_FILE


def test_greps_lines_are_read_and_anything_else_is_skipped() -> None:
    assert parse("--\n./a.py:3:x: y\na.py:3:x: y\nno number: 1\nb:2") == [Match("a.py", 3, "x: y")]


# -- the web ----------------------------------------------------------------------------------------------------------

Answer = Callable[[str], bytes]


@pytest.fixture
def searx() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server that answers as SearXNG does: its address, and the answer to give."""
    answer = {"body": b""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer["asked"] = self.path.encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answer
    server.shutdown()
    server.server_close()
    thread.join()


def searched(stage: Stage, endpoint: str, query: str = "why so") -> str:
    async def work() -> str:
        sandbox = await stage.backend.open(Spec(tree=stage.prepared.base))
        scene = Scene(stage.prepared.task, sandbox, 10.0, web=Web(endpoint, offline=False))
        try:
            return (await WebSearch().run(WebSearchArgs(query=query), scene)).text
        finally:
            await sandbox.close()

    return asyncio.run(work())


def test_a_search_on_the_web_gives_titles_addresses_and_excerpts(
    stage: Stage, searx: tuple[str, dict[str, bytes]]
) -> None:
    endpoint, answer = searx
    results = [{"title": f"T{i}", "url": f"https://{i}", "content": "so\n" * 300} for i in range(9)]
    answer["body"] = json.dumps({"results": [*results[:3], "no object", *results[3:]]}).encode()
    text = searched(stage, endpoint)
    assert answer["asked"] == b"/search?q=why+so&format=json"
    assert text.startswith("T0\n  https://0\n  so so") and len(text) < 5 * 260
    assert render_results({"results": []}) == "no results"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"results": 3}', b"x" * (1 << 20) + b"xx"])
def test_an_endpoint_that_answers_something_else_is_an_observation(
    stage: Stage, searx: tuple[str, dict[str, bytes]], body: bytes
) -> None:
    endpoint, answer = searx
    answer["body"] = body
    with pytest.raises(ToolError, match="the search endpoint gave no answer"):
        searched(stage, endpoint)
    with pytest.raises(ValueError):
        fetch(endpoint, "x")


def test_an_endpoint_that_is_not_there_is_an_observation(stage: Stage) -> None:
    with pytest.raises(ToolError, match="gave no answer"):
        searched(stage, "http://127.0.0.1:9")


def test_an_episode_whose_sandbox_may_reach_listed_hosts_may_search_the_web(
    prepared: Prepared, searx: tuple[str, dict[str, bytes]]
) -> None:
    endpoint, answer = searx
    answer["body"] = json.dumps({"results": [{"title": "T", "url": "https://t", "content": "c"}]}).encode()

    async def work() -> Trajectory:
        backend = LocalBackend()
        try:
            stage = Stage(prepared, backend, ExactGrader(), network=Allow(allow=("example.org",)))
            texts = (block("web_search", "why so"), block("submit"))
            return await play(stage, says(*texts), tools=("web_search", "submit"), web_endpoint=endpoint)
        finally:
            await backend.close()

    turn = asyncio.run(work()).turns[0]
    assert turn.observation == "T\n  https://t\n  c" and turn.facts.tool_ok and not turn.facts.changed


def test_the_web_is_off_without_an_endpoint_and_refused_where_sandboxes_are_offline(stage: Stage) -> None:
    with pytest.raises(ValidationError, match=r"web_search' needs agent\.web_endpoint"):
        AgentConfig.model_validate({"tools": ["web_search", "submit"]})
    with pytest.raises(ValidationError, match="web_endpoint"):
        AgentConfig.model_validate({"web_endpoint": "file:///etc"})
    offline = r"refused where sandboxes are offline; take it out of agent\.tools, or list in sandbox\.network"
    with pytest.raises(ValueError, match=offline):
        stage.scaffold(tools=("web_search", "submit"), web_endpoint="http://127.0.0.1:9")
