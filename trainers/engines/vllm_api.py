"""The part of vLLM's HTTP interface that we use, as typed calls, each with a time-out.

``/inference/v1/generate`` takes token ids and gives token ids, their log-probabilities and the weight version of each
span of them; it needs ``--enable-scale-out``. With ``--logprobs-mode processed_logprobs`` the log-probabilities are
those of the distribution that was drawn from; otherwise they are at temperature 1 and wrong for training. Pausing,
reloading and sleeping need ``VLLM_SERVER_DEV_MODE=1``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainers.engines.http import Client, ServerError

LOWEST = -9999.0
"""What the server writes for minus infinity: a token that could not be drawn, so its log-probability is unknown."""
HOW = (
    "start it with VLLM_SERVER_DEV_MODE=1 vllm serve ... --enable-scale-out --logprobs-mode processed_logprobs, "
    "or leave engine.url unset and one is started for the run"
)

HOW_ADAPTERS = (
    "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve ... --enable-lora --max-lora-rank RANK besides, "
    "or set engine.sync to 'file', which merges them"
)


@dataclass(frozen=True, slots=True)
class Draw:
    """How one sample is drawn."""

    temperature: float
    seed: int
    max_tokens: int
    stop: int
    """Token id that ends a turn; it is part of the sample."""
    top_p: float = 1.0
    top_k: int = 0

    def params(self) -> dict[str, Any]:
        """As the server's ``SamplingParams``."""
        return {
            "temperature": self.temperature,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "stop_token_ids": [self.stop],
            "ignore_eos": True,
            "logprobs": 0,
            "detokenize": False,
            "skip_special_tokens": False,
        }


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens of one sample that the same weights drew."""

    version: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """One sample."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """NaN where the server gave none."""
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Api:
    """Calls one server. Everything raises :class:`trainers.engines.http.ServerError`."""

    client: Client
    sync_s: float
    """Seconds of a call that belongs to an update."""

    async def models(self) -> list[str]:
        """Names of the models and adapters that are loaded."""
        return [str(model["id"]) for model in (await self.client.get("/v1/models", self.sync_s))["data"]]

    async def workers(self) -> int:
        """Processes that hold weights."""
        return int((await self._control("GET", "/get_world_size"))["world_size"])

    async def generate(self, model: str, ids: Sequence[int], draw: Draw) -> Drawn:
        """One sample behind a context of token ids."""
        body = {"model": model, "token_ids": list(ids), "sampling_params": draw.params()}
        try:
            return _drawn(await self.client.post("/inference/v1/generate", body))
        except ServerError as error:
            if error.status == 404 and "does not exist" not in str(error):
                raise ServerError(f"the server at {self.client.url} gives no token ids; {HOW}", 404) from error
            raise

    async def version(self) -> str:
        """Label of the weights that sample."""
        return str((await self._control("GET", "/weight_info"))["weight_version"])

    async def label(self, version: str) -> None:
        """Name the weights that sample."""
        await self._control("POST", "/update_weight_version", {"new_version": version})

    async def pause(self, mode: Literal["keep", "wait"]) -> None:
        """Stop sampling: requests in flight are frozen, or finished first."""
        await self._control("POST", f"/pause?mode={mode}")

    async def resume(self) -> None:
        """Sample on."""
        await self._control("POST", "/resume")

    async def reload(self, folder: Path) -> None:
        """Read all weights from a folder; keys of prompts that older weights computed are forgotten."""
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        await self._control("POST", "/collective_rpc", body)
        await self.forget()

    async def forget(self) -> None:
        """Drop cached keys and values of prompts."""
        await self._control("POST", "/reset_prefix_cache")

    async def begin_transfer(self, info: Mapping[str, Any]) -> None:
        """Set weight transfer up; once in a server's life."""
        await self._control("POST", "/init_weight_transfer_engine", {"init_info": dict(info)})

    async def transfer(self, info: Mapping[str, Any], version: str) -> None:
        """Send weights and name them."""
        await self._control("POST", "/start_weight_update")
        await self._control("POST", "/update_weights", {"update_info": dict(info)})
        await self._control("POST", "/finish_weight_update", {"weight_version": version})
        await self.forget()

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Load a LoRA adapter, or load it again under the same name."""
        body = {"lora_name": name, "lora_path": str(folder), "load_inplace": True}
        await self._control("POST", "/v1/load_lora_adapter", body, plain=True)
        await self.forget()

    async def unload_adapter(self, name: str) -> None:
        """Forget a LoRA adapter."""
        await self._control("POST", "/v1/unload_lora_adapter", {"lora_name": name}, plain=True)

    async def sleep(self) -> None:
        """Give the GPU's memory back: weights move to the CPU, keys and values are dropped."""
        await self._control("POST", "/sleep?level=1")

    async def wake(self) -> None:
        """Take the GPU's memory again."""
        await self._control("POST", "/wake_up")

    async def _control(self, verb: str, path: str, body: object = None, plain: bool = False) -> Any:
        try:
            return await self.client.call(verb, path, body, self.sync_s, plain)
        except ServerError as error:
            if error.status == 404:
                how = HOW_ADAPTERS if "lora" in path else HOW
                raise ServerError(f"the server at {self.client.url} has no {path}; {how}", 404) from error
            raise


def _drawn(answer: Any) -> Drawn:
    """Raises :class:`ServerError` for an answer without a sample."""
    try:
        choice = answer["choices"][0]
        ids = tuple(int(i) for i in choice["token_ids"])
        content = (choice.get("logprobs") or {}).get("content") or [{}] * len(ids)
        logprobs = tuple(_logprob(one.get("logprob")) for one in content)
        spans = tuple(
            Span(str(one["version"]), int(one["end"]) - int(one["start"]))
            for one in choice.get("weight_versions") or ()
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(f"the vLLM server answered with something that is no sample: {str(answer)[:200]}") from error
    if not ids or len(logprobs) != len(ids):
        raise ServerError(f"the vLLM server gave {len(ids)} tokens with {len(logprobs)} log-probabilities")
    return Drawn(ids, logprobs, spans)


def _logprob(value: object) -> float:
    number = float(value) if isinstance(value, (int, float)) else math.nan
    return number if number > LOWEST else math.nan
