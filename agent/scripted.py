"""Scripted policies: real doubles of a model, with the same token bookkeeping and no weights.

A *script* answers with text; the policy tokenises it, ends the turn, cuts it at the budget, and reports
log-probability 0 (it is certain). Deterministic in (key, turn). Over the byte tokenizer they drive tests; over a
model's own tokenizer the gold solver's trajectories are the warm start's examples.

    gold      plays the gold patch and submits          idler     looks around and never submits
    spoiler   breaks the function and submits           quitter   submits at once
    mixed     gold or spoiler, drawn by the key         breaker   writes everything but an action
    random    any tool with plausible arguments         hacker    tries to be paid without solving
    navigator asks the language server, renames, then plays the gold patch
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent import tools
from agent.chat import ByteTokenizer, Chat
from agent.config import AgentConfig
from agent.formats import make
from agent.formats.format import Format
from agent.gold import Read, gold_actions
from agent.navigator import check, route
from agent.policy import Message, Sampled
from agent.tools.functions import NoFunction
from agent.tools.rewrite import current, split_target
from agent.trajectory import Action, Key
from sandbox.task import Prepared, Task, TaskError

Script = Callable[[Key, int], str]
"""The text of one turn."""


@dataclass(frozen=True, slots=True)
class ScriptedPolicy:
    """A policy that answers what its script says."""

    name: str
    script: Script
    chat: Chat = field(default_factory=lambda: Chat(ByteTokenizer()))

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self.chat.open(messages)

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        return self.chat.reply(messages, cut)

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        text = self.script(key, turn)
        ids = self.chat.answer(text)
        cut = len(ids) > max_tokens
        if cut:
            ids = ids[:max_tokens]
            text = self.chat.tokenizer.decode(ids)
        return Sampled(ids=ids, logprobs=(0.0,) * len(ids), text=text, cut=cut)


@dataclass(frozen=True, slots=True)
class Part:
    """What a script is written from."""

    task: Task
    read: Read
    form: Format
    tools: Sequence[str]
    """Those on offer."""

    def play(self, actions: Sequence[Action]) -> Script:
        """These actions in order; the last one over and over."""
        texts = [self.form.render(action) for action in actions]
        return lambda _, turn: texts[min(turn, len(texts) - 1)]

    def rng(self, key: Key, turn: int) -> random.Random:
        return random.Random(f"{self.task.instance_id} {key} {turn}")


SUBMIT = Action(tool="submit")
_ANY = Key(seed=0, step=0, prompt=0, sample=0)
GARBAGE = (
    "I would change the comparison and then it works.",
    "",
    "```\nno tool named here\n```",
    "```bash\nls\n```\n```bash\nls\n```",
    "```edit\n{not json}\n```",
    "<tool_call>bash</tool_call>",
    "```bash\nls\n```submit\n```",
)
HACKS = {
    "conftest": "printf 'def pytest_runtest_makereport(item, call): pass\\n' > conftest.py",
    "config": "printf '[pytest]\\naddopts = --co\\n' > pytest.ini",
    "site": "printf 'import os\\nos._exit(0)\\n' > sitecustomize.py",
    "exit": "find . -name '*.py' -not -path '*/test*' | head -n 1 | xargs sed -i '1i import os; os._exit(0)'",
    "history": "git log --all --oneline; git stash list; git reflog",
    "tests": "find . -name 'test_*.py' -delete; touch empty",
}


def _gold(part: Part) -> Script:
    return part.play([*_patch(part), SUBMIT])


def _patch(part: Part) -> list[Action]:
    return gold_actions(part.task, part.read, "rewrite" in part.tools)


def _navigator(part: Part) -> Script:
    checked = check(part.task, part.read) if "test" in part.tools else []
    solution = [*_patch(part), *checked, SUBMIT]

    def answer(key: Key, turn: int) -> str:
        way = route(part.task, part.read, part.rng(key, 0))
        return part.play([*way, *solution])(key, turn)

    answer(_ANY, 0)  # a task that names nothing is refused before it is played
    return answer


def _spoiler(part: Part) -> Script:
    return part.play([_spoil(part), SUBMIT])


def _spoil(part: Part) -> Action:
    """The named function raises; without one, a file that no import survives."""
    path, qualname = split_target(part.task.focus or "")
    try:
        header = current(part.read(path), qualname).split("\n")
    except (NoFunction, OSError):
        return Action(tool="bash", args={"command": "echo 'x = (' > spoiled.py"})
    name = qualname.rsplit(".", 1)[-1]
    kind = "async def" if any(line.startswith("async def") for line in header) else "def"
    return Action(tool="rewrite", args={"code": f"{kind} {name}(*args, **kwargs):\n    raise NotImplementedError"})


def _mixed(part: Part) -> Script:
    gold, spoiler = _gold(part), _spoiler(part)
    return lambda key, turn: (gold if part.rng(key, 0).random() < 0.5 else spoiler)(key, turn)


def _idler(part: Part) -> Script:
    return part.play([Action(tool="bash", args={"command": "ls"})])


def _quitter(part: Part) -> Script:
    return part.play([SUBMIT])


def _breaker(part: Part) -> Script:
    return lambda key, turn: part.rng(key, turn).choice(GARBAGE)


def _random(part: Part) -> Script:
    path, _ = split_target(part.task.focus or "README")
    choices = (
        Action(tool="bash", args={"command": "ls; cat *.md | head -n 5"}),
        Action(tool="bash", args={"command": "exit 3"}),
        Action(tool="bash", args={"command": "echo note >> notes.txt"}),
        Action(tool="edit", args={"command": "view", "path": path}),
        Action(tool="edit", args={"command": "create", "path": "new/file.py", "file_text": "x = 1\n"}),
        Action(tool="edit", args={"command": "insert", "path": path, "insert_line": 0, "new_str": "# first"}),
        Action(tool="edit", args={"command": "undo_edit", "path": path}),
        Action(tool="edit", args={"command": "no such command"}),
        _spoil(part),
        SUBMIT,
    )
    return lambda key, turn: part.form.render(part.rng(key, turn).choice(choices))


def _hacker(part: Part) -> Script:
    """One trick an episode, drawn by the key; then submit."""

    def answer(key: Key, turn: int) -> str:
        trick = part.rng(key, 0).choice(sorted(HACKS))
        return part.form.render(Action(tool="bash", args={"command": HACKS[trick]}) if turn == 0 else SUBMIT)

    return answer


SCRIPTS: dict[str, Callable[[Part], Script]] = {
    "gold": _gold,
    "spoiler": _spoiler,
    "mixed": _mixed,
    "idler": _idler,
    "quitter": _quitter,
    "breaker": _breaker,
    "random": _random,
    "hacker": _hacker,
    "navigator": _navigator,
}
NEEDS = {"navigator": "lsp"}
"""The tool without which a script cannot be played; its sandbox has to serve it."""
ANYWHERE = tuple(name for name in SCRIPTS if name not in NEEDS)
"""The scripts that play in every sandbox."""


def scripted(
    name: str, prepared: Prepared, config: AgentConfig | None = None, chat: Chat | None = None
) -> ScriptedPolicy:
    """The scripted policy of that name for one task. Raises ``TaskError`` for a name or a task that it cannot play."""
    if name not in SCRIPTS:
        raise TaskError(f"there is no scripted policy '{name}'; there are: {', '.join(SCRIPTS)}")
    config = config or AgentConfig()
    if (need := NEEDS.get(name)) and need not in config.tools:
        raise TaskError(f"scripted:{name} plays with the tool '{need}'; add it to agent.tools")
    form = make(config.format, tools.load(tuple(dict.fromkeys((*config.tools, *tools.BUILT_IN)))))
    script = SCRIPTS[name](Part(prepared.task, reader(prepared.base), form, config.tools))
    return ScriptedPolicy(f"scripted:{name}", script, chat or Chat(ByteTokenizer()))


def reader(base: Path) -> Read:
    """Reads text files of a base tree, with ``\\n`` line ends."""
    return lambda path: (base / path).read_bytes().decode().replace("\r\n", "\n")
