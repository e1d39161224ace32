"""Behaviours of the shell: state, output, ends, time."""

from __future__ import annotations

import asyncio

from sandbox.pool import Lease
from sandbox.protocol import Sandbox
from sandbox.remote import RemoteSandbox
from sandbox.selfcheck.registry import Broken, behaviour, expect, hurtful, shell

SLEEPERS = "grep -lz '^610[0-9]$' /proc/[0-9]*/cmdline 2>/dev/null | wc -l"
"""Counts what the checks of time-outs started: seconds that nobody else sleeps."""


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
async def a_program_that_waits_for_a_person_gets_none(box: Sandbox) -> None:
    expect((result := await box.run("python -c 'input()'", 10)).exit_code == 1 and not result.timed_out, result)
    expect((result := await box.run("read x < /dev/tty", 10)).exit_code not in (0, None), result)
    expect((result := await box.run("python -i < /dev/null; sh -i; true", 10)).exit_code == 0, result)


@behaviour
async def output_comes_while_the_command_runs(box: Sandbox) -> None:
    if not isinstance(box, RemoteSandbox | Lease):
        raise Broken("nothing is streamed here")
    pieces, seen = list[str](), asyncio.Event()

    def take(text: str) -> None:
        pieces.append(text)
        seen.set()

    running = asyncio.create_task(box.run("echo first; sleep 1; seq 20000", 20, take))
    await asyncio.wait_for(seen.wait(), 10)
    expect(pieces == ["first\n"] and not running.done(), pieces[:3])
    await running
    expect("".join(pieces) == "first\n" + "".join(f"{number}\n" for number in range(1, 20_001)), len(pieces))


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
async def exec_of_a_program_that_does_not_end_is_a_time_out(box: Sandbox) -> None:
    result = await box.run("exec sleep 6106", 0.5)
    expect(result.timed_out and "timed out" in result.output, result)
    expect((out := await shell(box, SLEEPERS)) == "0", out)


@behaviour
async def a_closed_output_is_open_again_for_the_next_command(box: Sandbox) -> None:
    await box.run("exec >&- 2>&-")
    await box.run("exec > /dev/null")
    expect((out := await shell(box, "echo on")) == "on", out)


# -- time ------------------------------------------------------------------------------------------------------------


@behaviour
async def a_time_out_kills_the_command_and_all_that_it_started(box: Sandbox) -> None:
    started = asyncio.get_running_loop().time()
    result = await box.run("cd pkg; sleep 6101 & setsid sleep 6102 & (sleep 6103 &) ; echo begun; sleep 6104", 1.0)
    took = asyncio.get_running_loop().time() - started
    expect(result.timed_out and result.exit_code is None and result.output.startswith("begun\n"), result)
    expect("timed out" in result.output and took < 15, took)
    expect((out := await shell(box, SLEEPERS)) == "0", out)


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
    running = asyncio.create_task(box.run("sleep 6105", 60))
    await asyncio.sleep(0.3)
    running.cancel()
    await asyncio.wait([running])
    expect((out := await shell(box, SLEEPERS)) == "0", out)


@behaviour
async def a_command_that_is_cancelled_while_it_waits_never_runs(box: Sandbox) -> None:
    first = asyncio.create_task(box.run("sleep 0.5; echo first"))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(box.run("touch /tmp/second"))
    await asyncio.sleep(0.1)
    second.cancel()
    expect((result := await first).output == "first\n" and not result.timed_out, result)
    expect((result := await box.run("ls /tmp/second 2>/dev/null")).exit_code, result)


@hurtful
async def a_long_command_for_a_stopped_shell_is_a_time_out(box: Sandbox) -> None:
    await box.run("(sleep 0.1; kill -STOP $$) & true")
    await asyncio.sleep(0.5)
    expect((result := await box.run(f": {'x' * 300_000}", 1.0)).timed_out, result)
    expect(await shell(box, "echo on") == "on", "no further command")


@behaviour
async def dead_children_are_collected(box: Sandbox) -> None:
    await shell(box, "for i in 1 2 3 4 5; do (sleep 0 & ) ; done; sleep 0.3")
    await shell(box, "true")
    expect((out := await shell(box, "grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l")) == "0", out)
