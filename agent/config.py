"""Settings of the scaffold. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from agent.templates import Prompt, resolve
from agent.tools import check_names
from sandbox.network import Network

PromptName = Literal["compact", "full"]


class AgentConfig(BaseModel):
    """How an episode is played."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["fenced", "xml", "hermes", "openai"] = "fenced"
    """How an action is written: ``fenced`` is one fenced block whose info string names the tool, ``xml`` one
    ``<function=...>`` call, ``hermes`` JSON in ``<tool_call>`` tags and ``openai`` a JSON message with ``tool_calls``,
    both with several calls a turn when the policy wants."""
    tools: tuple[str, ...] = ("bash", "edit", "rewrite", "submit")
    """The tools on offer. ``submit`` has to be among them; others come from the entry points ``repodojo.tools``."""
    prompt: Annotated[PromptName | Prompt, BeforeValidator(resolve)] = "full"
    """``compact`` costs about 200 tokens with a function of 8 lines (small models); ``full`` explains every tool; the
    path of a TOML file with Jinja templates (``user``, ``system``, ``summary``) makes a prompt of your own, whose text
    is kept in the resolved config."""
    max_turns: int = Field(default=8, ge=1)
    """Turns after which the episode ends with the reason ``turns``."""
    max_tokens: int = Field(default=512, ge=1)
    """Tokens that one turn may sample. A turn cut there is no action unless its block was already closed."""
    cut_turns: Literal["keep", "mask", "penalise"] = "keep"
    """What a turn cut by length comes to: ``keep`` lets it act if its action was whole and trains it like any other;
    ``mask`` too, but its tokens carry no loss; ``penalise`` makes it a malformed answer, whatever it holds, which the
    reward's view of the format sees."""
    max_context: int = Field(default=8192, ge=2)
    """Tokens of the whole context, sampled ones included. When no room is left the episode ends with ``tokens``."""
    overflow: Literal["stop", "drop", "summarise"] = "stop"
    """What happens when the next turn would not have its full budget: ``stop`` goes on until no room is left; ``drop``
    replaces old observations by a note, the oldest first; ``summarise`` has the policy sum up in a turn of its own. The
    last two rewrite history: the trajectory forks, and sampled tokens are trained once."""
    wall_s: float = Field(default=1800.0, gt=0)
    """Wall clock of one episode in seconds, waiting for the engine included. Checked between turns; commands and
    samples get no more than what is left. Keep it generous: an end by time is the one end that depends on the
    machine."""
    format_errors: int = Field(default=3, ge=1)
    """Consecutive malformed answers that end the episode with the reason ``format``."""
    observation_chars: int = Field(default=4000, ge=80)
    """Characters of one observation; the middle is cut and the cut counted."""
    observation_tokens: int | None = Field(default=None, ge=16)
    """Tokens of one observation, by the policy's tokenizer, cut in the same way; ``None``: characters alone count."""
    statement_chars: int = Field(default=8000, ge=80)
    """Characters of the problem statement in the first prompt, cut in the same way."""
    command_s: float = Field(default=60.0, gt=0)
    """Time-out of one command in seconds."""
    diagnostics: bool = True
    """Ask the language server for error diagnostics after each turn that reached a new tree."""
    shadow: Literal["auto", "on", "off"] = "auto"
    """Run the hidden tests on every attempt (a turn that reached a new tree), off to the side: the facts ``tests``.
    ``auto`` turns it on where the recipe needs them."""
    web_endpoint: str | None = Field(default=None, pattern="^https?://")
    """A SearXNG instance that answers JSON, for the tool ``web_search``, which is off without it and refused where
    sandboxes are offline."""
    retries: int = Field(default=2, ge=0)
    """Further attempts, each in a fresh sandbox, after an infrastructure failure."""

    @field_validator("tools")
    @classmethod
    def _tools(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_names(names)
        return names

    @model_validator(mode="after")
    def _web(self) -> Self:
        if "web_search" in self.tools and self.web_endpoint is None:
            raise ValueError("the tool 'web_search' needs agent.web_endpoint, the address of a SearXNG instance")
        return self

    def fits(self, network: Network) -> None:
        """Whether sandboxes of this policy can be played in. Raises ``ValueError`` with one sentence."""
        if "web_search" in self.tools and network == "none":
            raise ValueError(
                "the tool 'web_search' is refused where sandboxes are offline; take it out of agent.tools, or list in "
                "sandbox.network what an episode may reach"
            )
