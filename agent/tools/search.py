"""Search the repository for a pattern: definitions first, then sources, then tests; capped, the rest counted.

``grep`` does the work inside the sandbox, where a pattern that never ends is killed like any other command. Two passes,
because what one command may print is limited: one for lines that define a match, one for all. Nothing of git, of caches
or of binary files is searched.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from agent.errors import ToolError
from agent.tools.tool import Arguments, Result, Scene
from sandbox.protocol import WORKSPACE

SHOWN = 30
PER_FILE = 6
"""Matches of one file before the others have their turn."""
WIDTH = 160
HELD = 400_000
"""Characters of grep's output that are ranked."""
_DEFINITION = "'^[^:]+:[0-9]+:[[:space:]]*((async +)?def|class) '"
_SKIP = ("--exclude-dir=.git", "--exclude-dir=__pycache__", "--exclude-dir=.venv", "--exclude-dir=node_modules")
_DEFINES = re.compile(r"\s*(?:(?:async\s+)?def|class)\s|\w+\s*(?::[^=]+)?=\s")
_TEST = re.compile(r"(?:^|/)(?:tests?/|test_[^/]*$|[^/]*_test\.|conftest\.py$)")


class SearchArgs(Arguments):
    pattern: str = Field(min_length=1)
    """An extended regular expression, matched line by line; capitals matter."""
    path: str | None = None
    """A folder or file to search in; everything when it is left out."""


class Search:
    """Matches with file and line, the most telling first."""

    name: ClassVar[str] = "search"
    fences: ClassVar[tuple[str, ...]] = ("search",)
    body: ClassVar[str | None] = "pattern"
    info: ClassVar[str | None] = "path"
    help: ClassVar[str] = "search the repository for a regular expression; definitions come first"
    Args: ClassVar[type[Arguments]] = SearchArgs

    async def run(self, args: Arguments, scene: Scene) -> Result:
        assert isinstance(args, SearchArgs)
        pattern = args.pattern.strip("\n")
        if not pattern:
            raise ToolError("error: the pattern is empty.")
        if args.path is not None and args.path.startswith("-"):
            raise ToolError(f"error: there is no path {args.path}.")
        done = await scene.sandbox.run(command(pattern, args.path or "."), scene.seconds())
        if done.timed_out or done.exit_code is None:
            return Result(text="[timed out: the pattern takes too long]", ok=False)
        if done.exit_code:
            reason = done.output.strip().split("\n")[-1].removeprefix("grep: ")
            raise ToolError(f"error: {reason or 'the search failed'}.")
        return Result(text=render(parse(done.output), done.cut > 0))


def command(pattern: str, path: str) -> str:
    """A subshell, so that neither the agent's working directory nor its options change, in the words of any POSIX
    shell. It exits with 2 when grep refused and found nothing; a file that cannot be read is no reason.
    """
    grep, cut = f"command grep -rnIE {' '.join(_SKIP)}", f"cut -c1-{WIDTH + 120}"
    what, where = shlex.quote(pattern), shlex.quote(path)
    return f"""(set +eu; (set +o pipefail) 2>/dev/null && set +o pipefail
cd {WORKSPACE} || exit 2
found=$({{ {grep} -m 200 -e {what} -- {where}; printf '\\n%s' "code $?"; }} 2>&1 | head -c {HELD})
case "${{found##*code }}" in
1) exit 0 ;;
2) printf '%s\\n' "$found" | command grep -qv -e '^grep: ' -e '^code ' -e '^$' ||
   {{ printf '%s\\n' "$found" | command grep '^grep: ' | tail -n 1; exit 2; }} ;;
esac
export LC_ALL=C.UTF-8
printf '%s\\n' "$found" | {cut} | command grep -E {_DEFINITION} | head -n 40
printf '%s\\n' "$found" | {cut} | head -c 12000
)"""


@dataclass(frozen=True, slots=True)
class Match:
    """One line that matches."""

    path: str
    line: int
    text: str

    @property
    def rank(self) -> tuple[bool, bool, str, int]:
        """Tests last, definitions first, then by place."""
        return (_TEST.search(self.path) is not None, _DEFINES.match(self.text) is None, self.path, self.line)


def parse(output: str) -> list[Match]:
    """Matches of grep's output, each once, in the order of their rank."""
    found: dict[tuple[str, int], Match] = {}
    for line in output.split("\n"):
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[1].isdigit():
            path = parts[0].removeprefix("./")
            found.setdefault((path, int(parts[1])), Match(path, int(parts[1]), parts[2]))
    return sorted(found.values(), key=lambda match: match.rank)


def render(matches: list[Match], more: bool) -> str:
    """At most :data:`SHOWN` lines, at most :data:`PER_FILE` of one file; what is left out is counted."""
    if not matches:
        return "no match"
    taken: Counter[str] = Counter()
    shown: list[str] = []
    for match in matches:
        taken[match.path] += 1
        if taken[match.path] <= PER_FILE and len(shown) < SHOWN:
            shown.append(f"{match.path}:{match.line}: {match.text.strip()[:WIDTH]}")
    hidden = len(matches) - len(shown)
    if hidden or more:
        shown.append(
            f"[{hidden}{'+' if more else ''} more matches in {len(taken)} files; narrow the pattern or the path]"
        )
    return "\n".join(shown)
