"""Examples for the warm start: further faults in the training packages, not validated.

An example carries the faulty file, so that it can be played without a sandbox; nothing is run to make it. Functions
are drawn in an order of the seed, one round after another: each function gives its first fault before any gives a
second one, and the kinds take turns. Copies of one function in several packages count once; functions of held-out
packages never appear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.candidates import drawn, functions, task_of
from benchmarks.faults import Fault, Function, starter
from benchmarks.packages import Package, PackageList, packages
from benchmarks.sources import fetch, pristine
from benchmarks.statement import UNTESTED, untested_statement
from sandbox.task import Task, TaskError

PER_FUNCTION = 4
"""Most examples of one function."""


@dataclass(frozen=True)
class Example:
    """One example: a row without tests, and the text that it is about."""

    task: Task
    """Without tests, so that it cannot be graded by them, and without a commit: its base tree is not checked."""
    files: dict[str, str]
    """The module that holds the fault: path and faulty text."""


def warm_start(
    names: Sequence[str] = (),
    seed: int = 0,
    limit: int = 1500,
    skip: Collection[str] = (),
    pinned: PackageList | None = None,
) -> Iterator[Example]:
    """At most ``limit`` examples of the training packages that are named (all of them for none).

    ``skip`` holds instance ids that shall not come again (those of validated tasks). The same arguments give the same
    examples. Raises :class:`TaskError` for an unknown or held-out package and for a failing download.
    """
    chosen = [package for package in (pinned or packages()).named(tuple(names)) if package.split == "train" or names]
    held = next((package.name for package in chosen if package.split == "heldout"), None)
    if held:
        raise TaskError(f"{held} is a held-out package: no example is made from it")
    fetch(chosen)
    count = 0
    for package, path, fault in _rounds(_small(chosen, seed), seed):
        if count == limit:
            return
        example = _example(package, path, fault)
        if example.task.instance_id not in skip:
            count += 1
            yield example


Place = tuple[Package, str, Function]


def _small(chosen: Sequence[Package], seed: int) -> list[Place]:
    """Functions of the starter size, copies once, in an order of the seed."""
    found: dict[bytes, Place] = {}
    for package in chosen:
        for path, function in functions(package, pristine(package)):
            if starter(function):
                found.setdefault(function.source, (package, path, function))
    order = {key: _digest(seed, key) for key in found}
    return [found[key] for key in sorted(found, key=lambda key: order[key])]


def _rounds(places: Sequence[Place], seed: int) -> Iterator[tuple[Package, str, Fault]]:
    """The first fault of every function, then the second of every function, and so on. Faults are looked for when
    needed.
    """
    left: list[tuple[Place, list[Fault]]] = []
    for place in places:
        package, path, function = place
        found = drawn(function, True, package.name, path, seed)[:PER_FUNCTION]
        if found:
            yield package, path, found[0]
            left.append((place, found))
    for turn in range(1, PER_FUNCTION):
        for (package, path, _), found in left:
            if turn < len(found):
                yield package, path, found[turn]


def _example(package: Package, path: str, fault: Fault) -> Example:
    task = task_of(
        package,
        path,
        fault,
        base_commit="",
        problem_statement=untested_statement(fault, path),
        FAIL_TO_PASS=(),
        PASS_TO_PASS=(),
        difficulty=UNTESTED,
        level="starter",
    )
    return Example(task, {path: fault.apply().decode()})


def _digest(seed: int, source: bytes) -> str:
    return hashlib.sha256(f"{seed}\0".encode() + source).hexdigest()
