"""``python -m agent.tools [NAME ...]``: the reference page of the built-in tools, or of those named."""

from __future__ import annotations

import sys

from agent import tools
from agent.tools.describe import page


def main(names: list[str]) -> int:
    """Print the page; a name that no tool has is refused with the way out."""
    try:
        found = [tools.load((name,))[name] for name in names or tools.BUILT_IN]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(page(found), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
