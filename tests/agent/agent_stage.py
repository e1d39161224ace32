"""One small task: a package with one fault, its gold patch, and what plays it without a sandbox's walls."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.chat import ByteTokenizer, Chat
from agent.config import AgentConfig
from agent.doubles import ExactGrader, Shelf
from agent.policy import Around, Policy, Sampled
from agent.scaffold import Scaffold
from agent.scripted import ScriptedPolicy, scripted
from agent.store import SideFiles
from agent.trajectory import Key, Trajectory
from sandbox.grading.diff import diff
from sandbox.grading.tree import Entry, write_tree
from sandbox.network import Network
from sandbox.protocol import Backend
from sandbox.task import Prepared, Task

FAULTY = '''\
"""Two small functions."""


def clamp(x, low, high):
    """Keep ``x`` between ``low`` and ``high``."""
    return max(low, max(x, high))


class Counter:
    def __init__(self):
        self.n = 0

    def add(self, k=1):
        self.n += k
        return self.n
'''
TEST = """\
from pack.core import Counter, clamp


def test_above():
    assert clamp(9, 0, 3) == 3


def test_inside():
    assert Counter().add() == 1
"""
TREE = {"pack/__init__.py": "", "pack/core.py": FAULTY, "README.md": "# pack\n", "tool.sh": "echo tool\n"}


def entries(files: dict[str, str]) -> dict[str, Entry]:
    return {path: Entry("f", text.encode()) for path, text in files.items()}


def make_prepared(folder: Path, fixed: dict[str, str] | None = None, **fields: object) -> Prepared:
    fixed = fixed or {"pack/core.py": FAULTY.replace("max(x, high)", "min(x, high)")}
    task = Task.model_validate(
        {
            "instance_id": "pack-clamp",
            "repo": "pack",
            "base_commit": "0" * 40,
            "problem_statement": "`clamp` in pack/core.py is wrong: the wrong function is called.",
            "patch": diff(entries(TREE), entries({**TREE, **fixed})),
            "FAIL_TO_PASS": ["tests/test_core.py::test_above"],
            "PASS_TO_PASS": ["tests/test_core.py::test_inside"],
            "focus": "pack/core.py::clamp",
            "hidden": ["tests/test_core.py"],
            "test_files": ["tests/test_core.py"],
            **fields,
        }
    )
    write_tree(entries(TREE), folder / "base")
    write_tree(entries({"tests/test_core.py": TEST}), folder / "tests")
    (folder / "site").mkdir()
    return Prepared(task=task, base=folder / "base", tests=folder / "tests", site=folder / "site")


@dataclass
class Stage:
    """A task and what plays it."""

    prepared: Prepared
    backend: Backend
    grader: ExactGrader
    side: SideFiles | None = None
    network: Network = "none"

    def scaffold(self, backend: Backend | None = None, **config: object) -> Scaffold:
        settings = AgentConfig.model_validate(
            {"prompt": "compact", "max_turns": 6, "max_tokens": 2000, "diagnostics": False, **config}
        )
        where, shelf = backend or self.backend, Shelf((self.prepared,))
        return Scaffold(settings, where, shelf, self.grader, side=self.side, network=self.network)

    async def play(self, name: str, sample: int = 0, backend: Backend | None = None, **config: object) -> Trajectory:
        scaffold = self.scaffold(backend, **config)
        policy = scripted(name, self.prepared, scaffold.config)
        return await scaffold.play_with_retries(self.prepared.task, policy, key(sample))


def key(sample: int = 0) -> Key:
    return Key(seed=0, step=0, prompt=0, sample=sample)


def make_site(folder: Path) -> None:
    """A site folder with pytest, copied from where these tests run."""
    import importlib.util

    for name in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py"):
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin)
        if source.name == "__init__.py":
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source.parent, folder / name, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy(source, folder / source.name)


CHAT = Chat(ByteTokenizer())


def says(*texts: str) -> ScriptedPolicy:
    """A policy that answers these texts in order, the last one over and over."""
    return ScriptedPolicy("says", lambda _, turn: texts[min(turn, len(texts) - 1)], CHAT)


async def play(stage: Stage, policy: Policy, **config: object) -> Trajectory:
    return await stage.scaffold(**config).play_with_retries(stage.prepared.task, policy, key())


def spelled(ids: tuple[int, ...]) -> str:
    """Byte tokens as text, control tokens by their names."""
    named = {256: "<|im_start|>", 257: "<|im_end|>"}
    return bytes(b for i in ids for b in named.get(i, "").encode() or bytes([i])).decode()


def context(trajectory: Trajectory) -> str:
    (segment,) = trajectory.segments()
    return spelled(segment.ids)


@dataclass(slots=True)
class Witness(Around):
    """A policy that keeps what it was shown."""

    shown: list[tuple[int, ...]]

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        self.shown.append(tuple(context))
        return await self.inner.sample(context, key, turn, max_tokens)
