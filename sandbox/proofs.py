"""Every limit is proved before a run begins: one throwaway sandbox under the same limits tries to go beyond each.

What a kernel, an engine or a storage driver silently ignores looks the same in a configuration and different here. A
limit that the user set and that does not hold refuses the run, with the way out; one of our own choosing is reported.
Attempts are bounded by themselves: a limit that does not hold costs a second and not the machine. Memory beyond
:data:`TOUCHED_MB` is not touched but read back from the control group.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.protocol import Limits, Sandbox, SandboxError, Spec

TOUCHED_MB = 2048
"""Memory that is really filled to prove a limit, in MiB."""
SPARE = 24
"""Processes tried beyond the limit."""
PATIENCE_S = 60.0
LIMITED = frozenset({"memory_mb", "pids", "cpus"})
"""Limits that a backend keeps; the others are the tool server's."""

PROGRAM = """\
import json, os, resource, signal, sys, time
job = json.loads(sys.argv[1])

def memory():
    child = os.fork()
    if child == 0:
        held = []
        try:
            for _ in range(job["memory_mb"] // 16 + 8):
                held.append(bytearray(b"x") * (16 << 20))
        except MemoryError:
            os._exit(9)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0

def pids():
    children, held = [], False
    try:
        for _ in range(job["pids"] + job["spare"]):
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(0)
            children.append(child)
    except OSError:
        held = True
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    return held

def disk(folder):
    name = folder + "/.proof"
    fd = os.open(name, os.O_CREAT | os.O_RDWR)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        os.posix_fallocate(fd, 0, job["disk_mb"] << 20)
        return False
    except OSError:
        return True
    finally:
        os.close(fd)
        os.unlink(name)

def quota():
    for name in ("cpu.max", "cpu/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_quota_us"):
        try:
            words = open("/sys/fs/cgroup/" + name).read().split()
        except OSError:
            continue
        period = int(words[1]) if len(words) > 1 else 100000
        return None if words[0] in ("max", "-1") else int(words[0]) / period
    return throttled()

def throttled():
    # Without sight of a control group: more processes than cores are allowed spin, and what they get is counted.
    end = time.monotonic() + 1.0
    for _ in range(int(job["cpus"]) + 2):
        if os.fork() == 0:
            while time.monotonic() < end:
                pass
            os._exit(0)
    before = os.times()
    try:
        while True:
            os.wait()
    except ChildProcessError:
        after = os.times()
    share = (after.children_user + after.children_system - before.children_user - before.children_system)
    return job["cpus"] if share < job["cpus"] * 1.15 + 0.1 else None

def group():
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            word = open("/sys/fs/cgroup/" + name).read().strip()
        except OSError:
            continue
        return None if word == "max" else int(word) >> 20
    return None

seen = {"cpus": quota(), "group_mb": group(), "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0]}
seen["disk"] = [disk("/workspace"), disk(os.environ.get("TMPDIR", "/tmp"))]
seen["pids"] = pids()
seen["memory"] = memory() if job["touch"] else None
print(json.dumps(seen))
"""


Opener = Callable[[Spec], Awaitable[Sandbox]]


class Proof(NamedTuple):
    """One limit, and what was seen of it."""

    limit: str
    """Name of the field of :class:`~sandbox.protocol.Limits`, or of a limit that is not configured."""
    holds: bool
    seen: str


class Prover:
    """Proves limits before their first use in a run, each set of them once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """``say`` is told of each default limit that does not hold."""
        self._say = say
        self._network: asyncio.Task[None] | None = None
        self._settled: dict[tuple[tuple[str, Any], ...], asyncio.Task[None]] = {}

    async def ensure(self, spec: Spec, opener: Opener, *, cpus: bool) -> None:
        """Raises :class:`SandboxError` for a configured limit that does not hold. ``opener`` must not prove."""
        limits = spec.limits
        asked = {name: getattr(limits, name) for name in sorted(limits.model_fields_set & LIMITED)}
        key = tuple(asked.items())
        if key not in self._settled:
            self._settled[key] = asyncio.create_task(self._settle(Limits(**asked), opener, spec.image, cpus))
        await asyncio.shield(self._settled[key])
        if spec.network != "none":
            if self._network is None:
                self._network = asyncio.create_task(self._settle_network(spec, opener))
            await asyncio.shield(self._network)

    async def _settle(self, limits: Limits, opener: Opener, image: str | None, cpus: bool) -> None:
        for sentence in settle(limits, await prove(opener, limits, image=image, cpus=cpus)):
            self._say(sentence)

    @staticmethod
    async def _settle_network(spec: Spec, opener: Opener) -> None:
        """An allow-list is always configured: one that does not hold is refused."""
        from sandbox.selfcheck.network import check_network

        with tempfile.TemporaryDirectory(prefix="repodojo-proof-") as folder:
            Path(folder).chmod(0o755)
            bare = Spec(tree=Path(folder), image=spec.image, limits=spec.limits, editor=False)
            for name, problem in await check_network(opener, bare):
                if problem:
                    raise SandboxError(f"sandbox.network does not hold on this machine: not so that {name} ({problem})")


async def prove(opener: Opener, limits: Limits, *, image: str | None = None, cpus: bool = False) -> list[Proof]:
    """Try every limit in a sandbox of its own, that of CPUs where the backend knows one.

    Raises :class:`SandboxError` when none opens.
    """
    disk_mb = limits.memory_mb + 1024
    job = {
        "memory_mb": limits.memory_mb,
        "pids": limits.pids,
        "cpus": limits.cpus,
        "spare": SPARE,
        "disk_mb": disk_mb,
        "touch": limits.memory_mb <= TOUCHED_MB,
    }
    with tempfile.TemporaryDirectory(prefix="repodojo-proof-") as folder:
        Path(folder).chmod(0o755)
        sandbox = await opener(Spec(tree=Path(folder), image=image, limits=limits, editor=False))
        try:
            command = f"python3 -c {shlex.quote(PROGRAM)} {shlex.quote(json.dumps(job))}"
            done = await sandbox.run(command, PATIENCE_S)
        finally:
            await sandbox.close()
    try:
        seen: dict[str, Any] = json.loads(done.output.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise SandboxError(f"the limits could not be tried: {done.output.strip()[-200:]}") from error
    return judge(limits, seen, cpus=cpus)


def judge(limits: Limits, seen: dict[str, Any], *, cpus: bool) -> list[Proof]:
    """What the facts of one attempt say of each limit (pure)."""
    group = seen["group_mb"]
    memory = seen["memory"] if seen["memory"] is not None else group is not None and group <= limits.memory_mb
    how = f"the control group holds {group} MiB" if seen["memory"] is None else "an attempt to fill more"
    proofs = [
        Proof("memory_mb", bool(memory), f"{how} {'ended' if memory else 'did not end'}"),
        Proof("pids", bool(seen["pids"]), "forks were refused" if seen["pids"] else "every fork went through"),
        Proof("disk", all(seen["disk"]), "larger files were refused" if all(seen["disk"]) else "a larger file fits"),
        Proof("open files", seen["files"] <= 4096, f"{seen['files']} per process"),
    ]
    if cpus:
        share = seen["cpus"]
        proofs.append(Proof("cpus", share is not None and abs(share - limits.cpus) < 0.01, f"a quota of {share} cores"))
    return proofs


def settle(limits: Limits, proofs: list[Proof]) -> list[str]:
    """One sentence for each default limit that does not hold.

    Raises :class:`SandboxError` for one that was configured.
    """
    broken = [proof for proof in proofs if not proof.holds]
    for proof in broken:
        if proof.limit in limits.model_fields_set:
            raise SandboxError(
                f"limits.{proof.limit} = {getattr(limits, proof.limit)} does not hold on this machine ({proof.seen}): "
                "leave it out, or take another backend or engine."
            )
    return [f"the limit of {proof.limit} does not hold here: {proof.seen}" for proof in broken]
