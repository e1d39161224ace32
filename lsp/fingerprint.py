"""Fingerprints: winnowed k-grams of text, minhash of tokens, and the ``symbolId`` that names a symbol across edits
(standard library only).

Winnowing after Schleimer, Wilkerson, Aiken 2003 with k = 7, w = 4: two texts that share a run of k + w - 1 characters
share a fingerprint.

``symbolId`` is ``KIND.QUALNAME.PARENTS.SIGNATURE.BODY``, each but the first a short hash, the last a minhash. Two ids
compare as *same* (name and parents equal), *renamed* (another name, but body or signature tell it is this one),
*moved* (same name elsewhere) or *other*. Invariants: lines, white space and comments are not in the id; an edit of
the body changes only its last part.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal
from zlib import crc32

from lsp.symbols import Symbol, tokens

K = 7
WINDOW = 4
PERMUTATIONS = 16
ALIKE = 0.5
"""Share of equal minhash slots above which two bodies are the same one edited."""
_SPACE = re.compile(r"\s+")
_COMMENT = re.compile(r"#[^\n]*")
Relation = Literal["same", "moved", "renamed", "other"]


@lru_cache(maxsize=8192)
def winnow(text: str) -> frozenset[int]:
    """Fingerprints of ``text``, white space left out: k-grams of its UTF-8 bytes."""
    dense = _SPACE.sub("", text)
    data = dense.encode("utf-8", "surrogatepass")
    grams = [crc32(data[i : i + K]) for i in range(max(1, len(data) - K + 1))] if data else []
    return (
        frozenset(min(grams[i : i + WINDOW]) for i in range(max(1, len(grams) - WINDOW + 1))) if grams else frozenset()
    )


def jaccard(left: Iterable[object], right: Iterable[object]) -> float:
    """Jaccard similarity of two collections as sets; 1 for two empty ones."""
    a, b = frozenset(left), frozenset(right)
    return len(a & b) / len(a | b) if a or b else 1.0


def symbol_id(symbol: Symbol) -> str:
    """The structural fingerprint of ``symbol``."""
    signature = " ".join(tokens(symbol.sig_text.replace(symbol.name, "_", 1)))
    parents = "/".join(f"{kind}={name}" for kind, name in symbol.parents)
    body = minhash(tokens(_COMMENT.sub("", symbol.body_text)))
    return f"{symbol.kind}.{_short(symbol.qualname)}.{_short(parents)}.{_short(signature)}.{body}"


def relation(old: str, new: str) -> Relation:
    """What the symbol named ``new`` is to the one named ``old``."""
    kind, name, parents, signature, body = old.split(".")
    kind2, name2, parents2, signature2, body2 = new.split(".")
    if kind != kind2:
        return "other"
    if name == name2:
        return "same"
    if similarity(body, body2) <= ALIKE and not (signature == signature2 and body == body2):
        return "other"
    return "renamed" if parents == parents2 else "moved"


def minhash(words: Sequence[str]) -> str:
    """16 slots of two hex digits: the least hash of the shingles of ``words`` under each permutation."""
    shingles = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
    slots = (min(_hash(f"{seed}:{shingle}") for shingle in shingles) & 0xFF for seed in range(PERMUTATIONS))
    return "".join(f"{slot:02x}" for slot in slots)


def similarity(left: str, right: str) -> float:
    """Share of equal slots of two minhashes."""
    pairs = [(left[i : i + 2], right[i : i + 2]) for i in range(0, len(left), 2)]
    return sum(a == b for a, b in pairs) / len(pairs)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
