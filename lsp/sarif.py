"""Diagnostics as SARIF 2.1.0, for the code-scanning pages of forges (standard library only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

LEVELS = {"error": "error", "warning": "warning", "information": "note", "hint": "note"}
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(bundle: Mapping[str, Any], diagnostics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A log with one run. Columns are 1-based and count code points; suppressed findings say that they are."""
    server = bundle["environment"]["server"]
    rules = sorted({item["code"] or "diagnostic" for item in diagnostics})
    driver = {"name": server["name"], "version": server["version"], "rules": [{"id": rule} for rule in rules]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(item) for item in diagnostics],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(item: Mapping[str, Any]) -> dict[str, Any]:
    first, column, last, end = item["range"]
    region = {"startLine": first + 1, "startColumn": column + 1, "endLine": last + 1, "endColumn": end + 1}
    place = {"artifactLocation": {"uri": quote(item["uri"]), "uriBaseId": "%SRCROOT%"}, "region": region}
    result: dict[str, Any] = {
        "ruleId": item["code"] or "diagnostic",
        "level": LEVELS[item["severity"]],
        "message": {"text": item["message"]},
        "locations": [{"physicalLocation": place}],
    }
    if item["suppressed"]:
        result["suppressions"] = [{"kind": "inSource"}]
    return result
