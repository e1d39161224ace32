"""The choice of a backend, with its reason.

``auto`` takes docker when an engine answers and holds a usable image or one can be made here, else local. A backend
that was named is taken or refused with the way out, never replaced by another.
"""

from __future__ import annotations

import sys

from sandbox import cgroup
from sandbox.config import PoolConfig, SandboxConfig
from sandbox.engine import WAY_OUT
from sandbox.protocol import Backend, Limits, SandboxError


def choose(config: SandboxConfig) -> tuple[Backend, str]:
    """The backend that ``config`` asks for, not started, and why it was taken. Raises :class:`SandboxError`."""
    if config.backend == "local":
        return _local(config), "local sandboxes, as configured"
    missing = _docker_missing()
    if not missing:
        reason = "as configured" if config.backend == "docker" else "an engine answers and has a usable image"
        return _docker(config), f"docker sandboxes: {reason}"
    if config.backend == "docker":
        raise SandboxError(f"docker sandboxes cannot be used: {missing}.")
    return _local(config), f"local sandboxes: {missing.removesuffix(f': {WAY_OUT}')}"


def _local(config: SandboxConfig) -> Backend:
    from sandbox.local import LocalBackend
    from sandbox.pool import Pool

    if config.limits.cpus != Limits().cpus and (why := cgroup.missing()):
        raise SandboxError(f"limits.cpus is not honoured by local sandboxes, {why}: leave it out, or take docker.")
    if config.pool.keep != PoolConfig().keep:
        raise SandboxError(
            "sandbox.pool.keep is not honoured by local sandboxes, which are not used again: leave it out."
        )
    if config.image is not None:
        raise SandboxError(f"the image {config.image} needs docker: leave it out, or start an engine.")
    backend = LocalBackend(unsafe=config.unsafe_local, prove=_notice if config.prove_limits else None)
    return Pool(backend, **config.pool.model_dump())


def _docker_missing() -> str:
    """Why docker cannot be used; empty when it can. An engine without an image of ours gets one, where that works."""
    try:
        from sandbox import images
    except ImportError:
        return "the docker SDK is not installed (install the [agent] extra)"
    if not (reason := images.unusable()):
        return ""
    try:
        images.list_images()
    except SandboxError:
        return reason.rstrip(".")
    try:
        images.build(say=lambda line: print(line, file=sys.stderr, flush=True))
    except SandboxError as error:
        return f"the engine holds no image of ours, and none could be made: {error}".rstrip(".")
    return ""


def _docker(config: SandboxConfig) -> Backend:
    from sandbox.docker import DockerBackend
    from sandbox.pool import Pool

    backend = DockerBackend(image=config.image, prove=_notice if config.prove_limits else None)
    return Pool(backend, **config.pool.model_dump())


def _notice(sentence: str) -> None:
    print(f"sandbox: {sentence}", file=sys.stderr, flush=True)
