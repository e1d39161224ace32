"""What the inside of a sandbox looks like, the same over every backend: places, environment, settings of the tool
server."""

from __future__ import annotations

import os
import posixpath
from typing import Any, NamedTuple

from sandbox.network import PORT
from sandbox.protocol import WORKSPACE, Limits, SandboxError, Spec
from sandbox.toolbox import MOUNT

SITE = "/opt/site"
"""Where a task's site-packages are mounted, read-only."""
HOME = "/tmp/home"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DISK_MB = 512
"""Size of the workspace and of the folder for temporary files where these are memory file systems, and of any one
file, in MiB."""


class Places(NamedTuple):
    """Where things lie inside; other than the defaults only where nothing can be mounted."""

    workspace: str = WORKSPACE
    site: str = SITE
    home: str = HOME
    programs: str = f"{MOUNT}/bin"


def environment(spec: Spec, places: Places = Places()) -> dict[str, str]:  # noqa: B008 - immutable
    """The whole environment of commands: nothing of the host's comes through.

    The task's own source stands before its site-packages, as with a development install.
    """
    source = posixpath.normpath(posixpath.join(places.workspace, spec.source_root))
    proxy = f"http://127.0.0.1:{PORT}"
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    online = {**dict.fromkeys(names, proxy), "no_proxy": "127.0.0.1,localhost"} if spec.network != "none" else {}
    return {
        **online,
        # Two interpreters on one path would leave it to chance which one a script meets.
        "PATH": SYSTEM_PATH if spec.python else f"{places.programs}:{SYSTEM_PATH}",
        "HOME": places.home,
        "USER": "dojo",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
        "PAGER": "cat",
        "PYTHONPATH": f"{source}:{places.site}" if spec.site else source,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def rlimits(limits: Limits) -> dict[str, int]:
    """Limits of commands by rlimit, for backends that have no control group. Memory counts per process."""
    return {
        "RLIMIT_AS": limits.memory_mb << 20,
        "RLIMIT_NPROC": limits.pids,
        "RLIMIT_FSIZE": DISK_MB << 20,
        "RLIMIT_NOFILE": 1024,
        "RLIMIT_CORE": 0,
    }


def check(spec: Spec) -> None:
    """Raise :class:`SandboxError` for folders that are absent, or that the sandbox's user could not read."""
    for folder in (spec.tree, spec.site):
        if folder is not None and not folder.is_dir():
            raise SandboxError(f"there is no folder {folder} to open a sandbox on")
    # Root's sandboxes run as another user, who reads the mounted site as anybody does.
    if spec.site is not None and os.geteuid() == 0 and spec.site.stat().st_mode & 0o5 != 0o5:
        raise SandboxError(f"{spec.site} cannot be read by the sandbox's user: chmod -R o+rX {spec.site}")


def settings(spec: Spec, places: Places = Places(), *, rlimited: bool = True) -> dict[str, Any]:  # noqa: B008 - immutable
    """Settings of the tool server for ``spec``, which is checked."""
    check(spec)
    return {
        "root": places.workspace,
        "env": environment(spec, places),
        "limits": rlimits(spec.limits) if rlimited else {"RLIMIT_CORE": 0},
        "extra_paths": [places.site] if spec.site else [],
        "proxy": PORT if spec.network != "none" else None,
    }
