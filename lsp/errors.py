"""Exit codes and the one exception of lanser (standard library only).

Every failure that a user can meet is a :class:`LanserError` with a :class:`Code`; the outermost boundary (CLI, batch,
daemon, SDK facade) turns it into an error bundle or one sentence. Codes 0 to 76 are those of arXiv 2510.22907; 1 and
77 to 80 are ours.
"""

from __future__ import annotations

from enum import Enum
from typing import Any


class Code(Enum):
    """One failure class: process exit status, name, and whether trying again can help."""

    OK = (0, "OK", "")
    FINDINGS = (1, "FINDINGS", "no")
    BAD_SELECTOR_SYNTAX = (2, "E/BAD_SELECTOR_SYNTAX", "no")
    NOT_FOUND = (3, "E/NOT_FOUND", "sometimes")
    AMBIGUOUS = (4, "E/AMBIGUOUS", "yes")
    VERSION_SKEW = (10, "E/VERSION_SKEW", "yes")
    LS_TIMEOUT = (64, "E/LS_TIMEOUT", "yes")
    LS_CRASH = (65, "E/LS_CRASH", "yes")
    APPLY_CONFLICT = (70, "E/APPLY_CONFLICT", "by hand")
    FS_PERMISSIONS = (71, "E/FS_PERMISSIONS", "no")
    UNSUPPORTED_CAP = (72, "E/UNSUPPORTED_CAP", "no")
    REQUEST_CANCELLED = (73, "E/REQUEST_CANCELLED", "yes")
    CONTENT_MODIFIED = (74, "E/CONTENT_MODIFIED", "yes")
    INDEXING_UNSUPPORTED = (75, "E/INDEXING_UNSUPPORTED", "no")
    REPLAY_MISMATCH = (76, "E/REPLAY_MISMATCH", "no")
    JAIL = (77, "E/JAIL", "no")
    DIRTY_WORKTREE = (78, "E/DIRTY_WORKTREE", "by hand")
    BAD_INPUT = (79, "E/BAD_INPUT", "no")
    INTERNAL = (80, "E/INTERNAL", "report it")

    @property
    def exit_code(self) -> int:
        return self.value[0]

    @property
    def label(self) -> str:
        return self.value[1]

    @property
    def retry(self) -> str:
        return self.value[2]

    @classmethod
    def from_label(cls, label: str) -> Code:
        """The code named ``label``. ``KeyError`` when there is none."""
        for code in cls:
            if code.label == label:
                return code
        raise KeyError(label)


class LanserError(Exception):
    """A failure with a code, one sentence for people, and evidence for programs."""

    def __init__(self, code: Code, message: str, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.evidence = evidence or {}


def reason(error: Exception) -> str:
    """Why something could not be read, in words for a user."""
    if isinstance(error, UnicodeError):
        return "it is not UTF-8 text"
    return getattr(error, "strerror", None) or str(error)
