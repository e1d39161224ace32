"""The boundary of the ``dojo`` command: one clear sentence on stderr, a non-zero exit, no traceback.

Exit codes: 2 for what the user can mend (config, names, files, engines), 70 for a fault of ours (the traceback goes to
a file that the sentence names), 130 when interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

USER = 2
INTERNAL = 70
INTERRUPTED = 130


class UserError(Exception):
    """Something that the user can mend. The message is one sentence that names the thing and the way out."""


@contextmanager
def boundary() -> Generator[None]:
    """Turn whatever leaves a verb into an exit code and at most one line on stderr."""
    try:
        yield
    except KeyboardInterrupt:
        _leave("interrupted; what was finished is on disk", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`dojo tasks list | head`): that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except (UserError, *_user_errors()) as error:
        _leave(str(error), USER)
    except OSError as error:
        _leave(_os_error(error), USER)
    except Exception:
        _leave(f"this is a fault of RepoDojo, not yours; please report {_keep_traceback()}", INTERNAL)


def _user_errors() -> tuple[type[Exception], ...]:
    """User-facing errors of the lower floors that are loaded; an unloaded floor cannot have raised."""
    names = (
        ("sandbox.task", "TaskError"),
        ("sandbox.protocol", "SandboxError"),
        ("agent.policy", "PolicyError"),
        ("agent.store", "StoreError"),
        ("rewards.errors", "RewardError"),
        ("trainers.errors", "TrainingError"),
        ("trainers.model.tokenizer", "ModelError"),
    )
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(error for error in found if error is not None)


def _os_error(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return (
            f"the disk is full{where}: free some space and run the same command with --resume; nothing finished is lost"
        )
    return f"{error.strerror or error}{where}"


def _keep_traceback() -> Path:
    fd, name = tempfile.mkstemp(prefix="repodojo-", suffix=".traceback")
    with os.fdopen(fd, "w") as file:
        traceback.print_exc(file=file)
    return Path(name)


def _leave(sentence: str, code: int) -> NoReturn:
    print(f"dojo: {' '.join(sentence.split())}", file=sys.stderr)
    raise SystemExit(code) from None
