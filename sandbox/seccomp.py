"""System calls that nobody inside needs and that have led out of sandboxes before: refused for this process and its
children, for good.

A list of what is denied, because a task's programs may ask for anything that is harmless: mounts, namespaces of one's
own, tracing of others, kernel modules, keys, BPF, performance counters, page faults in user space, rings of
asynchronous calls. Denied calls fail with ``EPERM``; ``clone3``, whose flags no filter can see, with ``ENOSYS``, so
that callers take ``clone``. Programs of another calling convention (32 bit, x32) are refused whole, since their numbers
mean something else. See ``seccomp(2)``. Standard library only: this runs inside, before the first thread.
"""

# Tables of numbers read best as keywords.
# ruff: noqa: C408

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from typing import NamedTuple

PR_SET_NO_NEW_PRIVS = 38
SET_FILTER, SPEC_ALLOW = 1, 1 << 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16
"""Offsets in what a filter sees: the call's number, its convention, the low half of its first argument."""
X32 = 0x40000000
NAMESPACES = 0x7E020000
"""Every ``CLONE_NEW*`` flag of ``clone``."""
AF_UNIX = 1
ATTACH, SEIZE = 16, 0x4206
"""Requests of ``ptrace`` that take hold of another process; a debugger's own child asks for itself."""
NEWER = dict(io_uring_setup=425, io_uring_enter=426, io_uring_register=427, open_tree=428, move_mount=429, fsopen=430,
             fsconfig=431, fsmount=432, fspick=433, pidfd_getfd=438, mount_setattr=442)  # fmt: skip
"""Calls with the same number everywhere."""


class Machine(NamedTuple):
    """What differs between machines."""

    architecture: int
    seccomp: int
    clone: int
    ptrace: int
    socket: int
    denied: dict[str, int]


X86 = dict(mount=165, umount2=166, pivot_root=155, chroot=161, swapon=167, swapoff=168, reboot=169, acct=163,
           settimeofday=164, sethostname=170, setdomainname=171, iopl=172, ioperm=173, init_module=175,
           delete_module=176, quotactl=179, syslog=103, clock_settime=227, kexec_load=246, add_key=248,
           request_key=249, keyctl=250, unshare=272, perf_event_open=298, fanotify_init=300, open_by_handle_at=304,
           clock_adjtime=305, setns=308, process_vm_readv=310, process_vm_writev=311, kcmp=312, finit_module=313,
           kexec_file_load=320, bpf=321, userfaultfd=323)  # fmt: skip
ARM = dict(mount=40, umount2=39, pivot_root=41, chroot=51, swapon=224, swapoff=225, reboot=142, acct=89,
           settimeofday=170, sethostname=161, setdomainname=162, init_module=105, delete_module=106, quotactl=60,
           syslog=116, clock_settime=112, kexec_load=104, add_key=217, request_key=218, keyctl=219, unshare=97,
           perf_event_open=241, fanotify_init=262, open_by_handle_at=265, clock_adjtime=266, setns=268,
           process_vm_readv=270, process_vm_writev=271, kcmp=272, finit_module=273, kexec_file_load=294, bpf=280,
           userfaultfd=282)  # fmt: skip
CLONE3 = 435
MACHINES = {
    "x86_64": Machine(0xC000003E, 317, 56, 101, 41, X86 | NEWER),
    "aarch64": Machine(0xC00000B7, 277, 220, 117, 198, ARM | NEWER),
}


def program(machine: Machine, *, local_sockets: bool = True) -> list[tuple[int, int, int, int]]:
    """The filter: (operation, jump if true, jump if false, value) of each instruction (pure)."""
    refuse, absent = (RETURN, 0, 0, ERRNO | errno.EPERM), (RETURN, 0, 0, ERRNO | errno.ENOSYS)
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, machine.architecture), refuse, (LOAD, 0, 0, NUMBER)]
    steps += [(AT_LEAST, 0, 1, X32), absent, (EQUAL, 0, 1, CLONE3), absent]
    for number in sorted(machine.denied.values()):
        steps += [(EQUAL, 0, 1, number), refuse]
    allow = (RETURN, 0, 0, ALLOW)
    steps += [(EQUAL, 0, 4, machine.clone), (LOAD, 0, 0, ARGUMENT), (ANY_BIT, 0, 1, NAMESPACES), refuse, allow]
    steps += [(EQUAL, 0, 5, machine.ptrace), (LOAD, 0, 0, ARGUMENT), (EQUAL, 1, 0, ATTACH), (EQUAL, 0, 1, SEIZE)]
    steps += [refuse, allow]
    if not local_sockets:
        steps += [(EQUAL, 0, 3, machine.socket), (LOAD, 0, 0, ARGUMENT), (EQUAL, 0, 1, AF_UNIX), refuse]
    return [*steps, allow]


def confine(*, local_sockets: bool = True) -> bool:
    """Refuse the calls from now on, and Unix sockets but pairs where ``local_sockets`` is false.

    ``False`` where this machine's numbers are not known or the kernel has no filters: what a sandbox then protects from
    is found by trying (:mod:`sandbox.selfcheck`)."""
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return False
    steps = program(machine, local_sockets=local_sockets)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    filter_ = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Kernels before 4.17 know no flag.
    return any(libc.syscall(machine.seccomp, SET_FILTER, flag, filter_) == 0 for flag in (SPEC_ALLOW, 0))
