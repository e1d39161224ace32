"""Limits are proved before they are believed: configured ones that do not hold are refused, others are reported."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sandbox.docker import DockerBackend
from sandbox.local import LocalBackend
from sandbox.proofs import Proof, judge, prove, settle
from sandbox.protocol import Backend, Limits, SandboxError

HELD: dict[str, Any] = {
    "cpus": 1.0, "group_mb": 1024, "files": 1024, "disk": [True, True], "pids": True, "memory": True
}  # fmt: skip


def proofs_of(make: type[Backend], limits: Limits) -> dict[str, bool]:
    async def play() -> dict[str, bool]:
        backend = make()
        try:
            return {
                proof.limit: proof.holds for proof in await prove(backend.open, limits, cpus=backend.name == "docker")
            }
        finally:
            await backend.close()

    return asyncio.run(play())


def test_local_limits_hold_where_namespaces_do() -> None:
    found = proofs_of(LocalBackend, Limits(memory_mb=256, pids=40))
    assert found == {"memory_mb": True, "pids": True, "disk": True, "open files": True}


@pytest.mark.docker
def test_docker_limits_hold() -> None:
    found = proofs_of(DockerBackend, Limits(memory_mb=256, pids=40, cpus=0.5))
    assert found == {"memory_mb": True, "pids": True, "disk": True, "open files": True, "cpus": True}


@pytest.mark.parametrize(
    ("fact", "value", "limit"),
    [
        ("memory", False, "memory_mb"),
        ("pids", False, "pids"),
        ("disk", [True, False], "disk"),
        ("files", 1 << 20, "open files"),
        ("cpus", None, "cpus"),
        ("cpus", 2.0, "cpus"),
    ],
)
def test_what_was_seen_decides(fact: str, value: object, limit: str) -> None:
    found = {proof.limit: proof.holds for proof in judge(Limits(), {**HELD, fact: value}, cpus=True)}
    assert found == {name: name != limit for name in found} and limit in found


def test_memory_that_is_too_much_to_fill_is_read_back() -> None:
    large = Limits(memory_mb=8192)
    for group, holds in ((8192, True), (None, False), (16384, False)):
        found = judge(large, {**HELD, "memory": None, "group_mb": group}, cpus=True)
        assert found[0].holds is holds


def test_a_configured_limit_that_does_not_hold_is_refused_and_a_default_one_is_reported() -> None:
    broken = [Proof("cpus", False, "a quota of None cores"), Proof("pids", True, "forks were refused")]
    with pytest.raises(SandboxError, match=r"limits\.cpus = 2\.0 does not hold"):
        settle(Limits(cpus=2.0), broken)
    assert settle(Limits(memory_mb=512), broken) == ["the limit of cpus does not hold here: a quota of None cores"]
