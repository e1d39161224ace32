"""The same questions in a sandbox and on the host have the same ``factsId``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lsp.bundle import verify
from lsp.inside import Inside
from sandbox.protocol import Backend, Spec

A = """class Dog:
    def bark(self) -> str:
        return 'é😀'


def walk(dog: Dog) -> str:
    missing: int = 'x'  # type: ignore
    return dog.bark()
"""
B = "from pkg.a import Dog, walk\n\nsound: str = walk(Dog())\nlength: str = len(sound)\n"
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("diag", {}),
    ("def", {"selector": "pkg/b.py@L3:C14"}),
    ("def", {"selector": "pkg/b.py@L4:C15"}),
    ("refs", {"selector": "py://pkg.a#Dog.bark"}),
    ("hover", {"selector": "py://pkg.a#walk"}),
    ("locate", {"selector": "ast://[module=pkg.a]/[class=Dog]/[def=bark]"}),
    ("locate", {"selector": 'anchor://pkg/a.py#"return%20dog.bark()"'}),
    ("symbols", {"path": "pkg/a.py"}),
    ("rename", {"selector": "py://pkg.a#walk", "name": "stroll"}),
    ("def", {"selector": "py://pkg.a#nothing"}),
    ("def", {"selector": "../outside.py@L1:C1"}),
]


def _backend(name: str) -> Backend:
    if name == "docker":
        from sandbox.docker import DockerBackend

        return DockerBackend()
    from sandbox.local import LocalBackend

    return LocalBackend()


@pytest.mark.parametrize("backend", ["local", pytest.param("docker", marks=pytest.mark.docker)])
def test_a_sandbox_gives_the_facts_that_the_host_gives(tmp_path: Path, backend: str) -> None:
    (tmp_path / "pkg").mkdir()
    for name, text in (("__init__", ""), ("a", A), ("b", B)):
        (tmp_path / f"pkg/{name}.py").write_text(text)

    async def inside() -> list[dict[str, Any]]:
        made = _backend(backend)
        try:
            box = await made.open(Spec(tree=tmp_path))
            try:
                return [await box.lsp(verb, **args) for verb, args in ASKED]
            finally:
                await box.close()
        finally:
            await made.close()

    async def outside() -> list[dict[str, Any]]:
        host = Inside(tmp_path, extra_paths=())
        found = [await host.ask(verb, **args) for verb, args in ASKED]
        await host.close()
        return found

    there, here = asyncio.run(inside()), asyncio.run(outside())
    for (verb, args), mine, theirs in zip(ASKED, here, there, strict=True):
        verify(theirs)
        assert theirs["factsId"] == mine["factsId"], (verb, args, mine["error"], theirs["error"])
        assert theirs["error"] == mine["error"]
    assert there[0]["facts"]["count"] == 2 and there[0]["facts"]["suppressed"] == 1
    assert [bundle["status"] for bundle in there] == ["ok"] * 9 + ["error"] * 2
