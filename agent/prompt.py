"""The first messages of an episode: the prompt's templates over what the task brings.

The problem statement is data: it stands in a fence that it cannot close, and no template is evaluated over it. A task
that names a function shows that function's source, read from the sandbox, in the very form in which the answer is
expected. The gold patch and the tests are out of a template's reach.
"""

from __future__ import annotations

from agent import templates
from agent.config import AgentConfig
from agent.formats.format import Format
from agent.policy import Message
from agent.text import cap
from agent.tools.functions import NoFunction
from agent.tools.rewrite import current, split_target
from sandbox.protocol import WORKSPACE, Sandbox
from sandbox.task import Task


async def first_messages(task: Task, sandbox: Sandbox, config: AgentConfig, form: Format) -> tuple[Message, ...]:
    """What opens the episode. Raises ``SandboxError``."""
    values = {
        "statement": templates.Data(cap(task.problem_statement.strip(), config.statement_chars)),
        "source": templates.Data(await _focus(task, sandbox)),
        "repo": task.repo,
        "focus": task.focus or "",
        "workspace": WORKSPACE,
        "manual": form.help(),
        "tools": config.tools,
        "format": config.format,
    }
    return templates.messages(templates.load(config.prompt), values)


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
