"""Starting and stopping a vLLM server that belongs to a run.

The server is a process group of its own: stopping it, or the end of this process, takes its workers along. What it says
goes to a log file, whose last lines are quoted when it does not come up.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

from trainers.engines.http import ServerError

NAME = "policy"
"""What a server of ours calls its model."""
SETTINGS = {
    "VLLM_SERVER_DEV_MODE": "1",  # pause, reload_weights, sleep
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
ON_A_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1"}
"""GiB of keys and values; the first request answers in 2 s instead of 17 s."""
PLUGIN = Path(__file__).parent / "plugin"
"""On the server's path: the weight transfer by file."""
POLL_S = 0.5
STOP_S = 20.0
"""Seconds that a server has to end by itself."""


@dataclass(slots=True)
class Server:
    """A running server. Close it in the end."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]
    _closed: bool = field(default=False)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def close(self) -> None:
        """End it and its workers. Idempotent."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        _signal(self.process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        _signal(self.process, signal.SIGKILL)
        self.process.wait()


def start(
    python: Path, model: Path, log: Path, *, limit_s: float, flags: Sequence[str], cpu: bool, port: int | None = None
) -> Server:
    """A server of the model folder that answers. Raises :class:`ServerError` with what its log says last."""
    port = port or _free_port()
    command = [str(python.with_name("vllm")), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--served-model-name", NAME, "--logprobs-mode", "processed_logprobs", *flags]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, env=_settings(cpu)
        )
    server = Server(f"http://127.0.0.1:{port}", log, process)
    atexit.register(server.close)
    try:
        _wait(server, limit_s)
    except BaseException:
        server.close()
        raise
    return server


def _settings(cpu: bool) -> Mapping[str, str]:
    mine = SETTINGS | (ON_A_CPU if cpu else {})
    # What the user has set stands; our own interpreter's paths are none of the server's business.
    theirs = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return {**mine, **theirs, "PYTHONPATH": str(PLUGIN)}


def _wait(server: Server, limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if (code := server.process.poll()) is not None:
            raise ServerError(f"the vLLM server ended with code {code} before it answered: {_last(server.log)}")
        with suppress(URLError, OSError), urllib.request.urlopen(f"{server.url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(POLL_S)
    raise ServerError(f"the vLLM server did not answer within {limit_s:g} s (engine.start_s): {_last(server.log)}")


def _last(log: Path) -> str:
    """The last line that says why, and where the others are."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "it said nothing")
    return f"{said[-300:]} (all of it in {log})"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
