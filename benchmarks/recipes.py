"""Recipes: how a repository of SWE-bench's rows is set up, as data (``recipes.toml``)."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sandbox.task import Task, TaskError

FILE = Path(__file__).with_name("recipes.toml")


class Recipe(BaseModel):
    """The environment of some versions of one repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repo: str
    """``owner/name``."""
    versions: tuple[str, ...]
    """Values of a row's ``version``."""
    python: str
    """``major.minor`` of the interpreter."""
    source_root: str = "."
    """Folder that goes on the import path."""
    tests: tuple[str, ...] = ()
    """Folders of the test suite, beside what pytest's conventions call a test."""
    requirements: tuple[str, ...]
    """Pinned wheels: the runner and what source and tests import, never the package itself."""
    args: tuple[str, ...] = ()
    """Arguments that pytest needs."""
    helpers: tuple[str, ...] = ()
    """Modules of ours beside the requirements (``benchmarks/helpers``)."""
    files: dict[str, str] = {}
    """Files that a build would generate: path -> text, with ``{version}`` filled in."""
    command: str = ""
    """Shell command of a test program that is not pytest, with ``{python}`` and ``{files}`` filled in; its results are
    read from its log, by the parser that the row names, and the grades are marked for it."""


class LeftOut(BaseModel):
    """Tests that a row lists and that no sandbox can hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    """``instance_id``."""
    why: str
    tests: tuple[str, ...]


@cache
def left_out(file: Path = FILE) -> dict[str, LeftOut]:
    """By row. Raises :class:`TaskError` for a broken file."""
    return {one.row: one for one in _read(file, "left_out", LeftOut)}


@cache
def recipes(file: Path = FILE) -> tuple[Recipe, ...]:
    """Every recipe. Raises :class:`TaskError` for a broken file."""
    return _read(file, "recipe", Recipe)


def _read[Model: BaseModel](file: Path, table: str, model: type[Model]) -> tuple[Model, ...]:
    try:
        rows = tomllib.loads(file.read_text(encoding="utf-8")).get(table, [])
        return tuple(model.model_validate(row) for row in rows)
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise TaskError(f"the recipes {file} are broken: {str(error).splitlines()[0]}") from None


def recipe_of(task: Task, file: Path = FILE) -> Recipe:
    """The recipe of a row. Raises :class:`TaskError`."""
    version = str((task.model_extra or {}).get("version", ""))
    for recipe in recipes(file):
        if recipe.repo == task.repo and version in recipe.versions:
            return recipe
    known = sorted({f"{recipe.repo} {'/'.join(recipe.versions)}" for recipe in recipes(file)})
    raise TaskError(
        f"{task.instance_id}: {file.name} has no recipe for {task.repo} {version}; there are {', '.join(known)}"
    )
