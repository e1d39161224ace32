"""A server that speaks vLLM's interface as far as we use it, without a model: a real double over a real socket.

Tokens are drawn from logits that are a hash of the weights and the context, so greedy output changes when the weights
do and comes back when they come back, log-probabilities are those of the distribution that is drawn from, and pausing,
versions by span, adapters and partial transfers behave as vLLM's do. Its faults can be set while it runs. It answers
chat completions, too, as any endpoint of OpenAI's kind does.

    with Double() as server: ... server.url ...

``python -m trainers.engines.double serve MODEL --port N`` is one in a process of its own, which can be killed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import signal
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import parse_qs, urlsplit

VOCABULARY = 258
"""Bytes and two control tokens, as :class:`agent.chat.ByteTokenizer` has them."""
MODEL = "policy"
PEAK = 6.0
"""Spread of the logits."""


class Brain(Protocol):
    """What the double samples from."""

    def logits(self, ids: Sequence[int], adapter: str | None) -> Sequence[float]:
        """Of the token behind a context."""
        ...

    def load(self, folder: Path) -> None:
        """Take the tensors that a folder holds; others keep their values."""
        ...

    def adapt(self, name: str, folder: Path | None) -> None:
        """Take, or forget, the adapters of a folder."""
        ...


@dataclass(slots=True)
class HashBrain:
    """Logits that are a hash of all tensors and of the last tokens."""

    tensors: dict[str, str] = field(default_factory=dict[str, str])
    adapters: dict[str, str] = field(default_factory=dict[str, str])

    def logits(self, ids: Sequence[int], adapter: str | None) -> Sequence[float]:
        """The same for the same weights and the same last eight tokens."""
        weights = sorted(self.tensors.items())
        name = f"{weights}/{self.adapters.get(adapter or '', '')}/{list(ids[-8:])}"
        rng = random.Random(hashlib.blake2b(name.encode(), digest_size=16).digest())
        return [PEAK * rng.random() for _ in range(VOCABULARY)]

    def load(self, folder: Path) -> None:
        """Digests of the tensors of every safetensors file."""
        for path in sorted(folder.glob("*.safetensors")):
            self.tensors |= _digests(path)

    def adapt(self, name: str, folder: Path | None) -> None:
        """The digest of a file of adapters."""
        if folder is None:
            self.adapters.pop(name, None)
        else:
            self.adapters[name] = json.dumps(_digests(folder / "adapter_model.safetensors"), sort_keys=True)


@dataclass(slots=True)
class Faults:
    """What goes wrong. Settable at any time."""

    slow_s: float = 0.0
    """Seconds before every answer."""
    dead: bool = False
    """Connections are closed without an answer."""
    garbage: bool = False
    """Answers are no JSON."""
    nan_every: int = 0
    """Every n-th token of a sample comes without a log-probability."""
    label: str | None = None
    """The version that the server claims, whatever it was told."""
    refused: frozenset[str] = frozenset()
    """Paths that answer with status 500."""
    absent: frozenset[str] = frozenset()
    """Paths that answer with status 404: an older server, or one without a flag."""
    busy: int = 0
    """So many chat completions are answered with status 429."""
    raw: bool = False
    """Log-probabilities at temperature 1 over all tokens: ``--logprobs-mode raw_logprobs``."""


@dataclass(slots=True)
class Double:
    """A server in a thread; a context manager."""

    brain: Brain = field(default_factory=HashBrain)
    faults: Faults = field(default_factory=Faults)
    token_s: float = 0.0
    """Seconds of a token."""
    version: str = "default"
    calls: list[str] = field(default_factory=list[str])
    """Paths that were asked for, in order."""
    asleep: bool = False
    url: str = ""
    port: int = 0
    """Where to listen; 0: anywhere."""
    answer: Callable[[list[dict[str, str]]], str] = lambda messages: "as you say"
    """What a chat completion says to messages."""
    models: list[str] = field(default_factory=lambda: [MODEL])
    busy: int = 0
    """Samples being drawn."""
    _running: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: Thread | None = None
    _server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._loop.run_forever, name="vllm-double")
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(self, kind: object, error: object, trace: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread:
            self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        self._running.set()
        self._idle.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"

    async def _close(self) -> None:
        if self._server:
            self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # -- HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            verb, target, body = await _request(reader)
            path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
            self.calls.append(path)
            await asyncio.sleep(self.faults.slow_s)
            if not self.faults.dead:
                status, answer = await self._answer(verb, path, query, body)
                writer.write(_response(status, b"<html>" if self.faults.garbage else _body(answer)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away: its right
        finally:
            writer.close()

    async def _answer(self, verb: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        route = ROUTES.get((verb, path))
        if route is None or path in self.faults.absent:
            return 404, {"detail": "Not Found"}
        if path in self.faults.refused:
            return 500, {"error": "refused (on cue)"}
        return await route(self, query, body)

    # -- what it does

    async def generate(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """One sample, token by token, pausing between tokens when told to."""
        if body["model"] not in self.models:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        params, ids, spans = body["sampling_params"], list(body["token_ids"]), list[dict[str, Any]]()
        rng, begin = random.Random(params["seed"]), len(ids)
        content: list[dict[str, Any]] = []
        self._count(1)
        try:
            while len(content) < params["max_tokens"] and not (content and ids[-1] in params["stop_token_ids"]):
                await self._running.wait()
                token, logprob = self._token(ids, body["model"], params, rng)
                ids.append(token)
                missing = self.faults.nan_every and len(content) % self.faults.nan_every == 0
                content.append({"token_id": token, "logprob": None if missing else logprob})
                _extend(spans, self.faults.label or self.version)
                await asyncio.sleep(self.token_s)
        finally:
            self._count(-1)
        reason = "stop" if ids[-1] in params["stop_token_ids"] else "length"
        choice = {"index": 0, "finish_reason": reason, "token_ids": ids[begin:], "weight_versions": spans}
        return 200, {"choices": [{**choice, "logprobs": {"content": content}}]}

    def _token(self, ids: Sequence[int], model: str, params: Any, rng: random.Random) -> tuple[int, float]:
        logits = list(self.brain.logits(ids, None if model == MODEL else model))
        best = sorted(range(len(logits)), key=lambda i: -logits[i])
        temperature = params["temperature"] or 1.0
        scaled = [x / temperature for x in logits]
        allowed = best[: params.get("top_k") or len(best)] if params["temperature"] else best
        weights = [exp(scaled[i] - scaled[best[0]]) for i in allowed]
        token = rng.choices(allowed, weights)[0] if params["temperature"] else best[0]
        if self.faults.raw:
            scaled, allowed = logits, best
        norm = log(sum(exp(scaled[i] - scaled[best[0]]) for i in allowed)) + scaled[best[0]]
        return token, scaled[token] - norm

    def _count(self, change: int) -> None:
        self.busy += change
        (self._idle.clear if self.busy else self._idle.set)()

    async def chat(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """A chat completion of at most ``max_tokens`` words."""
        if self.faults.busy > 0:
            self.faults.busy -= 1
            return 429, {"error": "too many requests (on cue)"}
        words = self.answer(body["messages"]).split(" ")
        text, cut = " ".join(words[: body["max_tokens"]]), len(words) > body["max_tokens"]
        message = {"role": "assistant", "content": text}
        return 200, {"choices": [{"index": 0, "message": message, "finish_reason": "length" if cut else "stop"}]}

    async def pause(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """``keep`` freezes samples, ``wait`` lets them finish."""
        if query["mode"] == ["wait"]:
            await self._idle.wait()
        self._running.clear()
        return 200, {"status": "paused"}

    async def resume(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        self._running.set()
        return 200, {"status": "resumed"}

    async def rpc(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """``reload_weights``; the version keeps its label until it is renamed."""
        self.brain.load(Path(body["kwargs"]["weights_path"]))
        return 200, {"results": [None]}

    async def transfer(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        self.brain.load(Path(body["update_info"]["folder"]))
        return 200, {"message": "Weights updated"}

    async def name(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Of the weights, under the key of either call."""
        self.version = body.get("weight_version") or body["new_version"]
        return 200, {"success": True}

    async def info(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        return 200, {"weight_version": self.faults.label or self.version}

    async def load_adapter(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        self.brain.adapt(body["lora_name"], Path(body["lora_path"]))
        self.models = [*dict.fromkeys([*self.models, body["lora_name"]])]
        return 200, b"Success: the adapter is loaded."

    async def unload_adapter(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        self.brain.adapt(body["lora_name"], None)
        self.models = [name for name in self.models if name != body["lora_name"]]
        return 200, b"Success: the adapter is forgotten."

    async def sleep(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        self.asleep = True
        return 200, None

    async def wake(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        self.asleep = False
        return 200, None

    async def list_models(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        return 200, {"data": [{"id": name} for name in self.models]}

    async def nothing(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """What needs no doing here."""
        return 200, None


Route = Callable[[Double, dict[str, list[str]], Any], Awaitable[tuple[int, Any]]]
ROUTES: dict[tuple[str, str], Route] = {
    ("POST", "/inference/v1/generate"): Double.generate,
    ("POST", "/v1/chat/completions"): Double.chat,
    ("POST", "/pause"): Double.pause,
    ("POST", "/resume"): Double.resume,
    ("POST", "/collective_rpc"): Double.rpc,
    ("POST", "/reset_prefix_cache"): Double.nothing,
    ("POST", "/init_weight_transfer_engine"): Double.nothing,
    ("POST", "/start_weight_update"): Double.nothing,
    ("POST", "/update_weights"): Double.transfer,
    ("POST", "/finish_weight_update"): Double.name,
    ("POST", "/update_weight_version"): Double.name,
    ("GET", "/weight_info"): Double.info,
    ("POST", "/v1/load_lora_adapter"): Double.load_adapter,
    ("POST", "/v1/unload_lora_adapter"): Double.unload_adapter,
    ("POST", "/sleep"): Double.sleep,
    ("POST", "/wake_up"): Double.wake,
    ("GET", "/v1/models"): Double.list_models,
    ("GET", "/health"): Double.nothing,
}


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, Any]:
    verb, target, _ = (await reader.readuntil(b"\r\n")).decode().split(" ", 2)
    length = 0
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode().partition(":")
        if name.lower() == "content-length":
            length = int(value)
    raw = await reader.readexactly(length)
    return verb, target, json.loads(raw) if raw else None


def _body(answer: Any) -> bytes:
    """JSON, or a sentence as it is."""
    return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def _response(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def _extend(spans: list[dict[str, Any]], version: str) -> None:
    """One more token of a version."""
    if spans and spans[-1]["version"] == version:
        spans[-1]["end"] += 1
    else:
        begin = spans[-1]["end"] if spans else 0
        spans.append({"version": version, "start": begin, "end": begin + 1})


def _digests(path: Path) -> dict[str, str]:
    """Of each tensor of a safetensors file: a length, a JSON header with offsets, the data."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    places = {name: one["data_offsets"] for name, one in header.items()}
    parts = {name: data[8 + size + begin : 8 + size + end] for name, (begin, end) in places.items()}
    return {name: hashlib.blake2b(part, digest_size=8).hexdigest() for name, part in parts.items()}


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is ended; flags of vLLM's command that mean nothing here are ignored."""
    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=0)
    with Double(port=parser.parse_known_args(arguments)[0].port, token_s=0.01):
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
