"""A repository of exactly one commit, written without running git.

Author, date, message and configuration are fixed, so the commit's id is a function of the tree: the same row gives
the same ``base_commit`` on every machine. Objects lie in one pack, and no object is there that the tree does not
hold: neither the gold text nor a hidden test can be dug out. Formats: git's documentation of packs, pack indices
(version 2) and the index (version 2).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from functools import lru_cache
from pathlib import Path

from sandbox.grading.tree import Entry, Tree

IDENTITY = "RepoDojo <tasks@repodojo.invalid> 1767225600 +0000"
MESSAGE = "base\n"
CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = false\n"
MODES = {"f": b"100644", "x": b"100755", "l": b"120000"}
TYPES = {b"commit": 1, b"tree": 2, b"blob": 3}

Object = tuple[bytes, bytes, bytes]
"""Id (20 bytes), type, content."""


def commit_id(tree: Tree) -> str:
    """The id of the only commit, 40 hex digits."""
    return _objects(tree)[0][0].hex()


def write_repository(tree: Tree, folder: Path) -> str:
    """Create ``folder`` (a ``.git``) with the commit of ``tree``, checked out on ``main``; the commit's id."""
    objects = _objects(tree)
    commit = objects[0][0].hex()
    for name in ("objects/pack", "objects/info", "refs/heads", "refs/tags"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "config").write_text(CONFIG)
    (folder / "refs/heads/main").write_text(f"{commit}\n")
    pack, index, name = _pack(objects)
    (folder / f"objects/pack/pack-{name}.pack").write_bytes(pack)
    (folder / f"objects/pack/pack-{name}.idx").write_bytes(index)
    (folder / "index").write_bytes(_index(tree))
    return commit


def _object(kind: bytes, content: bytes) -> Object:
    return hashlib.sha1(b"%s %d\0" % (kind, len(content)) + content, usedforsecurity=False).digest(), kind, content


@lru_cache(maxsize=8192)
def _blob(data: bytes) -> Object:
    return _object(b"blob", data)


def _objects(tree: Tree) -> list[Object]:
    """The commit, then trees and blobs, each once."""
    root, below = _tree(tree)
    text = f"tree {root[0].hex()}\nauthor {IDENTITY}\ncommitter {IDENTITY}\n\n{MESSAGE}"
    return list(dict.fromkeys([_object(b"commit", text.encode()), root, *below]))


def _tree(tree: Tree) -> tuple[Object, list[Object]]:
    """The tree object of one folder, and all objects below it."""
    folders: dict[str, dict[str, Entry]] = {}
    entries: list[tuple[bytes, bytes, bytes]] = []
    below: list[Object] = []
    for path, entry in tree.items():
        name, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(name, {})[rest] = entry
        else:
            below.append(_blob(entry.data))
            entries.append((name.encode(), MODES[entry.mode], below[-1][0]))
    for name, inner in folders.items():
        folder, objects = _tree(inner)
        below += [folder, *objects]
        # git sorts a folder as if its name ended with a slash.
        entries.append((name.encode() + b"/", b"40000", folder[0]))
    body = b"".join(mode + b" " + name.removesuffix(b"/") + b"\0" + sha for name, mode, sha in sorted(entries))
    return _object(b"tree", body), below


@lru_cache(maxsize=8192)
def _packed(item: Object) -> bytes:
    _, kind, content = item
    size = len(content)
    byte, size = TYPES[kind] << 4 | size & 15, size >> 4
    head = bytearray()
    while size:
        head.append(byte | 128)
        byte, size = size & 127, size >> 7
    head.append(byte)
    return bytes(head) + zlib.compress(content, 1)


def _pack(objects: list[Object]) -> tuple[bytes, bytes, str]:
    """The pack, its index, its name."""
    out = bytearray(b"PACK" + struct.pack(">II", 2, len(objects)))
    rows: list[tuple[bytes, int, int]] = []
    for item in objects:
        data = _packed(item)
        rows.append((item[0], zlib.crc32(data), len(out)))
        out += data
    trailer = hashlib.sha1(out, usedforsecurity=False).digest()
    rows.sort()
    fanout = [sum(row[0][0] <= byte for row in rows) for byte in range(256)]
    index = b"\377tOc" + struct.pack(">I256I", 2, *fanout) + b"".join(row[0] for row in rows)
    index += b"".join(struct.pack(">I", row[1]) for row in rows)
    index += b"".join(struct.pack(">I", row[2]) for row in rows) + trailer
    name = hashlib.sha1(b"".join(row[0] for row in rows), usedforsecurity=False).hexdigest()
    return bytes(out) + trailer, index + hashlib.sha1(index, usedforsecurity=False).digest(), name


def _index(tree: Tree) -> bytes:
    """The staging area as after a checkout. Times are left out: git looks at the files once and fills them in."""
    paths = sorted((path.encode(), entry) for path, entry in tree.items())
    out = bytearray(b"DIRC" + struct.pack(">II", 2, len(paths)))
    for path, entry in paths:
        stat = (0, 0, 0, 0, 0, 0, int(MODES[entry.mode], 8), 0, 0, len(entry.data))
        row = struct.pack(">10I20sH", *stat, _blob(entry.data)[0], min(len(path), 0xFFF)) + path
        out += row + b"\0" * (8 - len(row) % 8)
    return bytes(out) + hashlib.sha1(out, usedforsecurity=False).digest()
