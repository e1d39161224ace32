"""Fixtures of the agent's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_stage import Stage, make_prepared

from agent.doubles import ExactGrader
from sandbox.memory import MemoryBackend


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    backend = MemoryBackend()
    yield Stage(make_prepared(tmp_path), backend, ExactGrader())
    asyncio.run(backend.close())
