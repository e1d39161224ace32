"""Text files survive edits byte for byte; manifests name trees; frames and caps keep their counts."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import textfile, tree, wire
from sandbox.memory import MemoryBackend
from sandbox.output import Capped
from sandbox.protocol import Spec, tree_hash

LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=12)
TEXT = st.builds(
    lambda lines, last: "".join(a + b for a, b in lines) + last,
    st.lists(st.tuples(LINE, st.sampled_from(["\n", "\r\n"])), max_size=8),
    LINE,
)
NAME = st.text(st.sampled_from("abc .-'\"\n\u00fc\\"), min_size=1, max_size=6).filter(
    lambda name: name not in (".", "..")
)


@given(st.binary(max_size=200))
def test_any_bytes_come_back_unchanged_when_nothing_is_edited(data: bytes) -> None:
    text, style = textfile.decode(data)
    assert textfile.encode(textfile.restore(textfile.normalise(text), text, style), style) == data


@given(TEXT, TEXT)
def test_line_ends_of_untouched_lines_survive_an_insertion(before: str, added: str) -> None:
    old, style = textfile.decode(before.encode())
    lines = textfile.normalise(old).split("\n")
    new = "\n".join([*lines[:1], *textfile.normalise(added).split("\n"), *lines[1:]])
    restored = textfile.restore(new, old, style)
    assert textfile.normalise(restored) == textfile.normalise(new)
    first = old.split("\n")[0]
    assert restored.startswith(first.rstrip("\r") if "\r\n" not in old else first[: len(first.rstrip("\r"))])


@given(st.dictionaries(NAME, st.binary(max_size=50), max_size=6))
@settings(max_examples=40)
def test_transfer_is_a_round_trip_and_the_manifest_names_it(files: dict[str, bytes]) -> None:
    async def play() -> tuple[dict[str, bytes], dict[str, str]]:
        backend = MemoryBackend()
        box = await backend.files({})
        for name, data in files.items():
            await box.write(f"d/{name}", data)
        back = {name: await box.read(f"d/{name}") for name in files}
        listed = await box.manifest()
        await backend.close()
        return back, listed

    back, listed = asyncio.run(play())
    assert back == files
    shown = {name for name in files if not name.endswith(tree.IGNORED_SUFFIXES)}
    assert set(listed) == {f"d/{name}" for name in shown}
    import hashlib

    assert all(listed[f"d/{name}"] == f"f:{hashlib.sha256(files[name]).hexdigest()}" for name in shown)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["write", "delete", "lose", "renew"])), max_size=12))
@settings(max_examples=60)
def test_a_manifest_told_in_parts_is_the_whole_one(steps: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listing, listed = tree.Listing(folder), tree.Listed(0, {})
        for count, (name, what) in enumerate(steps):
            path = Path(folder) / name
            if what == "write":
                path.write_text(str(count))
            elif what == "delete":
                path.unlink(missing_ok=True)
            elif what == "renew":
                listing.renew(folder)
            answer = listing.since(listed.number)
            if what != "lose":  # as an answer is that came too late
                listed = listed.told(answer)
                assert listed.manifest == tree.Hasher(folder).manifest()
                assert list(listed.manifest) == sorted(listed.manifest)


@given(st.dictionaries(st.text(min_size=1), st.sampled_from(["f:1", "x:1", "f:2"]), min_size=1))
def test_the_tree_hash_depends_on_content_and_not_on_order(manifest: dict[str, str]) -> None:
    assert tree_hash(dict(reversed(manifest.items()))) == tree_hash(manifest)
    name = next(iter(manifest))
    assert tree_hash({**manifest, name: "l:3"}) != tree_hash(manifest)


def test_the_tree_hash_takes_names_that_are_no_utf_8() -> None:
    assert tree_hash({os.fsdecode(b"\xff"): "f:1"}) != tree_hash({os.fsdecode(b"\xfe"): "f:1"})


def test_a_copy_has_contents_modes_links_and_times_and_shares_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    tree.write_file(str(source), "x/run.sh", b"#!", executable=True)
    (source / "x/link").symlink_to("run.sh")
    (source / "empty").mkdir()
    (source / ".git").mkdir()
    (source / ".git/HEAD").write_text("ref")
    tree.copy(str(source), str(target))
    assert tree.Hasher(str(source)).manifest() == tree.Hasher(str(target)).manifest()
    assert (target / "empty").is_dir() and (target / ".git/HEAD").read_text() == "ref"
    assert (target / "x/run.sh").stat().st_mtime_ns == (source / "x/run.sh").stat().st_mtime_ns
    (target / "x/run.sh").write_bytes(b"changed")
    assert (source / "x/run.sh").read_bytes() == b"#!"


def test_the_hash_of_an_unchanged_file_is_remembered(tmp_path: Path) -> None:
    old = tmp_path / "old.txt"
    old.write_text("1")
    hasher = tree.Hasher(str(tmp_path))
    first = hasher.manifest()
    os.utime(old, ns=(1, 1))
    assert hasher.manifest() == first


@pytest.mark.parametrize("path", ["..", "../x", "/etc/passwd", "a/../../x", "link/x", "a\0b"])
def test_a_path_outside_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(PermissionError):
        tree.inside(str(tmp_path), path)


def test_remove_takes_locked_folders(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "x").touch()
    folder.chmod(0)
    folder.parent.chmod(0)
    tree.remove(str(tmp_path / "deep"))
    assert not (tmp_path / "deep").exists()


@given(st.lists(st.text(max_size=40), max_size=12), st.integers(1, 60))
def test_capped_output_keeps_both_ends_and_counts_every_character(pieces: list[str], limit: int) -> None:
    whole = "".join(pieces).encode("utf-8", "replace").decode()
    capped = Capped(limit)
    for piece in pieces:
        capped.feed(piece.encode("utf-8", "replace"))
    text = capped.text()
    if len(whole) <= limit:
        assert (text, capped.cut) == (whole, 0)
    else:
        head, tail = limit - limit // 2, limit // 2
        assert text.startswith(whole[:head]) and text.endswith(whole[len(whole) - tail :])
        assert capped.cut == len(whole) - limit


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none())))
def test_a_frame_is_a_round_trip(message: dict[str, object]) -> None:
    frame = wire.pack({**message, "name": os.fsdecode(b"\xff")})
    head, body = frame[: wire.HEAD], frame[wire.HEAD :]
    assert wire.size(head) == len(body)
    assert wire.unpack(body) == {**message, "name": "\udcff"}


def test_a_stream_of_something_else_is_told_apart() -> None:
    with pytest.raises(wire.WireError, match="something else"):
        wire.size(b"HTTP")


def test_the_memory_double_hashes_what_is_there_and_not_what_was_copied(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("y = 1\n")

    async def play() -> list[tuple[str, str]]:
        backend = MemoryBackend()
        box = await backend.open(Spec(tree=tmp_path))
        seen = [await box.manifest()]
        await box.write("a.py", b"x = 2\n")
        seen.append(await box.manifest())
        await box.edit(command="str_replace", path="b.py", old_str="1", new_str="2")
        seen.append(await box.manifest())
        await backend.close()
        return [(manifest["a.py"], manifest["b.py"]) for manifest in seen]

    first, second, third = asyncio.run(play())
    listed = tree.Hasher(str(tmp_path)).manifest()
    assert first == (listed["a.py"], listed["b.py"])
    assert second[0] != first[0] and second[1] == first[1]
    assert third[0] == second[0] and third[1] != second[1]


def test_the_memory_double_copies_its_tree_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")

    async def play() -> tuple[int | None, bytes]:
        backend = MemoryBackend()
        box = await backend.open(Spec(tree=tmp_path))
        ran = await box.run("touch /workspace/b")
        assert (await box.edit(command="str_replace", path="a.py", old_str="1", new_str="2")).ok
        data = await box.read("a.py")
        await backend.close()
        return ran.exit_code, data

    assert asyncio.run(play()) == (126, b"x = 2\n")
    assert (tmp_path / "a.py").read_text() == "x = 1\n"
