"""The first messages of an episode.

The problem statement is data: it stands in a fence that it cannot close, and no template is evaluated over it. A task
that names a function shows that function's source, read from the sandbox, in the very form in which the answer is
expected.
"""

from __future__ import annotations

from agent.config import AgentConfig
from agent.context import cap, fence
from agent.formats.format import Format
from agent.policy import Message
from agent.tools.functions import NoFunction
from agent.tools.rewrite import current, split_target
from sandbox.protocol import WORKSPACE, Sandbox
from sandbox.task import Task

_SYSTEM = """You are a software engineer. You work in a repository at {workspace}, through one action a turn.
An action is one fenced block. Its first line names the tool:
{tools}
Write exactly one block a turn. Look, change the source (not the tests), check, then submit."""


async def first_messages(task: Task, sandbox: Sandbox, config: AgentConfig, form: Format) -> tuple[Message, ...]:
    """What opens the episode. Raises ``SandboxError``."""
    source = await _focus(task, sandbox)
    statement = cap(task.problem_statement.strip(), config.statement_chars)
    if config.prompt == "compact":
        return (Message(role="user", text=_compact(task, statement, source, config)),)
    system = _SYSTEM.format(workspace=WORKSPACE, tools=form.help())
    return (Message(role="system", text=system), Message(role="user", text=_full(task, statement, source)))


def _compact(task: Task, statement: str, source: str, config: AgentConfig) -> str:
    """Every token costs: the statement, the source, and one line about the answer."""
    if source and "rewrite" in config.tools:
        return f"{fence(statement)}\n{fence(source, 'python')}\nFix the function in a ```python block. Then ```submit."
    tools = ", ".join(f"```{name}" for name in config.tools)
    return f"{fence(statement)}\n{fence(source, 'python') if source else task.repo}\nAnswer with one block: {tools}."


def _full(task: Task, statement: str, source: str) -> str:
    shown = f"\nThe function that it names, {task.focus}, is now:\n{fence(source, 'python')}\n" if source else ""
    return f"Repository: {task.repo}\nThis has to be fixed:\n{fence(statement, 'text')}\n{shown}"


async def _focus(task: Task, sandbox: Sandbox) -> str:
    """Source of the function that the task names; empty when it names none or the file has none of that name."""
    path, qualname = split_target(task.focus or "")
    if not path or not qualname:
        return ""
    try:
        text = (await sandbox.read(path)).decode().replace("\r\n", "\n")
        return current(text, qualname)
    except (FileNotFoundError, UnicodeDecodeError, NoFunction):
        return ""
