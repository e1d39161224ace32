"""Python module names of workspace files and back (standard library only).

A file may have several names: ``src/pkg/mod.py`` is ``pkg.mod`` for a src-layout and ``src.pkg.mod`` for a namespace
package. Invariant: the best name is that of the import root that Python would use: the folder above the outermost
``__init__.py``, else ``src``, else the workspace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

SOURCE_FOLDERS = ("src", "lib", "python")


def module_names(path: str, paths: Collection[str]) -> list[str]:
    """Names of the module in ``path``, the best first; none for what is no module. ``paths`` are all source files."""
    parts = _parts(path)
    if not parts or not all(part.isidentifier() for part in parts):
        return []
    folders = path.split("/")[:-1]
    roots = [_package_root(folders, paths)]
    roots += [1] if folders and folders[0] in SOURCE_FOLDERS else []
    roots += [0]
    names = [".".join(parts[root:]) for root in roots if root < len(parts)]
    return list(dict.fromkeys(names))


def find_module(name: str, paths: Collection[str]) -> list[str]:
    """Files that are the module ``name``, best first; a stub beside its module comes after it."""
    tail = name.split(".")[-1]
    close = [path for path in paths if _parts(path)[-1:] == [tail]]
    named = ((path, module_names(path, paths)) for path in close)
    ranked = [(names.index(name), path.endswith(".pyi"), path) for path, names in named if name in names]
    if not ranked:
        return []
    best = min(ranked)[0]
    return [path for rank, _, path in sorted(ranked) if rank == best]


def nearness(name: str, other: Iterable[str]) -> float:
    """How alike two module names are, in [0, 1]: 1 for equal, else the share of leading parts in common, against the
    best of ``other``.
    """
    mine = name.split(".")
    best = 0.0
    for candidate in other:
        theirs = candidate.split(".")
        common = 0
        for left, right in zip(mine, theirs, strict=False):
            if left != right:
                break
            common += 1
        best = max(best, common / max(len(mine), len(theirs)))
    return best


def _parts(path: str) -> list[str]:
    stem = path.rpartition(".")[0]
    parts = stem.split("/")
    return parts[:-1] if parts[-1] == "__init__" else parts


def _package_root(folders: list[str], paths: Collection[str]) -> int:
    """Index of the first folder that is a package on an unbroken chain down to the file."""
    root = len(folders)
    while root > 0 and f"{'/'.join(folders[:root])}/__init__.py" in paths:
        root -= 1
    return root
