"""Local sandboxes on a folder of this machine: for bubblewrap, for Landlock, and for none at all where the user
insists.

Each is a process of its own over a private copy of the tree. The folder goes with the sandbox; folders whose owner died
are removed when the next backend starts. Without a mount namespace the workspace has another name than ``/workspace``:
the tool server translates.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sandbox import jail, owner, tree
from sandbox.forward import FOLDER
from sandbox.inside import HOME, SITE, SYSTEM_PATH, Places, settings
from sandbox.protocol import WORKSPACE, SandboxError, Spec
from sandbox.remote import RemoteSandbox
from sandbox.toolbox import BASE, COMMAND, MOUNT, cache_root

Way = Literal["bubblewrap", "landlock", "none"]
READABLE = ("/proc", *(f"/{name}" for name in jail.SYSTEM), *(f"/etc/{name}" for name in (*jail.ETC, *jail.FILES)))
END_S = 10.0


class Folders:
    """Opens sandboxes in folders below one home, which carries its owner's name."""

    def __init__(self, way: Way, box: Path) -> None:
        self._way: Way = way
        self._box = box
        self._home = owner.home(cache_root() / "local")

    async def open(self, spec: Spec, gate: Path | None = None) -> RemoteSandbox:
        if gate is not None and self._way != "bubblewrap":
            raise SandboxError(f"sandboxes behind {self._way} keep no allow-list of hosts: leave sandbox.network out")
        folder = Path(tempfile.mkdtemp(dir=self._home))
        try:
            await asyncio.to_thread(_fill, folder, spec)
            process = await asyncio.create_subprocess_exec(
                *self._command(folder, spec, gate),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"LANG": "C.UTF-8", "PATH": SYSTEM_PATH, "TMPDIR": str(folder / "tmp")},
                start_new_session=True,
            )
        except OSError as error:
            tree.remove(str(folder))
            raise SandboxError(f"a local sandbox could not be made: {error}") from error
        assert process.stdout and process.stdin
        closer = _Closer(process, folder)
        sandbox = RemoteSandbox(
            process.stdout, process.stdin, closer, "local", limits=spec.limits, network=spec.network
        )
        await sandbox.start()
        return sandbox

    async def close(self) -> None:
        await asyncio.to_thread(tree.remove, str(self._home))

    def _command(self, folder: Path, spec: Spec, gate: Path | None) -> Sequence[str]:
        if self._way == "bubblewrap":
            return bubblewrap(folder / "workspace", self._box, spec, gate)
        site = str(spec.site.resolve()) if spec.site else SITE
        places = Places(str(folder / "workspace"), site, str(folder / "home"), str(folder / "bin"))
        chosen = settings(spec, places)
        # Without a user namespace the limit counts all processes of this user: those that run already are added.
        chosen["limits"]["RLIMIT_NPROC"] += _tasks()
        chosen["env"]["TMPDIR"] = str(folder / "tmp")
        chosen["layers"] = str(self._box / "layers")
        walls = None if self._way == "none" else _walls(folder, self._box, site)
        arguments = json.dumps({"settings": chosen, "walls": walls})
        return (sys.executable, "-I", "-S", str(self._box / "core"), "confine", arguments)


def _fill(folder: Path, spec: Spec) -> None:
    tree.copy(str(spec.tree), str(folder / "workspace"))
    for name in ("home", "tmp", "bin"):
        (folder / name).mkdir()
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(Path(BASE).resolve())


def _walls(folder: Path, box: Path, site: str) -> dict[str, list[str]]:
    devices = [f"/dev/{name}" for name in jail.DEVICES]
    server = str(Path(sys.prefix, "bin", "ty").resolve())
    return {"readable": [*READABLE, str(box), site, sys.base_prefix, server], "writable": [str(folder), *devices]}


BUBBLEWRAP = [
    "bwrap",
    "--unshare-all",
    "--unshare-user",
    "--die-with-parent",
    "--new-session",
    "--as-pid-1",
    "--clearenv",
]
"""Namespaces of its own for everything; it ends with us, and nothing of our environment enters."""
PRIVATE = [
    *["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--tmpfs", "/dev/shm", "--tmpfs", "/tmp"],
    *f"--dir {HOME} --dir /run --dir /root".split(),
]
"""What a sandbox has for itself, empty or virtual."""


def bubblewrap(workspace: Path, box: Path, spec: Spec, gate: Path | None = None) -> list[str]:
    """The command that starts the tool server within bubblewrap's walls, as process 1."""
    command = [*BUBBLEWRAP]
    command += ["--uid", str(jail.USER), "--gid", str(jail.USER), "--hostname", "sandbox", "--cap-drop", "ALL"]
    for name in jail.SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            command += ["--ro-bind", str(path), str(path)]
    for name in jail.ETC:
        command += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    command += PRIVATE
    command += ["--ro-bind", str(box), MOUNT, "--bind", str(workspace), WORKSPACE, "--chdir", WORKSPACE]
    command += ["--ro-bind", str(spec.site.resolve()), SITE] if spec.site else []
    command += ["--ro-bind", str(gate), FOLDER] if gate else []
    return [*command, "--remount-ro", "/", "--", *COMMAND, json.dumps(settings(spec))]


class _Closer:
    """Ends the process and removes the folder."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process, self._folder = process, folder

    async def __call__(self) -> None:
        try:
            await asyncio.wait_for(self._process.wait(), END_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await asyncio.to_thread(tree.remove, str(self._folder))


def _tasks() -> int:
    """Processes and threads of this user."""
    count = 0
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and process.stat().st_uid == os.geteuid():
                count += sum(1 for _ in (process / "task").iterdir())
    return count


def missing(way: Way) -> str:
    """Why a way cannot be taken on this machine; empty when it can."""
    if way != "none" and os.geteuid() == 0:
        return f"{way} is not taken as root, whose processes no limit would count"
    if way == "landlock":
        from sandbox.landlock import version

        return "" if version() else "this kernel has no Landlock"
    if way == "bubblewrap":
        return _no_bubblewrap()
    return ""


def _no_bubblewrap() -> str:
    import subprocess

    program = shutil.which("bwrap")
    if not program:
        return "bubblewrap is not installed"
    trial = [program, "--unshare-all", "--as-pid-1", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    done = subprocess.run(trial, capture_output=True, text=True, timeout=20, check=False)
    return "" if done.returncode == 0 else f"bubblewrap does not work here ({done.stderr.strip()[:200]})"
