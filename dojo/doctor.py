"""``dojo doctor``: in one screen, what works on this machine and what to install for the rest."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dojo.errors import UserError
from sandbox.protocol import Backend, SandboxError, Spec


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    works: bool
    detail: str
    """What was found, or what to install."""
    needed: bool = False
    """The quickstart cannot run without it."""


def report(sandbox: str | None, as_json: bool) -> int:
    """Print the report, or the self-check of one backend; 1 when something needed is missing."""
    findings = _self_check(sandbox) if sandbox else _machine()
    bad = False
    for finding in findings:
        bad |= finding.needed and not finding.works
        print(json.dumps(asdict(finding)) if as_json else _line(finding), flush=True)
    return int(bad)


def _line(finding: Finding) -> str:
    mark = "ok  " if finding.works else "MISS" if finding.needed else "-   "
    return f"{mark} {finding.what:18} {finding.detail}" if finding.detail else f"{mark} {finding.what}"


def _machine() -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 12), f"{platform.python_version()} ({sys.executable})", needed=True)
    yield _program("git", needed=True)
    yield _program("bash", needed=True)
    free = shutil.disk_usage(Path.home() if Path.home().exists() else "/").free / 2**30
    yield Finding("disk", free > 2, f"{free:.0f} GiB free in the home folder (a run needs 2)", needed=True)
    yield Finding("cores", True, f"{len(os.sched_getaffinity(0))}")
    yield _distribution("openhands-aci", "agent")
    yield _distribution("torch", "train")
    yield _model()
    yield _vllm()
    yield _docker()
    yield _local()
    yield from (_distribution(name, None) for name in ("ty", "basedpyright"))


def _program(name: str, needed: bool) -> Finding:
    found = shutil.which(name)
    return Finding(name, found is not None, found or f"install {name}", needed)


def _distribution(name: str, extra: str | None) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        wanted = f"repodojo[{extra}]" if extra else "repodojo"
        return Finding(name, False, f"pip install '{wanted}'")


def _model() -> Finding:
    from trainers.model.load import missing

    reason = missing()
    return Finding("embedded model", not reason, reason or "there")


def _vllm() -> Finding:
    from trainers.engines.environment import home, missing

    reason = missing()
    return Finding("vllm server", not reason, reason or str(home()))


def _docker() -> Finding:
    try:
        from sandbox.images import unusable, usable_image
    except ImportError:
        return Finding("docker sandboxes", False, "pip install 'repodojo[agent]'")
    reason = unusable()
    return Finding("docker sandboxes", not reason, reason or f"image {usable_image()}")


def _local() -> Finding:
    from sandbox.local import LocalBackend

    backend = LocalBackend()
    try:
        asyncio.run(_open_once(backend))
    except SandboxError as error:
        return Finding("local sandboxes", False, str(error))
    return Finding("local sandboxes", True, f"{backend.way}; {backend.notice}")


async def _open_once(backend: Backend) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="repodojo-doctor-") as folder:
        try:
            await (await backend.open(Spec(tree=Path(folder), editor=False))).close()
        finally:
            await backend.close()


def _self_check(name: str) -> Iterator[Finding]:
    """Every behaviour of the sandbox self-check over one backend."""
    backend = _backend(name)

    async def all_of_them() -> list[Finding]:
        from sandbox.selfcheck import check_all

        try:
            return [Finding(one.name, not one.problem, one.problem, needed=True) async for one in check_all(backend)]
        finally:
            await backend.close()

    yield from asyncio.run(all_of_them())


def _backend(name: str) -> Backend:
    from sandbox.choose import choose
    from sandbox.config import SandboxConfig

    makers: dict[str, Callable[[], Backend]] = {
        kind: lambda kind=kind: choose(SandboxConfig.model_validate({"backend": kind}))[0]
        for kind in ("docker", "local")
    }
    if name not in makers:
        raise UserError(f"there is no sandbox backend '{name}'; there are docker and local")
    return makers[name]()
