"""Texts for a context window: caps that count what they cut, and fences that cannot be broken out of."""

from __future__ import annotations

from collections.abc import Callable


def cap(text: str, limit: int) -> str:
    """At most about ``limit`` characters: head and tail, with the count of what was cut between them."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return f"{text[:head]}\n[{len(text) - limit} characters cut]\n{text[len(text) - tail :]}"


def fit(text: str, budget: int, count: Callable[[str], int]) -> str:
    """The longest of the capped forms of ``text`` that :func:`cap` gives in halving steps which ``count`` puts within
    ``budget`` tokens. Below 16 characters the text is given up: the note of what was cut is all that is left.
    """
    if count(text) <= budget:
        return text
    low, high = 0, len(text)
    while high - low > max(8, high // 16):
        middle = (low + high) // 2
        low, high = (middle, high) if count(cap(text, middle)) <= budget else (low, middle)
    return cap(text, low) if low else f"[{len(text)} characters cut]"


def fence(text: str, info: str = "") -> str:
    """``text`` as a fenced block that it cannot break out of: the fence is longer than any run of backticks in it."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{info}\n{text}\n{ticks}"
