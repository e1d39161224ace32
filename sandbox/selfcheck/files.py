"""Behaviours of file transfer, manifests and the editor."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sandbox import tree
from sandbox.protocol import Sandbox
from sandbox.selfcheck.registry import FILES, Broken, behaviour, expect, make_tree, shell


@behaviour
async def files_go_in_and_come_out_byte_for_byte(box: Sandbox) -> None:
    data = bytes(range(256)) * 4096 + b"\r\n\n\r"
    await box.write("new/deep/blob.bin", data)
    expect(await box.read("new/deep/blob.bin") == data, "other bytes")
    expect((out := await shell(box, "wc -c < new/deep/blob.bin; rm -r new")).strip() == str(len(data)), out)


@behaviour
async def a_file_of_4_megabytes_is_transferred(box: Sandbox) -> None:
    data = b"\0\xff\n\r" * (1 << 20)
    await box.write("large.bin", data)
    expect(await box.read("/workspace/large.bin") == data, "other bytes")
    await shell(box, "rm large.bin")


@behaviour
async def a_file_written_as_executable_runs(box: Sandbox) -> None:
    await box.write("tool", b"#!/bin/sh\necho tool ran\n", executable=True)
    expect((out := await shell(box, "./tool && ./run.sh && rm tool")) == "tool ran\nran", out)


@behaviour
async def an_absent_file_is_file_not_found(box: Sandbox) -> None:
    try:
        data = await box.read("absent.txt")
    except FileNotFoundError:
        return
    raise Broken(f"saw {data!r}")


@behaviour
async def paths_outside_the_workspace_are_refused(box: Sandbox) -> None:
    await shell(box, "ln -s /etc/passwd link; ln -s /tmp door")
    for path in ("../etc/passwd", "/etc/passwd", "link", "door/x"):
        for call in (box.read(path), box.write(path, b"x")):
            try:
                await call
            except PermissionError:
                continue
            raise Broken(f"{path} was let through")
    await shell(box, "rm link door")


@behaviour
async def odd_file_names_are_carried(box: Sandbox) -> None:
    names = [f"odd/{name}" for name in ("with space.txt", "-dash", "new\nline", "quote'\"", "ünïcode", "back\\slash")]
    for name in names:
        await box.write(name, name.encode())
    await shell(box, r"printf x > $'odd/no\377utf8'")
    listed = await box.manifest()
    raw = {name.encode(errors="surrogateescape") for name in listed}
    expect({*(name.encode() for name in names), b"odd/no\xffutf8"} < raw, sorted(raw))
    for name in names:
        expect(await box.read(name) == name.encode(), name)
    await shell(box, "rm -r odd")


@behaviour
async def the_manifest_is_the_trees_own(box: Sandbox) -> None:
    with tempfile.TemporaryDirectory() as folder:
        own = tree.Hasher(str(make_tree(Path(folder)))).manifest()
    expect((listed := await box.manifest()) == own, {**listed, "own": own})


@behaviour
async def the_manifest_sees_a_change_of_equal_size_at_once(box: Sandbox) -> None:
    seen = set[str]()
    for text in (b"aaaa", b"bbbb", b"cccc", b"dddd"):
        await box.write("same.txt", text)
        seen.add((await box.manifest())["same.txt"])
    await shell(box, "rm same.txt")
    expect(len(seen) == 4, seen)


@behaviour
async def the_manifest_tells_modes_and_links_and_leaves_out_caches(box: Sandbox) -> None:
    await shell(box, "ln -s crlf.txt soft; mkdir -p c/__pycache__ c/.git; mkfifo c/fifo")
    await shell(box, "touch c/__pycache__/a.pyc c/.git/x c/y.pyc c/kept")
    listed = await box.manifest()
    await shell(box, "rm -r soft c")
    kinds = {name: value[0] for name, value in listed.items()}
    expect((kinds["soft"], kinds["run.sh"], kinds["crlf.txt"]) == ("l", "x", "f"), kinds)
    expect([name for name in listed if name.startswith("c/")] == ["c/kept"], sorted(listed))


# -- the editor ------------------------------------------------------------------------------------------------------


@behaviour
async def the_editor_changes_a_file_and_undoes_it(box: Sandbox) -> None:
    change = {"command": "str_replace", "path": "pkg/answer.py", "old_str": "return 41", "new_str": "return 42"}
    expect((result := await box.edit(**change)).ok and "/workspace/pkg/answer.py" in result.output, result)
    expect((data := await box.read("pkg/answer.py")) == b"def answer():\n    return 42\n", data)
    expect((result := await box.edit(command="undo_edit", path="/workspace/pkg/answer.py")).ok, result)
    expect((data := await box.read("pkg/answer.py")) == FILES["pkg/answer.py"], data)


@behaviour
async def the_editor_keeps_line_ends_and_mode(box: Sandbox) -> None:
    await shell(box, "cp -p run.sh keep.sh; cp crlf.txt keep.txt")
    await box.edit(command="insert", path="keep.sh", insert_line=2, new_str="echo more")
    await box.edit(command="str_replace", path="keep.txt", old_str="one", new_str="eins")
    expect((data := await box.read("keep.txt")) == b"eins\r\ntwo\r\n", data)
    expect((out := await shell(box, "./keep.sh; rm keep.sh keep.txt")) == "ran\nmore", out)


@behaviour
async def the_editor_refuses_paths_outside_the_workspace(box: Sandbox) -> None:
    for path in ("/etc/passwd", "../etc/passwd", "/proc/1/environ"):
        expect(not (result := await box.edit(command="view", path=path)).ok, result)


@behaviour
async def a_bad_editor_call_is_a_refusal(box: Sandbox) -> None:
    for call in (
        {},
        {"command": "fly", "path": "crlf.txt"},
        {"command": "view", "path": 3},
        {"command": "view", "path": "a\0b"},
    ):
        expect(not (result := await box.edit(**call)).ok and result.output, (call, result))
