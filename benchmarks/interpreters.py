"""Which interpreter runs a task's code: the toolbox's own, or the Python that the task was measured on.

A release or a commit of some years ago often runs only on the Python of its time. In docker that is the system
interpreter of a Debian release, in an image that is made here without a registry; a local sandbox sees this machine's
programs and takes the interpreter that lies there, or refuses.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sandbox.protocol import SandboxError
from sandbox.task import TaskError

SUITES = {"3.11": "bookworm", "3.9": "bullseye", "3.13": "trixie"}
"""Python version -> the Debian release whose ``python3`` it is."""


class Place(NamedTuple):
    """Where an interpreter is found; both ``None`` for the toolbox's own."""

    image: str | None
    python: str | None


def place(version: str, backend: str) -> Place:
    """The interpreter ``version`` ("3.11") for sandboxes of ``backend``. Raises :class:`TaskError` with the way out."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Place(None, None)
    if backend == "docker":
        return Place(_image(version), f"/usr/bin/python{version}")
    python = next((path for path in _installed(version) if Path(path).exists()), None)
    if python is None:
        raise TaskError(
            f"the task needs Python {version}, which is not under /usr here: install it, or validate with docker"
        )
    return Place(None, python)


def _installed(version: str) -> tuple[str, ...]:
    return (f"/usr/bin/python{version}", f"/usr/local/bin/python{version}")


@cache
def _image(version: str) -> str:
    from sandbox import images

    suite = SUITES.get(version)
    if suite is None:
        raise TaskError(f"no image holds Python {version}; there are {', '.join(sorted(SUITES))}")
    name = f"{images.FAMILY}:{suite}"
    try:
        if any(image.name == name and image.current for image in images.list_images()):
            return name
        return images.build(name, say=lambda line: print(line, file=sys.stderr, flush=True))
    except SandboxError as error:
        raise TaskError(f"the image with Python {version} cannot be made: {error}") from error
