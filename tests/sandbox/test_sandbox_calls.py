"""The filter of system calls, run by hand over every call it knows: also for a machine that is not this one."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from sandbox import toolbox
from sandbox.folder import Folders, missing
from sandbox.landlock import version
from sandbox.protocol import Spec
from sandbox.seccomp import (
    ALLOW,
    ANY_BIT,
    ARCHITECTURE,
    ARGUMENT,
    AT_LEAST,
    CLONE3,
    EQUAL,
    ERRNO,
    LOAD,
    MACHINES,
    NUMBER,
    RETURN,
    Machine,
    program,
)  # fmt: skip

REFUSED, ABSENT = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
HARMLESS = {"x86_64": (0, 1, 39, 57, 59, 257), "aarch64": (63, 64, 172, 221, 56)}
"""Reading, writing, getpid, fork, execve, openat: as the two machines number them."""


def verdict(machine: Machine, number: int, first: int = 0, architecture: int | None = None, **options: bool) -> int:
    """What the kernel would do with one call."""
    seen = {NUMBER: number, ARCHITECTURE: machine.architecture if architecture is None else architecture}
    seen[ARGUMENT] = first
    steps, at, value = program(machine, **options), 0, 0
    while True:
        operation, yes, no, constant = steps[at]
        if operation == RETURN:
            return constant
        if operation == LOAD:
            value = seen[constant]
        else:
            holds = {EQUAL: value == constant, AT_LEAST: value >= constant, ANY_BIT: bool(value & constant)}
            at += yes if holds[operation] else no
        at += 1


@pytest.mark.parametrize("name", MACHINES)
def test_dangerous_calls_are_refused_and_harmless_ones_are_not(name: str) -> None:
    machine = MACHINES[name]
    assert all(verdict(machine, number) == REFUSED for number in machine.denied.values())
    assert all(verdict(machine, number) == ALLOW for number in HARMLESS[name])
    assert len(set(machine.denied.values())) == len(machine.denied) > 40
    assert verdict(machine, CLONE3) == ABSENT
    # Threads and forks, against every kind of namespace.
    assert verdict(machine, machine.clone, 0x3D0F00) == verdict(machine, machine.clone, 17) == ALLOW
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, machine.clone, flag | 17) == REFUSED
    assert [verdict(machine, machine.ptrace, request) for request in (16, 0x4206)] == [REFUSED, REFUSED]
    assert [verdict(machine, machine.ptrace, request) for request in (0, 1, 7)] == [ALLOW] * 3


@pytest.mark.parametrize("name", MACHINES)
def test_another_calling_convention_is_refused_whole(name: str) -> None:
    machine = MACHINES[name]
    assert verdict(machine, HARMLESS[name][0], architecture=0x40000003) == REFUSED
    assert verdict(machine, 0x40000000 + HARMLESS[name][0]) == ABSENT


@pytest.mark.parametrize("name", MACHINES)
def test_unix_sockets_can_be_refused_alone(name: str) -> None:
    machine = MACHINES[name]
    assert verdict(machine, machine.socket, 1) == ALLOW
    assert verdict(machine, machine.socket, 1, local_sockets=False) == REFUSED
    assert verdict(machine, machine.socket, 2, local_sockets=False) == ALLOW
    assert all(verdict(machine, number, 1, local_sockets=False) == ALLOW for number in HARMLESS[name])


@pytest.mark.skipif(not version(), reason=missing("landlock") or "no Landlock")
def test_behind_landlock_no_daemon_of_this_machine_can_be_spoken_to(tmp_path: Path) -> None:
    async def play() -> tuple[str, int]:
        folders = Folders("landlock", toolbox.build())
        try:
            box = await folders.open(Spec(tree=tmp_path))
            script = "import socket; socket.socketpair(); socket.socket(socket.AF_UNIX)"
            said = (await box.run(f"python3 -c '{script}' 2>&1 | tail -1")).output
            diagnosed = len((await box.lsp("diag"))["facts"]["diagnostics"])
            await box.close()
            return said, diagnosed
        finally:
            await folders.close()

    said, diagnosed = asyncio.run(play())
    assert said == "PermissionError: [Errno 1] Operation not permitted\n" and diagnosed == 0
