"""The Docker engine behind a face of its own: found once, asked with bounded patience, its errors put into one
sentence.

Where it is looked for, in this order: ``DOCKER_HOST``, Docker's own socket, the user's Podman socket, root's Podman
socket. The docker SDK is imported here and only when an engine is asked for, so that machines without it lose nothing
else.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.protocol import SandboxError

if TYPE_CHECKING:
    from collections.abc import Generator

    import docker

WAY_OUT = 'start an engine (as root on Debian: scripts/docker-up.sh) or take sandbox = "local"'
"""What every sentence about an absent engine ends with."""

REQUEST_S = 120.0
"""Patience with one request to the engine, in seconds; a wedged engine becomes an error instead of a hang."""

POOL = 64
"""Connections kept to the engine: at least as many as sandboxes that start or end at once."""

_SYSTEM = re.compile(r"\w+Error\(\d+, ['\"](?P<what>[^'\"]+)['\"]\)")
"""How the SDK quotes an error of the system."""

_AWAY = re.compile(r"shutting down|unavailable|connection (?:refused|error)|transport|starting up|EOF", re.IGNORECASE)
"""What an engine says that answers and cannot work now: it or its runtime is being restarted."""

_lock = threading.Lock()


def addresses() -> list[str]:
    """Engine addresses worth a try on this machine, best first."""
    if host := os.environ.get("DOCKER_HOST"):
        return [host]
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    sockets = [
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{runtime}/podman/podman.sock",
        "/run/podman/podman.sock",
    ]
    return [f"unix://{socket}" for socket in sockets if Path(socket).exists()]


def connect(timeout_s: float = REQUEST_S) -> docker.DockerClient:
    """A client of the first engine that answers. Raises :class:`SandboxError` with the way out when none does."""
    try:
        import docker
    except ImportError as error:
        raise SandboxError(
            'The docker SDK is not installed: install the [agent] extra, or take sandbox = "local".'
        ) from error
    causes: list[str] = []
    with _lock:
        for address in addresses():
            try:
                client = docker.DockerClient(
                    base_url=address, timeout=int(timeout_s), max_pool_size=POOL, version="auto"
                )
                client.ping()
            except Exception as error:
                causes.append(f"{address}: {sentence(error)}")
            else:
                return client
    reason = "; ".join(causes) or "no engine's socket was found"
    raise SandboxError(f"No Docker engine answers ({reason}): {WAY_OUT}.")


def is_podman(client: docker.DockerClient) -> bool:
    """Whether the engine is Podman, whose socket differs in what a memory file system may be given."""
    parts: list[dict[str, Any]] = client.version().get("Components") or []
    return any("podman" in str(part.get("Name", "")).lower() for part in parts)


def sentence(error: BaseException) -> str:
    """The part of an engine's error that a person can use: its explanation without transport noise, on one line."""
    import docker.errors

    explained = error.explanation if isinstance(error, docker.errors.APIError) and error.explanation else str(error)
    text = " ".join(str(explained).split())
    for noise in ("Error while fetching server API version: ", "('Connection aborted.', "):
        text = text.removeprefix(noise)
    if system := _SYSTEM.search(text):
        text = system["what"].lower()
    return (text or type(error).__name__)[:300].rstrip(".")


class EngineAway(SandboxError):
    """The engine does not answer now; it may be starting again."""


@contextmanager
def boundary(doing: str) -> Generator[None, Any, None]:
    """The one trust boundary to the engine: whatever the SDK raises leaves as :class:`SandboxError`."""
    import docker.errors
    import requests.exceptions

    try:
        yield
    except docker.errors.ImageNotFound as error:
        raise SandboxError(f"{doing}: {sentence(error)}. Make an image with: dojo images build.") from error
    except docker.errors.APIError as error:
        if not _AWAY.search(said := sentence(error)):
            raise SandboxError(f"{doing}: {said}.") from error
        raise EngineAway(f"{doing}: the Docker engine does not answer ({said}): {WAY_OUT}.") from error
    except requests.exceptions.RequestException as error:
        raise EngineAway(f"{doing}: the Docker engine does not answer ({sentence(error)}): {WAY_OUT}.") from error
    except (docker.errors.DockerException, OSError) as error:
        raise SandboxError(f"{doing}: {sentence(error)}.") from error
