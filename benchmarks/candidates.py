"""Which faults are worth a try: every function of a package's source, in an order that is a function of the seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

from benchmarks.faults import Fault, Function, Module, faults
from benchmarks.packages import Package, under
from sandbox.grading.tree import Entry, Tree
from sandbox.task import Task

STANDARD_LINES = 60
"""Longest function that gets a fault at the standard level."""


def functions(package: Package, tree: Tree) -> Iterator[tuple[str, Function]]:
    """Path and function, for every module of the package's source that can be edited."""
    for path in sorted(tree):
        if not path.endswith(".py") or not under(path, package.source) or package.is_test(path):
            continue
        try:
            module = Module(tree[path].data)
        except (SyntaxError, ValueError):
            continue
        for function in module.functions():
            yield path, function


def shuffled(found: Sequence[Fault], *key: object) -> list[Fault]:
    """Faults so that kinds take turns: first one of each kind, then a second one of each."""
    draw = random.Random("\0".join(map(str, key)))
    by_kind: dict[str, list[Fault]] = {}
    for fault in found:
        by_kind.setdefault(fault.kind.slug, []).append(fault)
    for group in by_kind.values():
        draw.shuffle(group)
    kinds = sorted(by_kind)
    draw.shuffle(kinds)
    rounds = max((len(group) for group in by_kind.values()), default=0)
    return [by_kind[kind][turn] for turn in range(rounds) for kind in kinds if turn < len(by_kind[kind])]


def drawn(function: Function, guessable: bool, *key: object) -> list[Fault]:
    """The faults of a function in their order of trial."""
    found = [fault for fault in faults(function) if fault.kind.guessable or not guessable]
    return shuffled(found, function.qualname, *key)


def gold_patch(fault: Fault, path: str) -> str:
    """The patch that mends the fault, with one line of context: as little of the source as can be."""
    broken, gold = fault.apply().decode(), fault.function.module.data.decode()
    return one_hunk(path, broken, gold)


def one_hunk(path: str, before: str, after: str) -> str:
    """The unified diff of two texts that differ in one run of lines, with one line of context."""
    old, new = before.split("\n"), after.split("\n")
    head = next(at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    most = min(len(old), len(new)) - head
    tail = next((at for at in range(most) if old[-1 - at] != new[-1 - at]), most)
    first, last = max(head - 1, 0), min(tail - 1, tail)
    lines = [f" {line}" for line in old[first:head]]
    lines += [f"-{line}" for line in old[head : len(old) - tail]]
    lines += [f"+{line}" for line in new[head : len(new) - tail]]
    # The text's last element is what follows the last newline: nothing, and no line of its own.
    after_change = old[len(old) - tail : len(old) - tail + 1] if last > 0 else []
    lines += [f" {line}" for line in after_change]
    counts = [sum(line[0] in signs for line in lines) for signs in (" -", " +")]
    header = f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n"
    return f"{header}@@ -{first + 1},{counts[0]} +{first + 1},{counts[1]} @@\n" + "".join(f"{row}\n" for row in lines)


def broken_tree(tree: Tree, path: str, fault: Fault) -> dict[str, Entry]:
    """The package's tree with the fault in it."""
    return {**tree, path: Entry(tree[path].mode, fault.apply())}


def name_of(package: Package, path: str, fault: Fault) -> str:
    """An instance id: what it is in, and a digest that tells it from its siblings."""
    digest = hashlib.sha256(f"{path}\0{fault.edit.start}\0{fault.edit.end}\0".encode() + fault.edit.new).hexdigest()
    return f"{package.name}-{package.version}.{fault.function.qualname}.{fault.kind.slug}-{digest[:6]}"


def task_of(package: Package, path: str, fault: Fault, **fields: object) -> Task:
    """The row of a fault; ``fields`` are those that only running the tests can tell."""
    return Task.model_validate(
        {
            "instance_id": name_of(package, path, fault),
            "repo": package.name,
            "patch": gold_patch(fault, path),
            "origin": package.origin,
            "sha256": package.sha256,
            "license": package.license,
            "split": package.split,
            "focus": f"{path}::{fault.function.qualname}",
            "source_root": package.source_root,
            "fault": fault.kind.slug,
            **fields,
        }
    )
