"""Prerequisites of tests: without one, a test is skipped with the reason.

``REPODOJO_REQUIRE=docker,model,index`` (set by CI) turns such a skip into a failure, so that a machine which should
have the prerequisite cannot pass by skipping. Some are known beforehand, by a mark (``extra("trl")``: a package that
only `make test-extras` installs and requires); others (``index``: the package index, ``npm``, ``interpreter``: another
Python) only when a test has asked for them, by :func:`lacking`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

# No timing decides a test: not of one example (200 ms unless told otherwise), and not of making it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@cache
def _docker() -> str:
    """Why docker tests cannot run; empty when they can."""
    from sandbox.images import unusable

    return unusable()


@cache
def _model() -> str:
    from trainers.model.load import missing

    return missing()


@cache
def _gpu() -> str:
    import torch

    return "" if torch.cuda.is_available() else "no accelerator answers"


@cache
def _vllm() -> str:
    named = os.environ.get("REPODOJO_VLLM")
    return "" if named else "REPODOJO_VLLM names no interpreter with vLLM beside it: 'make test-vllm' does"


PREREQUISITES: dict[str, Callable[[], str]] = {
    "docker": _docker,
    "model": _model,
    "gpu": _gpu,
    "vllm": _vllm,
}


Lacking = Callable[[str, str], NoReturn]


@pytest.fixture(scope="session")
def lacking() -> Lacking:
    """Ends a test for want of a prerequisite: its name, and why it is not there."""
    return _end


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, why_not in PREREQUISITES.items():
        if item.get_closest_marker(name) and (reason := why_not()):
            _end(name, reason)
    for mark in item.iter_markers("extra"):
        (package,) = mark.args
        if importlib.util.find_spec(package) is None:
            _end(package, f"{package} is not installed: see 'make test-extras'")


def _end(name: str, reason: str) -> NoReturn:
    if name in os.environ.get("REPODOJO_REQUIRE", "").split(","):
        pytest.fail(f"{name} is required here, but {reason}", pytrace=False)
    pytest.skip(reason)
