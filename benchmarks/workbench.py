"""A private copy of one package in which many faults are tried: write one file, run tests, put it back.

Byte code of the unchanged modules is kept between runs; that of the file under change is removed, so that no run can
see a stale one.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from benchmarks.packages import Package
from sandbox.grading.command import ENV, PLUGIN, UNSET, Forged, Report, read_report, test_run
from sandbox.grading.graded import config_name
from sandbox.grading.tree import Tree, write_tree
from sandbox.task import Task
from sandbox.toolbox import BASE

SERVER = Path(__file__).with_name("forkserver.py")
BYTECODE = "__pycache__"


class Workbench:
    """Runs test files of a package, on its pristine tree or with one file changed. Use as a context manager."""

    def __init__(self, package: Package, tree: Tree, tests: Path, site: Path) -> None:
        self.package = package
        self._tree = tree
        self._site = site
        own = config_name(tests)
        self._home = tempfile.TemporaryDirectory(prefix="repodojo-make-", ignore_cleanup_errors=True)
        self.root = Path(self._home.name) / "tree"
        self._config = str(self.root / own) if own else None
        self._runs = 0
        write_tree(tree, self.root)

    def __enter__(self) -> Workbench:
        env = {name: value for name, value in os.environ.items() if name not in UNSET} | ENV
        env.pop("PYTHONDONTWRITEBYTECODE")
        command = [BASE, "-P", "-s", "-S", str(SERVER), str(PLUGIN), str(self._site)]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True, start_new_session=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()
        self._home.cleanup()

    @contextmanager
    def changed(self, path: str, data: bytes) -> Generator[None]:
        """The tree with another text of one module."""
        target = self.root / path
        for stale in (target.parent / BYTECODE).glob(f"{target.stem}.*.pyc"):
            stale.unlink()
        target.write_bytes(data)
        try:
            yield
        finally:
            target.write_bytes(self._tree[path].data)

    def run(self, files: Sequence[str], seconds: float, bytecode: bool = False) -> Report | None:
        """One run of test files. ``None``: it took too long, or wrote no results that can be trusted."""
        return self._run(files, seconds, None, bytecode)[0]

    def traced(self, files: Sequence[str], seconds: float) -> tuple[Report | None, dict[str, list[list[str]]]]:
        """The same, with the functions (file and qualified name) that each test ran."""
        report, text = self._run(files, seconds, str(self.root), True)
        return report, json.loads(text) if text else {}

    def _run(
        self, files: Sequence[str], seconds: float, trace: str | None, bytecode: bool
    ) -> tuple[Report | None, str | None]:
        self._runs += 1
        folder = Path(self._home.name) / f"run{self._runs}"
        run = test_run(
            self._task(files), str(folder), workspace=str(self.root), site=str(self._site), config=self._config
        )
        for name, text in run.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        job = folder / "job.json"
        answer = self._ask({"job": str(job), "cwd": run.cwd, "seconds": seconds, "trace": trace, "bytecode": bytecode})
        results, hits = Path(run.results), Path(f"{job}.trace")
        if answer["late"] or not results.is_file():
            return None, None
        try:
            return read_report(results.read_text(), run), hits.read_text() if hits.is_file() else None
        except Forged:
            return None, None

    def _ask(self, request: dict[str, object]) -> dict[str, object]:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def _task(self, files: Sequence[str]) -> Task:
        return Task(
            instance_id=self.package.name,
            repo=self.package.name,
            base_commit="",
            problem_statement="",
            patch="",
            FAIL_TO_PASS=(),
            PASS_TO_PASS=(),
            test_files=tuple(files),
            source_root=self.package.source_root,
        )
