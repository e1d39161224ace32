"""The ``lanser`` command as a user runs it: exit codes, one bundle on stdout, gates, the daemon, start-up cost."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lsp.bundle import verify

DOCS = Path(__file__).parents[2] / "docs" / "lanser.md"
ENV = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


LOADED = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from lsp.cli import main
main()
"""
"""The command, telling at its end what it has loaded."""


def lanser(
    root: Path, *args: str, given: str | None = None, program: Sequence[str] = ("-m", "lsp.cli")
) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        **ENV,
        "XDG_RUNTIME_DIR": str(root.parent / ("run" * 30)),
        "TMPDIR": str(root.parent),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, *program, *args]
    return subprocess.run(
        command, cwd=root, env=env, input=given, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "a.py").write_text("def walk(n: int) -> int:\n    return n\n\n\nold: int = 'x'\n")
    (root / "b.py").write_text("from a import walk\n\nwalk(1)\n")
    env = {**os.environ, **ENV}
    subprocess.run("git init -q && git add -A && git commit -qm x", shell=True, cwd=root, env=env, check=True)
    return root


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["def", "b.py@L3:C1"], 0),
        (["locate", "nonsense"], 2),
        (["def", "b.py@L99:C1"], 3),
        (["def", "py://a#nothing"], 3),
        (["def", "../x.py@L1:C1"], 77),
        (["def"], 79),
        (["nonsense"], 79),
        (["def", "b.py@L3:C1", "--server", "unknown"], 79),
        (["rename", "py://a#walk", "not a name"], 79),
        (["rename", "py://a#walk", "class"], 79),
    ],
)
def test_the_exit_status_says_what_happened(project: Path, args: list[str], status: int) -> None:
    server = [] if "--server" in args or len(args) < 2 else ["--server", "ty"]
    done = lanser(project, *args, *server)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert status == 0 or len(done.stderr.strip().splitlines()) == 1


def test_json_is_one_valid_bundle_and_nothing_else(project: Path) -> None:
    for args in (["refs", "py://a#walk"], ["def", "b.py@L99:C1"], ["diag"], ["rename", "py://a#walk", "stroll"]):
        done = lanser(project, *args, "--json", "--server", "ty")
        bundle = json.loads(done.stdout)
        verify(bundle)
        assert bundle["meta"]["exit_code"] == done.returncode


def test_an_anchor_that_locate_makes_leads_to_what_it_names(project: Path) -> None:
    anchor = json.loads(lanser(project, "locate", "py://a#walk", "--json").stdout)["facts"]["anchor"]
    (project / "a.py").write_text("# moved\n\n" + (project / "a.py").read_text())
    found = json.loads(lanser(project, "refs", anchor, "--json", "--server", "ty").stdout)
    assert found["facts"] and [item["uri"] for item in found["facts"]["references"]] == ["a.py", "b.py", "b.py"]
    assert anchor in lanser(project, "locate", anchor).stdout


def test_a_list_is_given_in_pages(project: Path) -> None:
    asked = ["refs", "py://a#walk", "--server", "ty", "--limit", "2"]
    first = json.loads(lanser(project, *asked, "--json").stdout)
    assert first["meta"]["truncated"] and len(first["facts"]["references"]) == 2
    rest = lanser(project, *asked, "--cursor", first["meta"]["cursor"], "--json").stdout
    assert len(json.loads(rest)["facts"]["references"]) == first["facts"]["total"] - 2
    shown = lanser(project, *asked).stdout
    assert f"--cursor {first['meta']['cursor']}" in shown and "1:5  def walk(n: int) -> int:" in shown


def test_a_terminal_gets_tables_and_marked_places_a_pipe_gets_plain_text(project: Path) -> None:
    def on_terminal(*args: str) -> str:
        ours, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-m", "lsp.cli", *args, "--server", "ty"], cwd=project, env=env, stdout=theirs)
        os.close(theirs)
        with os.fdopen(ours, "rb") as file:
            return file.read1(100_000).decode()

    underlined = "\x1b[1;4"
    for args, marked in (
        (("def", "b.py@L3:C1"), underlined),
        (("refs", "py://a#walk"), underlined),
        (("diag",), "\x1b[31merror"),
        (("rename", "py://a#walk", "stroll"), "\x1b["),
    ):
        shown = on_terminal(*args)
        assert marked in shown and "a.py" in shown, shown
        assert "\x1b" not in lanser(project, *args, "--server", "ty").stdout


def test_a_ci_job_fails_on_new_errors_only_and_gets_sarif(project: Path) -> None:
    gate = ["diag", "--changed", "HEAD", "--fail-on", "new-errors", "--server", "ty"]
    (project / "a.py").write_text("# moved\n\n" + (project / "a.py").read_text())
    assert lanser(project, *gate).returncode == 0
    assert lanser(project, "diag", "--fail-on", "errors", "--server", "ty").returncode == 1
    (project / "b.py").write_text("from a import walk\n\nwalk('x')\n")
    (project / "c.py").write_text("fresh: int = 'x'\n")
    done = lanser(project, *gate, "--format", "sarif")
    assert done.returncode == 1
    results = checked(json.loads(done.stdout))[0]["results"]
    found = [item["locations"][0]["physicalLocation"] for item in results if item["level"] == "error"]
    assert sorted(item["artifactLocation"]["uri"] for item in found) == ["b.py", "c.py"]
    assert found[0]["region"]["startLine"] == 3
    assert lanser(project, "diag", "--fail-on", "new-errors").returncode == 79
    assert lanser(project, *gate, "a.py").returncode == 0
    # Without a revision the last commit is meant.
    assert lanser(project, "diag", "--changed", "--fail-on", "new-errors", "--server", "ty").returncode == 1


def recipe(base: str) -> str:
    """The command of the CI job in docs/lanser.md, against ``base``."""
    text = DOCS.read_text("utf-8")
    found = re.search(r"- run: >\n((?: +[^\n]+\n)+?) +- uses", text)
    assert found is not None
    return " ".join(found[1].split()).replace("origin/${{ github.base_ref }}", base)


def test_the_documented_ci_job_reports_what_a_branch_adds_and_says_how_it_ended(project: Path) -> None:
    def shell(command: str) -> int:
        env = {**os.environ, **ENV, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(["bash", "-ec", command], cwd=project, env=env, check=False, timeout=240).returncode

    assert shell("git branch base && git checkout -qb work") == 0
    (project / "b c.py").write_text("from a import walk\n\nwalk('x')\nwalk('x')\n")
    (project / "binary.py").write_bytes(bytes(range(256)))
    assert shell("git add -A && git commit -qm more") == 0
    assert shell(recipe("base")) == 1
    (run,) = checked(json.loads((project / "lanser.sarif").read_text()))
    assert run["tool"]["driver"]["name"] == "basedpyright"
    assert [item["ruleId"] for item in run["results"]] == ["reportArgumentType"] * 2
    assert len({item["partialFingerprints"]["lanser/v1"] for item in run["results"]}) == 2
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "b%20c.py" and place["region"]["startLine"] == 3
    said = run["invocations"][0]["toolExecutionNotifications"]
    assert [note["message"]["text"] for note in said] == ["binary.py cannot be read as text: it was not checked"]
    assert shell("git rm -q 'b c.py' && git commit -qm less") == 0
    assert shell(recipe("base")) == 0
    assert checked(json.loads((project / "lanser.sarif").read_text()))[0]["results"] == []


def checked(log: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of a SARIF log that has what 2.1.0 and code scanning ask for."""
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-2.1.0.json")
    for run in log["runs"]:
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        assert run["tool"]["driver"]["name"] and len(set(rules)) == len(rules)
        for item in run["results"]:
            assert rules[item["ruleIndex"]] == item["ruleId"] and item["message"]["text"]
            assert item["level"] in ("error", "warning", "note") and item["partialFingerprints"]
            (where,) = (place["physicalLocation"] for place in item["locations"])
            assert not where["artifactLocation"]["uri"].startswith(("/", "file:"))
            assert min(where["region"].values()) >= 1
    return log["runs"]


def test_what_cannot_be_read_or_is_not_there_is_said(project: Path) -> None:
    (project / "binary.py").write_bytes(bytes(range(256)))
    shown = lanser(project, "diag", "binary.py", "--server", "ty").stdout
    assert shown == "binary.py: cannot be read as text: it was not checked\n0 errors, 0 warnings in 0 files\n"
    assert "@L3:C14" in lanser(project, "def", "b.py:3:14").stderr
    assert lanser(project, "symbols", "-q", "zzz", "--server", "ty").stdout == "no symbols\n"
    for args in (["diag", "--changed", "nope", "--server", "ty"], ["symbols"], ["trace", "list", "nope"]):
        done = lanser(project, *args)
        assert done.returncode == 79 and len(done.stderr.splitlines()) == 1 and "Errno" not in done.stderr
    shutil.rmtree(project / ".git")
    assert "in no git repository" in lanser(project, "diag", "--changed", "--server", "ty").stderr


def test_an_applied_rename_is_written_and_an_unclean_tree_refuses_it(project: Path) -> None:
    args = ["rename", "py://a#walk", "stroll", "--server", "ty"]
    assert lanser(project, *args).returncode == 0
    assert "def walk" in (project / "a.py").read_text()
    assert lanser(project, *args, "--apply").returncode == 0
    assert "stroll(1)" in (project / "b.py").read_text()
    assert lanser(project, "rename", "py://a#stroll", "walk", "--server", "ty", "--apply").returncode == 78


def test_the_daemon_answers_the_command_like_a_fresh_process(project: Path) -> None:
    args = ["hover", "py://a#walk", "--json", "--server", "ty"]
    alone = json.loads(lanser(project, *args).stdout)
    begun = lanser(project, "daemon", "start", "--server", "ty")
    assert begun.returncode == 0, begun.stderr
    started = json.loads(begun.stdout)
    try:
        first, second = (json.loads(lanser(project, *args).stdout) for _ in range(2))
        loaded = {*lanser(project, *args, program=("-c", LOADED)).stderr.split()}
        status = json.loads(lanser(project, "daemon", "status", "--server", "ty").stdout)
    finally:
        assert lanser(project, "daemon", "stop", "--server", "ty").returncode == 0
    assert status["pid"] == started["pid"]
    assert (status["answered"], status["remembered"]) == (3, 2)
    assert "lsp.ask" in loaded and not loaded & {
        "asyncio",
        "pydantic",
        "pygls",
        "lsprotocol",
        "tree_sitter",
        "lsp.session",
    }
    assert alone["bundleId"] == first["bundleId"] == second["bundleId"]


def test_a_daemon_ended_by_a_signal_leaves_nothing(project: Path) -> None:
    before = {*project.parent.iterdir()}
    started = json.loads(lanser(project, "daemon", "start", "--server", "ty").stdout)
    assert lanser(project, "hover", "py://a#walk", "--server", "ty").returncode == 0
    assert {*project.parent.glob("lanser-*")}
    os.kill(started["pid"], signal.SIGTERM)
    until = time.monotonic() + 60
    while Path(f"/proc/{started['pid']}/exe").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not {*project.parent.glob("lanser-*")} - before


def test_a_daemon_that_cannot_start_says_why_in_one_sentence(project: Path) -> None:
    for args, status in ((["--server", "unknown"], 79), (["--workspace", "nowhere", "--server", "ty"], 65)):
        done = lanser(project, "daemon", "start", *args)
        assert done.returncode == status and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_trace_and_schemas_and_rewards_by_command(project: Path) -> None:
    trace = project.parent / "t.jsonl"
    asked = ["refs", "py://a#walk", "--server", "ty", "--json"]
    recorded = lanser(project, *asked, "--trace-file", str(trace))
    assert json.loads(lanser(project, "trace", "replay", str(trace)).stdout) == json.loads(recorded.stdout)
    assert "refs py://a#walk" in lanser(project, "trace", "list", str(trace)).stdout
    assert lanser(project, "schema", "validate", given=recorded.stdout).returncode == 0
    altered = json.loads(recorded.stdout)
    altered["facts"]["total"] += 1
    assert lanser(project, "schema", "validate", given=json.dumps(altered)).returncode == 1
    assert json.loads(lanser(project, "schema", "export").stdout)["title"] == "Bundle"
    bundles = project.parent / "b.jsonl"
    bundles.write_text(lanser(project, "diag", "--json", "--server", "ty").stdout)
    (project / "a.py").write_text("def walk(n: int) -> int:\n    return n\n")
    with bundles.open("a") as file:
        file.write(lanser(project, "diag", "--json", "--server", "ty").stdout)
    assert json.loads(lanser(project, "reward", str(bundles)).stdout)["r"] == pytest.approx(0.5)


def test_help_is_light() -> None:
    heavy = ["torch", "openhands_aci", "pygls", "lsprotocol", "pydantic", "asyncio"]
    code = f"import sys, lsp.cli; print([name for name in {heavy} if name in sys.modules])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.strip() == "[]"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
