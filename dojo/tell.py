"""Results go to stdout; whatever else a person is told goes to stderr."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Tell a person, apart from the result."""
    print(line, file=sys.stderr, flush=True)
