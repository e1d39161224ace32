"""Single faults: small, plausible mistakes put into one function of real code.

Each kind is a module with ``KIND`` (its slug), ``NAME`` (what a person calls it) and ``edits(function)``, which
yields every edit of that kind. :func:`faults` gathers them. Places come from the syntax tree, the edit is made in the
text: nothing but the replaced span changes, so that undoing it restores the file byte for byte.

Invariants: an edited function parses and has another syntax tree; no byte outside the function's block changes; the
list is a function of the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.faults import (
    arguments,
    arithmetic,
    booleans,
    bounds,
    branches,
    comparisons,
    connectives,
    exceptions,
    indices,
    jumps,
    negation,
    numbers,
    operands,
    returns,
    statements,
    twins,
    variables,
)
from benchmarks.faults.module import Edit, Function, Module

__all__ = ["KINDS", "Edit", "Fault", "Function", "Kind", "Module", "faults", "starter"]

STARTER_LINES: Final = 8
"""Most lines of a starter function, from ``def`` to the last, without the docstring."""
BLOCK_LINES: Final = 20
"""Most lines of its whole block, with decorators and docstring."""
BLOCK_CHARS: Final = 640
"""Most characters of its block: a rewrite of it fits 200 tokens."""

WHITE: Final = re.compile(rb"^[ \t]+$", re.MULTILINE)
"""A line of blanks alone: a rewrite of the function would not give it back."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    slug: str
    name: str
    edits: Callable[[Function], Iterator[Edit]]
    guessable: bool = True
    """Whether the right text can be inferred from what is left: the others are no starter faults."""


KINDS: Final[tuple[Kind, ...]] = (
    Kind(comparisons.KIND, comparisons.NAME, comparisons.edits),
    Kind(bounds.KIND, bounds.NAME, bounds.edits),
    Kind(connectives.KIND, connectives.NAME, connectives.edits),
    Kind(negation.KIND, negation.NAME, negation.edits),
    Kind(numbers.KIND, numbers.NAME, numbers.edits),
    Kind(booleans.KIND, booleans.NAME, booleans.edits),
    Kind(arithmetic.KIND, arithmetic.NAME, arithmetic.edits),
    Kind(operands.KIND, operands.NAME, operands.edits),
    Kind(arguments.KIND, arguments.NAME, arguments.edits),
    Kind(variables.KIND, variables.NAME, variables.edits),
    Kind(twins.KIND, twins.NAME, twins.edits),
    Kind(indices.KIND, indices.NAME, indices.edits),
    Kind(branches.KIND, branches.NAME, branches.edits),
    Kind(returns.KIND, returns.NAME, returns.edits),
    Kind(exceptions.KIND, exceptions.NAME, exceptions.edits),
    Kind(jumps.KIND, jumps.NAME, jumps.edits),
    Kind(statements.KIND, statements.NAME, statements.edits, guessable=False),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One edit of one function."""

    kind: Kind
    function: Function
    edit: Edit

    def apply(self) -> bytes:
        """The faulty file."""
        return self.edit.apply(self.function.module.data)


def faults(function: Function) -> list[Fault]:
    """Every fault of a function, in a fixed order, each faulty text once."""
    found: dict[Edit, Fault] = {}
    for kind in KINDS:
        for edit in kind.edits(function):
            if function.parses(edit):
                found.setdefault(edit, Fault(kind, function, edit))
    return list(found.values())


def starter(function: Function) -> bool:
    """Whether the function is small enough for the starter level."""
    return (
        1 < function.lines <= STARTER_LINES
        and function.source.count(b"\n") < BLOCK_LINES
        and len(function.source.decode()) <= BLOCK_CHARS
        and not WHITE.search(function.source)
    )
