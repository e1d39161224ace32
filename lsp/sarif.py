"""Diagnostics as SARIF 2.1.0, for the code-scanning pages of forges (standard library only).

Invariant: a finding's fingerprint depends on its file, rule and message, and on how many like it stand above, so that
it stays the same finding when its lines move.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

LEVELS = {"error": "error", "warning": "warning", "information": "note", "hint": "note"}
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FINGERPRINT = "lanser/v1"
UNNAMED = "diagnostic"
"""The rule of a finding to which its server gives no code."""

Item = Mapping[str, Any]


def sarif(bundle: Mapping[str, Any], diagnostics: Sequence[Item]) -> dict[str, Any]:
    """A log with one run. Columns are 1-based and count code points; suppressed findings say that they are, files that
    could not be read are notifications.
    """
    server = bundle["environment"]["server"]
    rules = sorted({item["code"] or UNNAMED for item in diagnostics})
    described = [{"id": rule, "shortDescription": {"text": f"{server['name']}: {rule}"}} for rule in rules]
    driver = {"name": server["name"], **({"version": server["version"]} if server["version"] else {})}
    alike: Counter[tuple[str, ...]] = Counter()
    run = {
        "tool": {"driver": {**driver, "rules": described}},
        "automationDetails": {"id": "lanser/"},
        "invocations": [_invocation(bundle["facts"]["targets"]["unreadable"])],
        "columnKind": "unicodeCodePoints",
        "results": [_result(item, rules, alike) for item in diagnostics],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _invocation(unreadable: Sequence[str]) -> dict[str, Any]:
    notes = [
        {
            "level": "warning",
            "message": {"text": f"{path} cannot be read as text: it was not checked"},
            "locations": [{"physicalLocation": {"artifactLocation": _artifact(path)}}],
        }
        for path in unreadable
    ]
    return {"executionSuccessful": True, "toolExecutionNotifications": notes}


def _artifact(path: str) -> dict[str, str]:
    return {"uri": quote(path), "uriBaseId": "%SRCROOT%"}


def _result(item: Item, rules: Sequence[str], alike: Counter[tuple[str, ...]]) -> dict[str, Any]:
    first, column, last, end = item["range"]
    region = {"startLine": first + 1, "startColumn": column + 1, "endLine": last + 1, "endColumn": end + 1}
    rule = item["code"] or UNNAMED
    result: dict[str, Any] = {
        "ruleId": rule,
        "ruleIndex": rules.index(rule),
        "level": LEVELS[item["severity"]],
        "message": {"text": item["message"] or rule},
        "locations": [{"physicalLocation": {"artifactLocation": _artifact(item["uri"]), "region": region}}],
        "partialFingerprints": {FINGERPRINT: _fingerprint(item["uri"], rule, item["message"], alike)},
    }
    if item["suppressed"]:
        result["suppressions"] = [{"kind": "inSource"}]
    return result


def _fingerprint(uri: str, rule: str, message: str, alike: Counter[tuple[str, ...]]) -> str:
    key = (uri, rule, message)
    alike[key] += 1
    whole = "\0".join((*key, str(alike[key])))
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()
