"""The patch of an episode: the tree that the sandbox holds at its end against the base tree on the host.

Only files whose manifest entry differs are read. No git runs anywhere: what the agent did to ``.git`` does not matter.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from sandbox.grading.diff import diff
from sandbox.grading.tree import Entry, Mode, read_frozen
from sandbox.protocol import Sandbox, SandboxError


async def collect(sandbox: Sandbox, base: Path, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Unified diff in git's format; empty when nothing changed. Raises ``SandboxError`` or ``OSError``.

    ``before`` and ``after`` are manifests of the same tool server; ``base`` is the folder that the sandbox was a copy
    of.
    """
    changed = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    if not changed:
        return ""
    frozen = read_frozen(base)
    old = {path: frozen[path] for path in changed if path in frozen}
    new = {path: await _entry(sandbox, path, after[path]) for path in changed if path in after}
    return diff(old, {path: entry for path, entry in new.items() if entry is not None})


async def _entry(sandbox: Sandbox, path: str, named: str) -> Entry | None:
    """``None`` for what cannot be read: that is the agent's doing (rights taken away, a process that deletes), and no
    way out of being graded."""
    mode, _, digest = named.partition(":")
    if mode == "l":
        return Entry("l", await _link(sandbox, path, digest))
    try:
        return Entry(cast(Mode, mode), await sandbox.read(path))
    except OSError:
        return None


async def _link(sandbox: Sandbox, path: str, digest: str) -> bytes:
    """The target of a link: asked of the agent's own shell, so believed only when it is what the manifest hashed."""
    done = await sandbox.run(f"readlink -n -- {shlex.quote('/workspace/' + path)}")
    data = done.output.encode("utf-8", "surrogateescape")
    if hashlib.sha256(data).hexdigest() != digest:
        raise SandboxError(f"the target of the link {path} cannot be read")
    return data
