"""Canonical JSON (JCS, RFC 8785) and the two hashes of a bundle (standard library only).

``bundleId`` names what was asked, by whom it was answered, and the answer; ``factsId`` leaves the environment out, so
that host and sandbox agree. Invariant: two bundles whose hashed domains are equal as JSON values have equal ids,
whatever the order of their keys, and nothing volatile (times, pids, absolute paths) is in the domain.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any

SAFE_INTEGER = 2**53 - 1
STABLE_META = ("exit_code", "sorting_keys", "hashing", "truncated", "cursor")
STABLE_PYTHON = ("version",)
FACTS_DOMAIN = ("request", "resolution", "facts", "edits")


def jcs(value: Any) -> bytes:
    """``value`` in the JSON Canonicalization Scheme. ``ValueError`` for what I-JSON cannot carry."""
    return _write(value).encode("utf-8")


def digest(value: Any) -> str:
    """``sha256:`` and 64 hex digits over the canonical form."""
    return digest_bytes(jcs(value))


def digest_bytes(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def hashed_domain(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a bundle that ``bundleId`` names."""
    environment = dict(bundle["environment"])
    python = environment.get("python") or {}
    environment["python"] = {key: python.get(key) for key in STABLE_PYTHON}
    domain = {key: bundle.get(key) for key in FACTS_DOMAIN}
    domain["environment"] = environment
    domain["capabilities"] = bundle.get("capabilities")
    domain["meta"] = {key: bundle["meta"].get(key) for key in STABLE_META}
    return domain


def bundle_id(bundle: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical hashed domain."""
    return digest(hashed_domain(bundle))


def facts_id(bundle: Mapping[str, Any]) -> str:
    """SHA-256 over request, resolution, facts and edits alone."""
    return digest({key: bundle.get(key) for key in FACTS_DOMAIN})


def ids(bundle: Mapping[str, Any]) -> tuple[str, str]:
    """``bundleId`` and ``factsId`` in one go: the parts that they share are written once."""
    domain = hashed_domain(bundle)
    parts = {key: _write(value) for key, value in domain.items()}
    return _joined(parts), _joined({key: parts[key] for key in FACTS_DOMAIN})


def _joined(parts: Mapping[str, str]) -> str:
    return digest_bytes(("{" + ",".join(f'"{key}":{parts[key]}' for key in sorted(parts)) + "}").encode())


def _write(value: Any) -> str:
    match value:
        case str():
            return _string(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return _integer(value)
        case float():
            return number(value)
        case dict() | Mapping():
            return _object(value)
        case list() | tuple():
            return f"[{','.join([_write(item) for item in value])}]"
        case _:
            raise ValueError(f"not a JSON value: {type(value).__name__}")


def _string(text: str) -> str:
    if not text.isascii() and any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        raise ValueError("a lone surrogate has no canonical form")
    # Python escapes exactly what RFC 8785 asks for, apart from U+007F, which both leave as it is.
    return encode_basestring(text)


def _integer(value: int) -> str:
    if abs(value) > SAFE_INTEGER:
        raise ValueError(f"{value} is not exact as a double")
    return str(value)


def _object(value: Mapping[Any, Any]) -> str:
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"an object key must be a string, not {key!r}")
    # Code points and UTF-16 units sort alike as long as no key leaves ASCII.
    plain = all(map(str.isascii, value))
    keys = sorted(value) if plain else sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    return "{" + ",".join([f"{_string(key)}:{_write(value[key])}" for key in keys]) + "}"


def number(value: float) -> str:
    """A double as ECMAScript's ``Number::toString`` writes it (RFC 8785, section 3.2.2.3)."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    if value == 0:
        return "0"
    sign, digits, point = _shortest(value)
    if 0 < point <= 21:
        whole = digits.ljust(point, "0")
        text = whole[:point] + (f".{whole[point:]}" if len(whole) > point else "")
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{fraction}e{point - 1:+d}"
    return sign + text


def _shortest(value: float) -> tuple[str, str, int]:
    """Sign, shortest round-trip digits, and the place of the decimal point (value = 0.digits * 10**point)."""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    raw = whole + fraction
    point = len(whole) + int(exponent or 0)
    stripped = raw.lstrip("0")
    point -= len(raw) - len(stripped)
    return ("-" if value < 0 else "", stripped.rstrip("0") or "0", point)
