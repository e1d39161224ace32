"""One TOML file, dotted overrides, one resolved config.

``load("configs/quickstart.toml", ["--train.steps", "3"])`` reads the file, applies the overrides, validates, and
refuses an unknown key with the nearest valid one. A section may be given as a path: ``rewards = "rewards/g_ra.toml"``
reads that file, relative to the one that names it; ``--rewards configs/rewards/g_ra.toml`` reads it from where the
command runs. The resolved config is stored with every run and hashed into its
checkpoints.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agent.config import AgentConfig
from dojo.errors import UserError
from rewards.config import RewardConfig
from sandbox.config import SandboxConfig
from trainers.config import LossConfig, ModelConfig, OptimConfig, ScaleConfig, SftConfig
from trainers.engine_config import EngineConfig, TransformersConfig, VllmConfig
from trainers.loop_config import EvalConfig, TrainConfig

SHORT = {"engine": "kind", "sandbox": "backend"}
"""``engine = "openai"`` is short for its section with that key, in a file and on the command line."""
TOLD = 3
"""How many problems of one config a refusal names."""


class TasksConfig(BaseModel):
    """Which tasks a run trains and evaluates on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: str = "starter"
    """Name of a shipped set (``dojo tasks list``) or path of a JSONL file in SWE-bench's schema."""
    level: Literal["starter", "standard", "all"] = "starter"
    """Keep only this level; ``all`` keeps every row, those of SWE-bench included, which have none."""
    repos: str | None = None
    """Folder with clones, for rows of SWE-bench."""
    max_train: int | None = None
    """Use only the first n training tasks of the file."""
    max_heldout: int | None = None
    """Use only the first n held-out tasks of the file."""


class Config(BaseModel):
    """Everything that a run depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    """Every random draw of a run is keyed by this seed."""
    tasks: TasksConfig = TasksConfig()
    model: ModelConfig = ModelConfig()
    engine: EngineConfig = TransformersConfig()
    sandbox: SandboxConfig = SandboxConfig()
    agent: AgentConfig = AgentConfig()
    rewards: RewardConfig = RewardConfig()
    sft: SftConfig = SftConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    scale: ScaleConfig = ScaleConfig()
    train: TrainConfig = Field(default_factory=lambda: TrainConfig.model_validate({}))
    eval: EvalConfig = Field(default_factory=lambda: EvalConfig.model_validate({}))

    @field_validator("sandbox", mode="before")
    @classmethod
    def _backend(cls, value: Any) -> Any:
        """``sandbox = "docker"`` is short for its section with that backend."""
        return {"backend": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _no_web_from_offline(self) -> Self:
        self.agent.fits(self.sandbox.network)
        return self

    @model_validator(mode="after")
    def _one_advantage(self) -> Self:
        if self.loss.estimator is not None and self.rewards.turns:
            raise ValueError(
                f"loss.estimator = '{self.loss.estimator.kind}' makes returns of one outcome and the recipe "
                f"{self.rewards.name!r} credits turns, which it cannot use: unset loss.estimator, or take a recipe "
                "without turns"
            )
        return self

    @model_validator(mode="after")
    def _sampled_average(self) -> Self:
        if self.optim.ema is None:
            return self
        if isinstance(self.engine, VllmConfig):
            raise ValueError(
                "optim.ema keeps an average here and engine.kind = 'vllm' samples elsewhere: unset "
                "optim.ema, or set engine.kind to 'transformers'"
            )
        if self.scale.parallel == "fsdp2":
            raise ValueError(
                "optim.ema needs whole weights and scale.parallel = 'fsdp2' shares them out: unset optim.ema, or set "
                "scale.parallel to 'ddp'"
            )
        return self

    @model_validator(mode="after")
    def _where_the_reference_is(self) -> Self:
        if self.loss.kl is not None and self.loss.kl.offload and self.scale.parallel == "fsdp2":
            raise ValueError(
                "loss.kl.offload keeps whole weights in the CPU's memory and scale.parallel = 'fsdp2' shares them out "
                "over the GPUs: unset loss.kl.offload"
            )
        return self

    @model_validator(mode="after")
    def _teachable(self) -> Self:
        if self.loss.distill is not None and self.scale.parallel == "fsdp2":
            raise ValueError(
                "loss.distill makes passes on some ranks only and scale.parallel = 'fsdp2' needs them on all: unset "
                "loss.distill, or set scale.parallel to 'ddp'"
            )
        return self

    def to_toml(self) -> str:
        """The resolved config as TOML that loads back to an equal one (``None`` is the absence of a key)."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def digest(self) -> str:
        """``sha256:`` and 64 hex digits over the resolved config."""
        return f"sha256:{hashlib.sha256(self.model_dump_json().encode()).hexdigest()}"


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read, override, validate. Raises :class:`UserError` with one sentence."""
    data = _include(_read(path), path.parent)
    data |= {name: {key: data[name]} for name, key in SHORT.items() if isinstance(data.get(name), str)}
    for key, value in _pairs(overrides):
        if key in _sections() and value.endswith(".toml"):
            data[key] = _read(Path(value))
        else:
            _set(data, f"{key}.{SHORT[key]}" if key in SHORT else key, value)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from None


def explain(error: ValidationError, model: type[BaseModel] = Config) -> str:
    """The problems of a validation as one sentence, the first :data:`TOLD` of them, with the nearest valid key of
    ``model`` where one was misspelt."""
    schema = model.model_json_schema()
    keys, tags = list(dict.fromkeys(_keys(schema))), set(_tags(schema))
    problems = error.errors(include_url=False)
    told = [_problem(one["type"], _where(one["loc"], keys, tags), one["msg"], keys) for one in problems[:TOLD]]
    more = f" (and {len(problems) - TOLD} more)" if len(problems) > TOLD else ""
    return "; ".join(told) + more


def _problem(kind: str, where: str, message: str, keys: Sequence[str]) -> str:
    if kind == "extra_forbidden":
        return f"unknown key '{where}'{_nearest(where, keys)}"
    if kind == "missing":
        return f"'{where}' is missing"
    return f"{where}: ".removeprefix(": ") + message.removeprefix("Value error, ")


def _where(loc: Sequence[str | int], keys: Sequence[str], tags: Set[str]) -> str:
    """The dotted key of a problem as a user writes it: pydantic also names which branch of a union it tried."""
    found, plain = list[str](), ""
    for part in loc:
        key = f"{plain}.{part}".removeprefix(".")
        if part in tags and key not in keys:
            continue
        found.append(str(part))
        plain = plain if isinstance(part, int) else key
    return ".".join(found)


def _nearest(key: str, keys: Sequence[str]) -> str:
    last = {name.rsplit(".", 1)[-1]: name for name in reversed(keys)}
    tail = key.rsplit(".", 1)[-1]
    misplaced = [last[tail]] if "." in key and tail in last else []
    close = misplaced or difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    close = close or [last[name] for name in difflib.get_close_matches(tail, last, n=1, cutoff=0.6)]
    return f", did you mean '{close[0]}'?" if close else ", 'dojo train CONFIG --dry-run' prints every valid key"


def _keys(schema: dict[str, Any], prefix: str = "", root: dict[str, Any] | None = None) -> Iterator[str]:
    """Dotted names of every key of a JSON Schema."""
    root = root or schema
    if ref := schema.get("$ref"):
        yield from _keys(root["$defs"][ref.rsplit("/", 1)[-1]], prefix, root)
    items = [schema["items"]] if "items" in schema else []
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ()), *items):
        yield from _keys(branch, prefix, root)
    for name, child in schema.get("properties", {}).items():
        yield prefix + name
        yield from _keys(child, f"{prefix}{name}.", root)


def _tags(schema: Any) -> Iterator[str]:
    """Names by which the unions of a JSON Schema tell their branches."""
    if isinstance(schema, dict):
        yield from schema.get("discriminator", {}).get("mapping", {})
        for child in schema.values():
            yield from _tags(child)
    elif isinstance(schema, list):
        for child in schema:
            yield from _tags(child)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"there is no config file {path}; the shipped ones are under configs/") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a config file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None


def _include(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        name: _read(folder / value)
        if name in _sections() and isinstance(value, str) and value.endswith(".toml")
        else value
        for name, value in data.items()
    }


def _sections() -> set[str]:
    return {name for name, field in Config.model_fields.items() if field.annotation is not int}


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    words = iter(overrides)
    for word in words:
        if not word.startswith("--") or word == "--":
            raise UserError(f"unexpected argument '{word}'; overrides look like --section.key value")
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = next(words, None)
            if value is None:
                raise UserError(f"the override --{key} has no value")
        yield key.replace("-", "_"), value


def _set(data: dict[str, Any], key: str, text: str) -> None:
    *parents, last = key.split(".")
    for name in parents:
        inner: Any = data.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UserError(f"--{key}: '{name}' is a value, not a section")
        data = inner
    data[last] = _value(text)


def _value(text: str) -> Any:
    """TOML where it parses as TOML (numbers, booleans, lists), a plain string otherwise."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text
