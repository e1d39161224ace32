"""Behaviours of confinement: what is seen, what is out of reach, what attacks are survived."""

from __future__ import annotations

from sandbox.protocol import ExecResult, Sandbox, SandboxError
from sandbox.selfcheck.registry import Broken, behaviour, expect, hurtful, shell


@behaviour
async def python_is_there_and_imports_the_tree(box: Sandbox) -> None:
    program = "import ssl, sqlite3, ctypes; from pkg.answer import answer; print(answer())"
    expect((out := await shell(box, f"cd /tmp; python -c '{program}'; cd /workspace")) == "41", out)


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
    expect(
        wanted <= names and not names - wanted - {"PWD", "OLDPWD", "SHLVL", "_", "A", "HOSTNAME", "TMPDIR"},
        sorted(names),
    )
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


CALLS = """\
import ctypes, errno, os, platform
from sandbox.seccomp import ATTACH, CLONE3, MACHINES
machine, libc = MACHINES[platform.machine()], ctypes.CDLL(None, use_errno=True)
def refused(number, *arguments, code=errno.EPERM):
    ctypes.set_errno(0)
    return libc.syscall(number, *arguments, 0, 0, 0, 0) == -1 and ctypes.get_errno() == code
held = {name: refused(number) for name, number in machine.denied.items()}
child = os.fork()
if child == 0:
    os.read(os.pipe()[0], 1)
held |= {"trace": refused(machine.ptrace, ATTACH, child), "clone": refused(machine.clone, 0x10000000 | 17)}
held |= {"clone3": refused(CLONE3, code=errno.ENOSYS)}
os.kill(child, 9)
print(len(held) > 40 and sorted(name for name in held if not held[name]))
"""


@behaviour
async def system_calls_that_lead_out_of_sandboxes_are_refused(box: Sandbox) -> None:
    await box.write("calls.py", CALLS.encode())
    out = await shell(box, "PYTHONPATH=/opt/repodojo/core python calls.py; rm calls.py")
    expect(out == "[]", out)


@behaviour
async def signals_do_not_end_the_tool_server(box: Sandbox) -> None:
    await box.run("for s in INT TERM HUP QUIT PIPE USR1 ALRM CHLD WINCH; do kill -$s 1; done")
    expect(await shell(box, "echo on") == "on", "no further command")


@behaviour
async def no_socket_of_the_host_is_found_inside(box: Sandbox) -> None:
    out = await shell(
        box, "ls -A /run/repodojo /run/network 2>/dev/null | grep -v : ; find / -xdev -type s 2>/dev/null; true"
    )
    expect(not out.strip(), out)
    expect((result := await box.run("ls -A /run/docker.sock /var/run/docker.sock 2>/dev/null")).exit_code, result)


@behaviour
async def there_is_no_network_but_itself(box: Sandbox) -> None:
    script = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname(), 2); print('self')\n"
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
async def a_burst_of_processes_is_held_and_swept_up(box: Sandbox) -> None:
    # Bounded by itself (2,047 processes), so that a wall which does not hold costs a second and not the machine.
    burst = "b() { if [ $1 -gt 0 ]; then b $(($1 - 1)) & b $(($1 - 1)) & fi; sleep 9; }; b 10"
    result = await box.run(burst, 2.0)
    expect(result.timed_out and "Resource temporarily unavailable" in result.output, result)
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


TOGETHER = """\
import os, time
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(b"x") * (300 << 20)
        time.sleep(1)
        os._exit(0)
print(sum(os.wait()[1] != 0 for _ in range(4)))
"""


@hurtful
async def memory_is_limited_for_all_processes_together(box: Sandbox) -> None:
    await box.write("together.py", TOGETHER.encode())
    expect((out := (await box.run("python together.py")).output.strip()) in ("1", "2", "3", "4"), f"{out} were killed")
    await _goes_on(box)


@hurtful
async def the_disk_is_limited(box: Sandbox) -> None:
    # Reserved, not written: a limit that does not hold costs no time and no memory.
    reserve = "import os; fd = os.open('big', os.O_CREAT | os.O_RDWR); os.posix_fallocate(fd, 0, 3 << 30)"
    expect((result := await box.run(f'python -c "{reserve}"; code=$?; rm -f big; (exit $code)')).exit_code, result)


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
