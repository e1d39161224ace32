"""What any backend must do, as named behaviours over the :class:`~sandbox.protocol.Sandbox` protocol.

The tests run them over every backend and ``dojo doctor`` prints them. A behaviour gets a sandbox on :data:`FILES` and
raises :class:`Broken` with what it saw. Those that may hurt their sandbox get one of their own; the others share one.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from sandbox import tree
from sandbox.protocol import Backend, ExecResult, Limits, Sandbox, SandboxError, Spec

FILES = {
    "pkg/__init__.py": b"",
    "pkg/answer.py": b"def answer():\n    return 41\n",
    "crlf.txt": b"one\r\ntwo\r\n",
    "run.sh": b"#!/bin/sh\necho ran\n",
}
"""The tree that behaviours are checked on; ``run.sh`` is executable."""
LIMITS = Limits(memory_mb=768, pids=128, output_chars=4_000)

Check = Callable[[Sandbox], Awaitable[None]]


class Broken(Exception):
    """A behaviour does not hold. The message says what was seen instead."""


class Behaviour(NamedTuple):
    name: str
    check: Check
    alone: bool = False
    """It may hurt its sandbox, and is given one of its own."""


class Outcome(NamedTuple):
    name: str
    problem: str
    """Empty when the behaviour holds."""


BEHAVIOURS: list[Behaviour] = []


def behaviour(check: Check) -> Check:
    """List a check under its name, which reads as a sentence."""
    return _add(check, alone=False)


def hurtful(check: Check) -> Check:
    """List a check that needs a sandbox of its own."""
    return _add(check, alone=True)


def _add(check: Check, alone: bool) -> Check:
    BEHAVIOURS.append(Behaviour(check.__name__.replace("_", " "), check, alone))
    return check


def expect(holds: object, seen: object) -> None:
    if not holds:
        raise Broken(f"saw {str(seen)[:400]!r}")


async def shell(box: Sandbox, command: str, timeout_s: float = 20.0) -> str:
    """Output of a command that must succeed, without its last newline."""
    result = await box.run(command, timeout_s)
    expect(result.exit_code == 0, result)
    return result.output.rstrip("\n")


def make_tree(folder: Path) -> Path:
    """Write :data:`FILES` below ``folder``, and return it."""
    for name, data in FILES.items():
        tree.write_file(str(folder), name, data, executable=name.endswith(".sh"))
    return folder


async def check_all(backend: Backend) -> AsyncIterator[Outcome]:
    """Every behaviour's outcome, as it comes. Raises :class:`SandboxError` when no sandbox opens at all."""
    with tempfile.TemporaryDirectory(prefix="repodojo-check-") as folder:
        spec = Spec(tree=make_tree(Path(folder)), limits=LIMITS)
        before = tree.Hasher(folder).manifest()
        shared = await backend.open(spec)
        try:
            for item in BEHAVIOURS:
                box = await backend.open(spec) if item.alone else shared
                yield Outcome(item.name, await problem_of(item, box))
                if item.alone:
                    await box.close()
        finally:
            await shared.close()
        untouched = tree.Hasher(folder).manifest() == before
        yield Outcome("the tree on the host is untouched", "" if untouched else "it was changed")


async def problem_of(item: Behaviour, box: Sandbox) -> str:
    """Why a behaviour does not hold; empty when it does."""
    try:
        await item.check(box)
    except (Broken, SandboxError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


# -- the shell --------------------------------------------------------------------------------------------------------


@behaviour
async def variables_and_folder_live_from_one_command_to_the_next(box: Sandbox) -> None:
    await shell(box, "cd pkg; export A=1; B='x y'; f() { echo $B; }; declare -A M; M[k]=v")
    expect((out := await shell(box, "pwd; echo $A; f; echo ${M[k]}; cd ..")) == "/workspace/pkg\n1\nx y\nv", out)


@behaviour
async def the_exit_code_is_the_commands_own(box: Sandbox) -> None:
    for command, code in (
        ("true", 0),
        ("false", 1),
        ("(exit 42)", 42),
        ("no-such-program", 127),
        ("sh -c 'kill -9 $$'", 137),
    ):
        expect((result := await box.run(command)).exit_code == code, result)


@behaviour
async def both_streams_come_in_the_order_of_writing(box: Sandbox) -> None:
    expect((out := await shell(box, "echo 1; echo 2 >&2; echo 3")) == "1\n2\n3", out)


@behaviour
async def input_is_empty(box: Sandbox) -> None:
    expect((out := await shell(box, "cat; read x || echo end")) == "end", out)


@behaviour
async def long_output_keeps_head_and_tail_and_counts_the_rest(box: Sandbox) -> None:
    result = await box.run("echo first; seq 100000; echo last")
    whole = len("first\nlast\n") + sum(len(str(n)) + 1 for n in range(1, 100_001))
    kept = result.output.split("\n[... ")[0] + result.output.split(" ...]\n")[-1]
    expect(result.output.startswith("first\n1\n") and result.output.endswith("100000\nlast\n"), result.output[-40:])
    expect(result.cut > 0 and len(kept) + result.cut == whole, (len(kept), result.cut, whole))


@behaviour
async def output_that_is_no_text_is_shown_as_text(box: Sandbox) -> None:
    expect((out := await shell(box, r"printf 'a\377b\303\251'")) == "a\ufffdb\u00e9", out)


@behaviour
async def quotes_and_here_documents_arrive_as_written(box: Sandbox) -> None:
    script = "cat <<'EOF'\nit's $HOME \\ \"q\" `x`\n\ttab\nEOF\necho \"a'b\""
    expect((out := await shell(box, script)) == "it's $HOME \\ \"q\" `x`\n\ttab\na'b", out)


@behaviour
async def a_syntax_error_is_a_result(box: Sandbox) -> None:
    expect((result := await box.run("if then (")).exit_code not in (0, None) and result.output, result)
    expect(await shell(box, "echo on") == "on", "no further command")


@behaviour
async def a_command_of_200000_characters_runs(box: Sandbox) -> None:
    expect((out := await shell(box, f"x='{'y' * 200_000}'; echo ${{#x}}")) == "200000", out)


@behaviour
async def a_background_job_does_not_hold_the_command_up(box: Sandbox) -> None:
    result = await box.run("sleep 30 & echo started", 10)
    expect(result.output == "started\n" and not result.timed_out, result)
    expect((out := await shell(box, "kill %1 2>/dev/null || kill $!; echo $?")) == "0", out)


@behaviour
async def exit_ends_the_shell_and_a_new_one_takes_over(box: Sandbox) -> None:
    result = await box.run("echo bye; exit 7")
    expect(result.exit_code == 7 and result.output.startswith("bye\n"), result)
    expect((out := await shell(box, "pwd; echo on")) == "/workspace\non", out)


@behaviour
async def exec_is_followed_to_its_end(box: Sandbox) -> None:
    expect((result := await box.run("exec sh -c 'sleep 0.1; echo done; exit 3'")).exit_code == 3, result)
    expect(result.output.startswith("done\n"), result)
    expect(await shell(box, "echo on") == "on", "no further command")


@behaviour
async def a_closed_output_is_open_again_for_the_next_command(box: Sandbox) -> None:
    await box.run("exec >&- 2>&-")
    await box.run("exec > /dev/null")
    expect((out := await shell(box, "echo on")) == "on", out)


# -- time ------------------------------------------------------------------------------------------------------------


@behaviour
async def a_time_out_kills_the_command_and_all_that_it_started(box: Sandbox) -> None:
    started = asyncio.get_running_loop().time()
    result = await box.run("cd pkg; sleep 61 & setsid sleep 62 & (sleep 63 &) ; echo begun; sleep 64", 1.0)
    took = asyncio.get_running_loop().time() - started
    expect(result.timed_out and result.exit_code is None and result.output.startswith("begun\n"), result)
    expect("timed out" in result.output and took < 15, took)
    # The brackets keep the search from finding itself.
    expect((out := await shell(box, "grep -lz '[s]leep' /proc/[0-9]*/cmdline 2>/dev/null | wc -l")) == "0", out)


@behaviour
async def the_shell_after_a_time_out_stands_in_the_same_folder(box: Sandbox) -> None:
    await box.run("cd /workspace/pkg; sleep 60", 0.3)
    expect((out := await shell(box, "pwd; cd /workspace")) == "/workspace/pkg", out)


@behaviour
async def a_command_that_ignores_signals_is_killed_on_time_out(box: Sandbox) -> None:
    result = await box.run("trap '' TERM INT HUP; while :; do sleep 1; done", 0.5)
    expect(result.timed_out, result)
    expect(await shell(box, "echo on") == "on", "no further command")


@behaviour
async def other_verbs_answer_while_a_command_runs(box: Sandbox) -> None:
    running = asyncio.create_task(box.run("sleep 1; echo slept"))
    await asyncio.sleep(0.1)
    expect("crlf.txt" in await box.manifest() and not running.done(), "the manifest waited for the command")
    expect((result := await running).output == "slept\n", result)


@behaviour
async def a_cancelled_command_is_killed(box: Sandbox) -> None:
    running = asyncio.create_task(box.run("sleep 65", 60))
    await asyncio.sleep(0.3)
    running.cancel()
    await asyncio.wait([running])
    expect((out := await shell(box, "grep -lz '[s]leep' /proc/[0-9]*/cmdline 2>/dev/null | wc -l")) == "0", out)


@behaviour
async def dead_children_are_collected(box: Sandbox) -> None:
    await shell(box, "for i in 1 2 3 4 5; do (sleep 0 & ) ; done; sleep 0.3")
    await shell(box, "true")
    expect((out := await shell(box, "grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l")) == "0", out)


# -- files -----------------------------------------------------------------------------------------------------------


@behaviour
async def files_go_in_and_come_out_byte_for_byte(box: Sandbox) -> None:
    data = bytes(range(256)) * 4096 + b"\r\n\n\r"
    await box.write("new/deep/blob.bin", data)
    expect(await box.read("new/deep/blob.bin") == data, "other bytes")
    expect((out := await shell(box, "wc -c < new/deep/blob.bin; rm -r new")).strip() == str(len(data)), out)


@behaviour
async def a_file_of_16_megabytes_is_transferred(box: Sandbox) -> None:
    data = b"\0\xff\n\r" * (4 << 20)
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
    script = "ln -s crlf.txt soft; mkdir -p c/__pycache__ c/.git; touch c/__pycache__/a.pyc c/.git/x c/y.pyc c/kept; mkfifo c/fifo"
    await shell(box, script)
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


# -- what is seen and what is not --------------------------------------------------------------------------------------


@behaviour
async def python_is_there_and_imports_the_tree(box: Sandbox) -> None:
    script = "cd /tmp; python -c 'import ssl, sqlite3, ctypes; from pkg.answer import answer; print(answer())'; cd /workspace"
    expect((out := await shell(box, script)) == "41", out)


@behaviour
async def the_environment_is_the_same_everywhere(box: Sandbox) -> None:
    wanted = {
        "HOME",
        "LANG",
        "TZ",
        "PATH",
        "PYTHONHASHSEED",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
        "TERM",
        "PAGER",
        "USER",
    }
    names = {line.split("=")[0] for line in (await shell(box, "env")).splitlines()}
    expect(wanted <= names and not names - wanted - {"PWD", "OLDPWD", "SHLVL", "_", "A", "HOSTNAME"}, sorted(names))
    expect((out := await shell(box, "date +%Z; touch $HOME/x && echo home")) == "UTC\nhome", out)


@behaviour
async def nothing_outside_workspace_and_tmp_can_be_written(box: Sandbox) -> None:
    for path in ("/", "/usr", "/etc", "/opt", "/opt/repodojo", "/opt/site", "/dev", "/proc/sys/kernel"):
        expect((result := await box.run(f"touch {path}/.probe 2>/dev/null")).exit_code, (path, result))


@behaviour
async def the_user_is_nobody_special(box: Sandbox) -> None:
    out = await shell(box, "id -u; grep -E 'CapEff|CapPrm|CapBnd|NoNewPrivs' /proc/self/status | cut -f2 | sort -u")
    expect(out.split() == ["1000", "0000000000000000", "1"], out)


@behaviour
async def other_processes_are_not_seen(box: Sandbox) -> None:
    out = await shell(box, "ls /proc | grep -c '^[0-9]'")
    expect(int(out) < 16, f"{out} processes")


@behaviour
async def the_tool_server_is_out_of_reach(box: Sandbox) -> None:
    for path in ("fd/0", "fd/1", "mem", "environ"):
        expect((result := await box.run(f"head -c1 /proc/1/{path} 2>/dev/null")).exit_code, (path, result))
    expect((result := await box.run("echo x > /proc/1/fd/3")).exit_code, result)


@behaviour
async def there_is_no_network_but_itself(box: Sandbox) -> None:
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname(), 2); print('self')\n"
        "for host in ('1.1.1.1', '8.8.8.8'):\n"
        "    try: socket.create_connection((host, 53), 2); print('out')\n"
        "    except OSError: print('no')"
    )
    await box.write("net.py", script.encode())
    expect((out := await shell(box, "python net.py; rm net.py")) == "self\nno\nno", out)


# -- attacks ---------------------------------------------------------------------------------------------------------


async def _goes_on(box: Sandbox) -> None:
    expect(await shell(box, "echo on") == "on", "no further command")


@hurtful
async def killing_every_process_is_survived(box: Sandbox) -> None:
    await box.run("kill -9 -1", 10)
    await box.run("kill -9 1; kill -STOP 1", 10)
    await _goes_on(box)


@hurtful
async def killing_the_shell_is_survived(box: Sandbox) -> None:
    expect((result := await box.run("kill -9 $$")).exit_code == 137, result)
    await _goes_on(box)


@hurtful
async def stopping_the_shell_is_a_time_out(box: Sandbox) -> None:
    expect((result := await box.run("kill -STOP $$", 1.0)).timed_out, result)
    await _goes_on(box)


@hurtful
async def a_fork_bomb_is_held_and_swept_up(box: Sandbox) -> None:
    expect((result := await box.run("b() { b | b & }; b; sleep 30", 2.0)).timed_out, result)
    await _goes_on(box)
    expect(int(out := await shell(box, "ls /proc | grep -c '^[0-9]'")) < 16, f"{out} processes")


@hurtful
async def a_flood_of_output_is_swallowed(box: Sandbox) -> None:
    result: ExecResult = await box.run("head -c 200000000 /dev/zero | tr '\\0' 'x'; echo; echo end", 60)
    expect(result.exit_code == 0 and result.cut > 190_000_000 and result.output.endswith("end\n"), result.cut)


@hurtful
async def one_process_cannot_have_all_memory(box: Sandbox) -> None:
    expect((result := await box.run("python -c 'x = bytearray(2 << 30); print(1)'")).exit_code, result)
    await _goes_on(box)


@hurtful
async def the_disk_is_limited(box: Sandbox) -> None:
    expect(
        (result := await box.run("fallocate -l 3G big 2>/dev/null || head -c 3G /dev/zero > big", 60)).exit_code, result
    )
    await shell(box, "rm -f big")


@hurtful
async def locked_folders_do_not_outlive_the_sandbox(box: Sandbox) -> None:
    await shell(box, "mkdir -p deep/er; touch deep/er/x; chmod 000 deep/er deep")
    expect("crlf.txt" in await box.manifest(), "no manifest")


@hurtful
async def a_closed_sandbox_answers_with_an_error(box: Sandbox) -> None:
    await box.close()
    await box.close()
    try:
        await box.run("true")
    except SandboxError:
        return
    raise Broken("a command ran")
