"""The difference of two trees as a patch in git's format: a pure function of bytes.

New and deleted files, changed modes, links, binary files, files without a final newline and names with odd characters
are all carried, so that ``apply(before, diff(before, after)) == after`` for every pair of trees (a property test), and
``git apply`` reads it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher

from sandbox.grading.gitformat import MODES, blob_id, encode_literal, quote
from sandbox.grading.tree import Entry, Tree

CONTEXT = 3
EFFORT = 40_000_000
"""Product of line counts above which the changed middle of a file is replaced as a whole instead of being matched."""

Opcode = tuple[str, int, int, int, int]


def diff(before: Tree, after: Tree) -> str:
    """The patch that turns ``before`` into ``after``; empty when they are equal."""
    changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    return "".join("".join(_sections(path, before.get(path), after.get(path))) for path in changed)


def _sections(path: str, old: Entry | None, new: Entry | None) -> Iterator[str]:
    # A link that becomes a file (or the reverse) is a deletion and a creation, as git has it.
    if old and new and (old.mode == "l") != (new.mode == "l"):
        yield from _section(path, old, None)
        yield from _section(path, None, new)
    else:
        yield from _section(path, old, new)


def _section(path: str, old: Entry | None, new: Entry | None) -> Iterator[str]:
    a, b = quote(f"a/{path}"), quote(f"b/{path}")
    yield f"diff --git {a} {b}\n"
    yield from _modes(old, new)
    before, after = (old.data if old else b""), (new.data if new else b"")
    if before == after:
        return
    lines, others = _lines(before), _lines(after)
    binary = lines is None or others is None
    width = 40 if binary else 12
    yield f"index {_blob(old, width)}..{_blob(new, width)}{_same_mode(old, new)}\n"
    if lines is None or others is None:
        yield "GIT binary patch\n"
        yield from (f"{line}\n" for line in encode_literal(after))
        return
    yield f"--- {_padded(a) if old else '/dev/null'}\n"
    yield f"+++ {_padded(b) if new else '/dev/null'}\n"
    yield from _hunks(lines, others)


def _modes(old: Entry | None, new: Entry | None) -> Iterator[str]:
    if new and not old:
        yield f"new file mode {MODES[new.mode]}\n"
    elif old and not new:
        yield f"deleted file mode {MODES[old.mode]}\n"
    elif old and new and old.mode != new.mode:
        yield f"old mode {MODES[old.mode]}\nnew mode {MODES[new.mode]}\n"


def _blob(entry: Entry | None, width: int) -> str:
    return (blob_id(entry.data) if entry else "0" * 40)[:width]


def _same_mode(old: Entry | None, new: Entry | None) -> str:
    return f" {MODES[old.mode]}" if old and new and old.mode == new.mode else ""


def _padded(name: str) -> str:
    """git ends an unquoted name that holds a space with a tab, so that a reader finds its end."""
    return name + "\t" if " " in name and not name.startswith('"') else name


def _lines(data: bytes) -> list[str] | None:
    """Lines with their newlines; ``None`` for what no text patch can carry."""
    if b"\0" in data:
        return None
    try:
        parts = data.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _hunks(old: list[str], new: list[str]) -> Iterator[str]:
    for group in _grouped(_opcodes(old, new)):
        (_, a, _, b, _), (_, _, a_end, _, b_end) = group[0], group[-1]
        yield f"@@ -{_range(a, a_end)} +{_range(b, b_end)} @@\n"
        for tag, i, i_end, j, j_end in group:
            if tag == "equal":
                yield from (_line(" ", line) for line in old[i:i_end])
            else:
                yield from (_line("-", line) for line in old[i:i_end])
                yield from (_line("+", line) for line in new[j:j_end])


def _range(start: int, end: int) -> str:
    count = end - start
    return f"{start + 1}" if count == 1 else f"{start + 1 if count else start},{count}"


def _line(sign: str, line: str) -> str:
    return sign + line if line.endswith("\n") else f"{sign}{line}\n\\ No newline at end of file\n"


def _opcodes(old: list[str], new: list[str]) -> list[Opcode]:
    """Opcodes with the common head and tail taken off first: matching is quadratic in what is left."""
    head = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    most = min(len(old), len(new)) - head
    tail = next((at for at in range(most) if old[-1 - at] != new[-1 - at]), most)
    a, b = old[head : len(old) - tail], new[head : len(new) - tail]
    codes: list[Opcode] = [("equal", 0, head, 0, head)] if head else []
    if len(a) * len(b) > EFFORT:
        codes.append(("replace", head, head + len(a), head, head + len(b)))
    else:
        matched = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
        codes += [(tag, i + head, i_end + head, j + head, j_end + head) for tag, i, i_end, j, j_end in matched]
    if tail:
        codes.append(("equal", len(old) - tail, len(old), len(new) - tail, len(new)))
    return codes


def _grouped(codes: list[Opcode]) -> Iterator[list[Opcode]]:
    """Opcodes in hunks, with at most ``CONTEXT`` equal lines around each change."""
    group: list[Opcode] = []
    for at, (tag, i, i_end, j, j_end) in enumerate(codes):
        if tag != "equal":
            group.append((tag, i, i_end, j, j_end))
            continue
        first, last = at == 0, at == len(codes) - 1
        if not first and not last and i_end - i <= 2 * CONTEXT:
            group.append((tag, i, i_end, j, j_end))
            continue
        if not first:
            group.append((tag, i, min(i_end, i + CONTEXT), j, min(j_end, j + CONTEXT)))
            yield group
            group = []
        if not last:
            start = max(i, i_end - CONTEXT)
            group.append((tag, start, i_end, max(j, j_end - CONTEXT), j_end))
    if any(code[0] != "equal" for code in group):
        yield group
