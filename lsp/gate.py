"""Commands that gate: ``diag --fail-on``, ``schema validate``, and ``reward`` over stored bundles."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lsp.errors import Code, LanserError, reason
from lsp.options import Common, execute, finish, guarded, leave
from lsp.process_reward import State, Weights, observe, pr_v1, pr_v2

FAIL_ON = ("errors", "warnings", "new-errors")
FORMATS = ("text", "json", "sarif")


def diagnostics(args: Mapping[str, Any], common: Common, fail_on: str | None, form: str) -> NoReturn:
    """``lanser diag``: print in ``form`` and exit 1 on findings that ``fail_on`` names."""
    bundle = guarded(lambda: _asked(args, common, fail_on, form))
    if bundle["status"] == "error":
        finish(bundle, common)
    if form == "sarif":
        from lsp.sarif import sarif

        print(json.dumps(sarif(bundle, reported(bundle))))
    elif form == "json" or common.as_json:
        print(json.dumps(bundle, ensure_ascii=False))
    else:
        from lsp.render import show

        show(bundle)
    leave(Code.FINDINGS.exit_code if findings(bundle, fail_on) else 0)


def reported(bundle: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a report lists: the new diagnostics when a revision was compared with, else all."""
    new = bundle["facts"].get("new")
    return bundle["facts"]["diagnostics"] if new is None else new


def findings(bundle: Mapping[str, Any], fail_on: str | None) -> int:
    """How many diagnostics ``fail_on`` counts; suppressed ones do not fail a build."""
    counted = ("error", "warning") if fail_on == "warnings" else ("error",)
    pool = bundle["facts"]["new"] if fail_on == "new-errors" else bundle["facts"]["diagnostics"]
    return sum(item["severity"] in counted and not item["suppressed"] for item in pool) if fail_on else 0


def _asked(args: Mapping[str, Any], common: Common, fail_on: str | None, form: str) -> dict[str, Any]:
    if fail_on is not None and fail_on not in FAIL_ON:
        raise LanserError(Code.BAD_INPUT, f"--fail-on is one of {', '.join(FAIL_ON)}, not {fail_on!r}")
    if form not in FORMATS:
        raise LanserError(Code.BAD_INPUT, f"--format is one of {', '.join(FORMATS)}, not {form!r}")
    if fail_on == "new-errors" and not args.get("changed"):
        raise LanserError(Code.BAD_INPUT, "--fail-on new-errors needs --changed REV to compare with")
    return execute("diag", args, common)


def validate_lines(path: Path | None, *, batch: bool) -> int:
    """Check each payload; the exit status. Problems go to stderr, one a line."""
    from lsp.batch import parse
    from lsp.bundle import verify

    bad = 0
    for number, text in enumerate(_payloads(path, whole=not batch), start=1):
        try:
            if batch:
                parse(text)
            else:
                verify(_json(text))
        except LanserError as error:
            bad += 1
            print(f"{path or 'stdin'}:{number}: {error.message}", file=sys.stderr)
    return Code.FINDINGS.exit_code if bad else 0


def print_rewards(paths: Sequence[Path], version: str) -> None:
    """One line a turn: the reward of each bundle after the first that has a count."""
    if version not in ("pr-v1", "pr-v2"):
        raise LanserError(Code.BAD_INPUT, f"--version is pr-v1 or pr-v2, not {version!r}")
    seen = [observe(_json(text)) for path in paths for text in _payloads(path, whole=True)]
    first = next((index for index, turn in enumerate(seen) if turn.diagnostics is not None), None)
    if first is None:
        raise LanserError(Code.BAD_INPUT, "no bundle holds a diagnostic count; `lanser diag --json` makes them")
    start = seen[first].diagnostics or 0
    state = State(start)
    for turn in seen[first + 1 :]:
        after = state.after(turn)
        made = pr_v1(state, after, Weights()) if version == "pr-v1" else pr_v2(state, after, start, Weights())
        print(json.dumps(made.as_dict()))
        state = after


def _payloads(path: Path | None, *, whole: bool) -> list[str]:
    try:
        text = sys.stdin.read() if path is None else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LanserError(Code.BAD_INPUT, f"cannot read {path}: {reason(error)}") from None
    if whole and text.lstrip().startswith("{\n"):
        return [text]
    return [line for line in text.splitlines() if line.strip()]


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise LanserError(Code.BAD_INPUT, f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise LanserError(Code.BAD_INPUT, "not a JSON object")
    return value
