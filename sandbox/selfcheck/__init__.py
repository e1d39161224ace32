"""What any backend must do, as named behaviours over the :class:`~sandbox.protocol.Sandbox` protocol.

The tests run them over every backend and ``dojo doctor`` prints them. A behaviour gets a sandbox on :data:`FILES` and
raises :class:`Broken` with what it saw. Those that may hurt their sandbox get one of their own; the others share one.
"""

from sandbox.selfcheck import commands, files, walls
from sandbox.selfcheck.registry import (
    BEHAVIOURS,
    FILES,
    LIMITS,
    Behaviour,
    Broken,
    Outcome,
    check_all,
    make_tree,
    problem_of,
)

__all__ = [
    "BEHAVIOURS",
    "FILES",
    "LIMITS",
    "Behaviour",
    "Broken",
    "Outcome",
    "check_all",
    "commands",
    "files",
    "make_tree",
    "problem_of",
    "walls",
]
