"""What one container is made from, and what it is then given: its kind, its walls and limits, its task. Pure but for
reading the tree."""

from __future__ import annotations

import json
import marshal
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox import owner, toolbox
from sandbox.boot import PORCH
from sandbox.inside import HOME, SITE, settings
from sandbox.network import Network
from sandbox.protocol import WORKSPACE, Spec

if TYPE_CHECKING:
    import docker

LABEL = "repodojo"
"""Label of every container of ours; its value is the owner."""
USER = 1000
OPEN_FILES = 1024
TASKS = 1 << 15
"""Processes of one user on a Podman engine, all sandboxes together; each has a limit of its own besides."""
TASK_HEAD = 8
"""Bytes of the length in front of a task."""
PROGRAM = f"import sys; sys.path.insert(0, '{toolbox.MOUNT}/core'); from sandbox.boot import main; "
"""What process 1 runs but for the call: see :mod:`sandbox.boot`."""


class Key(NamedTuple):
    """What is fixed when a container is made; the task comes later."""

    image: str
    site: str | None
    memory_mb: int
    pids: int
    cpus: float
    network: Network = "none"


def key_of(image: str, spec: Spec) -> Key:
    site = str(spec.site.resolve()) if spec.site else None
    return Key(image, site, spec.limits.memory_mb, spec.limits.pids, spec.limits.cpus, spec.network)


def options(
    client: docker.DockerClient, key: Key, tools: str, folders: dict[str, Path | None], podman: bool
) -> dict[str, Any]:
    """What a container is made from."""
    program = f"{PROGRAM}main(door={folders[PORCH] is not None})"
    return {
        "image": key.image,
        "command": [toolbox.COMMAND[0], "-I", "-S", "-c", program],
        "entrypoint": [],
        "user": f"{USER}:{USER}",
        "stdin_open": True,
        "working_dir": WORKSPACE,
        "hostname": "sandbox",
        "environment": {},
        "labels": {LABEL: str(owner.me())},
        "host_config": client.api.create_host_config(**_host(key, tools, folders, podman)),
    }


def _host(key: Key, tools: str, folders: dict[str, Path | None], podman: bool) -> dict[str, Any]:
    """Confinement and limits."""
    from docker.types import LogConfig, Ulimit

    memory = key.memory_mb << 20
    # Podman has a word of its own for a memory file system that belongs to the container's user.
    owned = "U" if podman else f"uid={USER},gid={USER}"
    binds = {tools: {"bind": toolbox.MOUNT, "mode": "ro"}}
    binds |= {str(folder): {"bind": place, "mode": "ro"} for place, folder in folders.items() if folder}
    if key.site:
        binds[key.site] = {"bind": SITE, "mode": "ro"}
    return {
        "network_mode": "none",
        "ipc_mode": "private",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": key.pids,
        "nano_cpus": int(key.cpus * 1e9),
        "shm_size": 64 << 20,
        "ulimits": [
            Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES),
            Ulimit(name="core", soft=0, hard=0),
            # Podman would otherwise raise this one, which an engine that is not all-powerful itself may not.
            *([Ulimit(name="nproc", soft=TASKS, hard=TASKS)] if podman else []),
        ],
        "tmpfs": {
            # Less than the memory that they count as: a full disk is the writer's error, not the end of the sandbox.
            "/tmp": f"rw,exec,nosuid,nodev,mode=1777,{owned},size={memory // 4}",
            WORKSPACE: f"rw,exec,nosuid,nodev,mode=0755,{owned},size={memory // 2}",
        },
        "binds": binds,
        # The frames of the tool server are nobody's log.
        "log_config": LogConfig(type="none"),
    }


def pack(spec: Spec) -> bytes:
    """Settings and tree as the boot program takes them."""
    server = json.dumps(settings(spec, rlimited=False))
    body = marshal.dumps((server, HOME, WORKSPACE, list(_entries(str(spec.tree)))))
    return len(body).to_bytes(TASK_HEAD, "big") + body


def _entries(root: str, prefix: str = "") -> Iterator[tuple[str, str, int, int, bytes]]:
    """Everything below ``root``, ``.git`` included, folders first: (path, kind, mode, time, bytes)."""
    with os.scandir(f"{root}/{prefix}") as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path, info = prefix + entry.name, entry.stat(follow_symlinks=False)
        mode = stat.S_IMODE(info.st_mode) & 0o777
        if stat.S_ISDIR(info.st_mode):
            yield path, "d", mode, 0, b""
            yield from _entries(root, f"{path}/")
        elif stat.S_ISLNK(info.st_mode):
            yield path, "l", 0, 0, os.fsencode(Path(entry.path).readlink())
        elif stat.S_ISREG(info.st_mode):
            yield path, "f", mode, info.st_mtime_ns, Path(entry.path).read_bytes()
