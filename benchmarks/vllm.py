"""``make test-vllm``: the vLLM engine against a real server on this machine, with a dated report in ``docs/reports``.

It makes the server's environment if there is none (Python 3.11, vLLM's CPU build, 3.5 GB), then runs the tests that are
marked ``vllm``: they start one server on the embedded model and print what they see.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.soak import REPORTS, Ended, Part, run
from trainers.engines import environment
from trainers.errors import TrainingError

TESTS = "tests/trainers/test_vllm_server.py"
_VERSIONS = (
    "import platform, torch, transformers, vllm;"
    "print(f'vLLM {vllm.__version__}, torch {torch.__version__}, transformers {transformers.__version__}, "
    "Python {platform.python_version()}')"
)


def report(ended: Ended, versions: str) -> Iterator[str]:
    """The report's text, in Markdown."""
    yield f"# A real vLLM server, {time.strftime('%Y-%m-%d %H:%M')}\n"
    load = os.getloadavg()[0]
    yield f"{os.cpu_count()} cores (load {load:.0f} at the end), no GPU. Server: {versions}. `make test-vllm`.\n"
    yield f"{'FAILED' if ended.failed else 'Passed'} in {ended.seconds:.0f} s.\n"
    yield "".join(f"    {line}\n" for line in ended.output.split("\n") if line.strip())


def main() -> int:
    """Make what is missing, test, report."""
    try:
        python = environment.make(lambda line: print(f"==> {line}", flush=True))
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    versions = subprocess.run([str(python), "-c", _VERSIONS], capture_output=True, text=True).stdout.splitlines()
    os.environ |= {"REPODOJO_VLLM": str(python), "REPODOJO_REQUIRE": "vllm,model", "OMP_NUM_THREADS": "2"}
    ended = run(Part("vLLM", (sys.executable, "-m", "pytest", "-v", "-s", "--no-header", TESTS)), keep=200)
    REPORTS.mkdir(parents=True, exist_ok=True)
    file = REPORTS / f"{time.strftime('%Y-%m-%d')}-vllm.md"
    file.write_text("\n".join(report(ended, versions[-1] if versions else "unknown")))
    print(f"report: {file}")
    return int(ended.failed)


if __name__ == "__main__":
    raise SystemExit(main())
