"""The diff of trees: whatever two trees are, the patch between them carries one into the other, also through git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.grading.diff import diff
from sandbox.grading.patch import PatchError, apply, parse
from sandbox.grading.tree import Entry, Tree, manifest, read_tree, write_tree

LINES = st.sampled_from(
    ["a", "b", "", "diff --git a/x b/x", "--- a/x", "+++ b/x", "@@ -1 +1 @@", "\\ No", "ü\r", "\x0b\x0c", "-", "+ "]
)
TEXT = (
    st.lists(LINES, max_size=12)
    .flatmap(lambda rows: st.sampled_from(["\n".join(rows), "\n".join(rows) + "\n"]))
    .map(str.encode)
)
BYTES = st.one_of(TEXT, TEXT, st.binary(max_size=40), st.binary(min_size=80, max_size=200))
PLAIN = st.builds(Entry, st.sampled_from(["f", "x"]), BYTES)
LINK = st.builds(Entry, st.just("l"), st.sampled_from([b"a", b"../up", b"deep/er"]))
NAMES = st.sampled_from(
    ["a", "b c", "na\nme", 'qu"ote', "back\\slash", "ü", "\udcff", "d/e", "d/ b/d", "d/f g/h", "tab\tbed", "e b/e", " "]
)
TREES = st.dictionaries(NAMES, st.one_of(PLAIN, PLAIN, LINK), max_size=6)


@given(TREES, TREES)
@settings(max_examples=150)
def test_a_patch_carries_one_tree_into_the_other(before: Tree, after: Tree) -> None:
    patch = diff(before, after)
    assert apply(before, patch) == after
    assert (patch == "") == (before == after)
    assert {change.path for change in parse(patch)} == {
        name for name in {*before, *after} if before.get(name) != after.get(name)
    }


@given(st.lists(LINES, min_size=20, max_size=60), st.data())
@settings(max_examples=60)
def test_far_apart_changes_of_a_long_file_survive(rows: list[str], data: st.DataObject) -> None:
    others = list(rows)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(others) - 1))
        others[at : at + data.draw(st.integers(0, 2))] = data.draw(st.lists(LINES, max_size=2))
    before = {"m.py": Entry("f", "\n".join(rows).encode())}
    after = {"m.py": Entry("f", "\n".join(others).encode())}
    assert apply(before, diff(before, after)) == after


@pytest.mark.parametrize("seed", range(4))
def test_git_itself_reads_the_patch(tmp_path: Path, seed: int) -> None:
    before: dict[str, Entry] = {
        "keep.txt": Entry("f", b"same\n"), "old.py": Entry("f", b"x = 1\ny = 2"), "mode.sh": Entry("f", b"echo\n"),
        "bin": Entry("f", bytes(range(256))), "gone/deep.txt": Entry("f", b"bye\n"), "link": Entry("l", b"keep.txt"),
    }  # fmt: skip
    after: dict[str, Entry] = {
        "keep.txt": Entry("f", b"same\n"), "old.py": Entry("f", b"x = 1\ny = %d\n" % seed),
        "mode.sh": Entry("x", b"echo\n"),
        "bin": Entry("f", bytes(range(255, -1, -1)) * (seed + 1)),
        "sp ace/na\nme \xfc": Entry("f", b"" if seed % 2 else b"odd"),
        "link": Entry("f", b"now a file\n"), "new.bin": Entry("x", b"\0\1\2"),
    }  # fmt: skip
    write_tree(before, tmp_path / "tree")
    patch = diff(before, after)
    command = ["git", "apply", "--whitespace=nowarn", "-"]
    done = subprocess.run(command, cwd=tmp_path / "tree", input=patch.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert read_tree(tmp_path / "tree") == after


@given(TREES)
@settings(max_examples=40)
def test_a_tree_written_and_read_again_is_the_same(tree: Tree) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_tree(tree, Path(folder) / "t")
        again = read_tree(Path(folder) / "t") if tree else {}
    assert again == tree
    assert manifest(again) == manifest(tree)


GIT_PATCH = """\
diff --git a/src/old name.py b/src/new name.py
similarity index 90%
rename from src/old name.py
rename to src/new name.py
index 1234567..89abcde 100644
--- a/src/old name.py\t
+++ b/src/new name.py\t
@@ -1,3 +1,3 @@ def f():
 one

-two
+three
"""


def test_a_rename_by_git_is_understood() -> None:
    tree = {"src/old name.py": Entry("x", b"one\n\ntwo\n"), "other": Entry("f", b"")}
    assert apply(tree, GIT_PATCH) == {"src/new name.py": Entry("x", b"one\n\nthree\n"), "other": Entry("f", b"")}


def test_a_plain_unified_diff_with_a_preamble_is_understood() -> None:
    text = "From: somebody\n\n--- a/m.py\n+++ b/m.py\n@@ -1 +1,2 @@\n a\n+b\n"
    assert apply({"m.py": Entry("f", b"a\n")}, text) == {"m.py": Entry("f", b"a\nb\n")}


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ("--- a/m\n+++ b/m\n@@ -1 +1 @@\n-other\n+new\n", "does not fit"),
        ("--- a/m\n+++ b/m\n@@ -1,2 +1 @@\n-a\n", "ends early"),
        ("--- a/m\n+++ b/m\n@@ -1,2 +1 @@\n-a\n*b\n", "begins with"),
        ("--- a/none\n+++ b/none\n@@ -1 +1 @@\n-a\n+b\n", "no such file"),
        ("--- /dev/null\n+++ b/m\n@@ -0,0 +1 @@\n+b\n", "is there already"),
        ("--- /dev/null\n+++ b/../up\n@@ -0,0 +1 @@\n+b\n", "not a path inside"),
        ("--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+b\n", "not a path inside"),
        ("--- /dev/null\n+++ b//etc/x\n@@ -0,0 +1 @@\n+b\n", "not a path inside"),
        ("--- /dev/null\n+++ b/m/under\n@@ -0,0 +1 @@\n+b\n", "is a file"),
        ("diff --git a/m b/m\nindex 1..2\nBinary files a/m and b/m differ\n", "does not carry"),
        ("diff --git a/m b/m\nold mode 100644\nnew mode 160000\n", "unknown file mode"),
        ("diff --git a/m b/m\ndeleted file mode 100644\n", "leaves 2 bytes"),
        ("diff --git a/m b/m\n--- a/m\n+++ b/other\n@@ -1 +1 @@\n-a\n+b\n", "names another file"),
        ("a line of prose", "names no file"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_with_its_reason(patch: str, says: str) -> None:
    with pytest.raises(PatchError, match=says):
        apply({"m": Entry("f", b"a\n")}, patch)
