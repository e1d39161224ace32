"""Namespaces by system calls: the walls of the ``local`` backend. Standard library only; runs before and inside
sandboxes.

Two stages. :func:`enter_base` gives the calling process a root of its own in memory: the host's programs read-only, the
toolbox at its place, no other part of the host but a way back at :data:`HOST`. From there each sandbox takes namespaces
of its own, mounts its own workspace and temporary folders, drops the way back, becomes an unprivileged user in a user
namespace of its own, and loses every capability for good (:func:`enter_sandbox`). Errors are ``OSError`` that name the
step.
"""

# Plain system calls: this runs inside, once per file and per command.
# ruff: noqa: PTH102, PTH103, PTH110, PTH114, PTH115, PTH116, PTH211

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import socket
import stat
import struct
from pathlib import Path
from typing import Any, NamedTuple

HOST = "/.host"
"""The host's root during set-up; gone before any command runs."""
USER = 1000
"""The user inside."""
OUTSIDE = 64123
"""The user outside, where root makes the sandbox: one that owns nothing."""

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
AT_RECURSIVE, AT_FDCWD = 0x8000, -100
_MACHINES = {"x86_64": {"pivot_root": 155, "capset": 126}, "aarch64": {"pivot_root": 41, "capset": 91}}
MOUNT_SETATTR = 442

SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""What is seen of the host, read-only."""
ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "mime.types", "services", "protocols")
"""What is seen of the host's ``/etc``: nothing that names users, keys or this machine."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
FILES = {
    "passwd": f"root:x:0:0:root:/root:/bin/sh\ndojo:x:{USER}:{USER}:dojo:/tmp/home:/bin/sh\n",
    "group": f"root:x:0:\ndojo:x:{USER}:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "hostname": "sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "os-release": "ID=repodojo\nNAME=RepoDojo\n",
}


class Plan(NamedTuple):
    """What one sandbox mounts. Paths are the host's."""

    tree: str
    site: str | None
    disk_mb: int
    gate: str | None = None
    """Folder of the proxy's socket (:mod:`sandbox.gate`)."""


class _Libc:
    """The few calls, checked."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __call__(self, name: str, *arguments: Any, what: str = "") -> int:
        result = getattr(self._libc, name)(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{what or name}: {os.strerror(number)}")
        return result

    def syscall(self, number: int, *arguments: Any, what: str) -> int:
        return self("syscall", ctypes.c_long(number), *arguments, what=what)


libc = _Libc()


def _number(name: str) -> int:
    try:
        return _MACHINES[platform.machine()][name]
    except KeyError as error:
        raise OSError(0, f"namespaces are not supported on {platform.machine()}") from error


# -- mounts -----------------------------------------------------------------------------------------------------------


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None)
    libc("mount", *arguments, what=f"mount {target}")


def unmount(target: str) -> None:
    libc("umount2", target.encode(), MNT_DETACH, what=f"unmount {target}")


def bind(source: str, target: str, read_only: bool = True) -> None:
    """Show ``source`` at ``target`` (made if absent), with all that is mounted below it."""
    if stat.S_ISDIR(os.stat(source).st_mode):
        os.makedirs(target, exist_ok=True)
    elif not os.path.lexists(target):
        Path(target).touch()
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        lock(target)


def lock(target: str) -> None:
    """Make a mount and those below it read-only, without set-user-id programs."""
    attributes = struct.pack("QQQQ", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0)
    arguments = (AT_FDCWD, target.encode(), AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes)))
    try:
        libc.syscall(MOUNT_SETATTR, *arguments, what=f"lock {target}")
    except OSError:
        # Kernels before 5.12: the mount itself, with the flags that it has and must keep.
        held = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount("none", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | held)


def memory(target: str, size_mb: int, mode: str = "755", owner: int | None = None) -> None:
    """A file system in memory of bounded size."""
    os.makedirs(target, exist_ok=True)
    data = f"size={size_mb}m,nr_inodes=200k,mode={mode}" + (f",uid={owner},gid={owner}" if owner is not None else "")
    mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, data)


# -- the base ---------------------------------------------------------------------------------------------------------


def enter_base(toolbox: str) -> None:
    """Take namespaces and a root of our own. The host stays reachable at :data:`HOST`, for set-up only."""
    _take_mounts()
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=755")
    os.mkdir(f"/tmp{HOST}")
    libc.syscall(_number("pivot_root"), b"/tmp", f"/tmp{HOST}".encode(), what="pivot_root")
    os.chdir("/")
    for name in SYSTEM:
        _show(f"{HOST}/{name}", f"/{name}")
    _fill_etc()
    _fill_dev()
    for folder in ("workspace", "tmp", "proc", "opt/site", "opt/repodojo", "run/network", "root"):
        os.makedirs(f"/{folder}", exist_ok=True)
    os.makedirs("/var", exist_ok=True)
    os.symlink("/tmp", "/var/tmp")
    bind(f"{HOST}{toolbox}", "/opt/repodojo")


def _take_mounts() -> None:
    """A mount namespace: of our own right where we may, else in a user namespace where we are root."""
    try:
        os.unshare(os.CLONE_NEWNS)
    except PermissionError:
        user, group = os.geteuid(), os.getegid()
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)
        map_user(0, user, group)


def map_user(inside: int, user: int, group: int) -> None:
    """Be ``inside`` in the user namespace that this process has just made."""
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{inside} {group} 1")


def _show(source: str, target: str) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.exists(source):
        bind(source, target)


def _fill_etc() -> None:
    os.mkdir("/etc")
    for name in ETC:
        _show(f"{HOST}/etc/{name}", f"/etc/{name}")
    for name, text in FILES.items():
        Path(f"/etc/{name}").write_text(text)


def _fill_dev() -> None:
    os.mkdir("/dev")
    for name in DEVICES:
        bind(f"{HOST}/dev/{name}", f"/dev/{name}", read_only=False)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", f"/dev/{name}")
    for name in ("shm", "pts"):
        os.mkdir(f"/dev/{name}")
    os.symlink("pts/ptmx", "/dev/ptmx")


# -- one sandbox ------------------------------------------------------------------------------------------------------


def enter_sandbox(plan: Plan, owner: int) -> None:
    """From the base, as the first process of a PID namespace: everything but the loss of rights. ``owner`` owns the
    files."""
    from sandbox import tree

    os.unshare(os.CLONE_NEWNS | os.CLONE_NEWNET | os.CLONE_NEWIPC | os.CLONE_NEWUTS)
    with contextlib.suppress(OSError):
        # The names of our groups are nobody's business inside.
        os.unshare(os.CLONE_NEWCGROUP)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    memory("/workspace", plan.disk_mb, owner=owner)
    memory("/tmp", plan.disk_mb, mode="1777")
    memory("/dev/shm", 64, mode="1777")
    with contextlib.suppress(OSError):
        # Without terminals of its own a program that wants one fails; nothing else depends on them.
        mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if plan.site:
        bind(f"{HOST}{plan.site}", "/opt/site")
    if plan.gate:
        bind(f"{HOST}{plan.gate}", "/run/network")
    tree.copy(f"{HOST}{plan.tree}", "/workspace", (owner, owner))
    os.mkdir("/tmp/home")
    os.chown("/tmp/home", owner, owner)
    _loopback()
    socket.sethostname("sandbox")
    unmount(HOST)
    mount("none", "/", flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.chdir("/workspace")


def _loopback() -> None:
    """Bring the network namespace's own interface up: tests may talk to themselves, and to nobody else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))


def drop_rights(owner: int) -> bool:
    """Become :data:`USER` without any capability. Whether a user namespace of its own was to be had."""
    if os.geteuid() != owner:
        os.setgroups([])
        os.setresgid(owner, owner, owner)
        os.setresuid(owner, owner, owner)
    # A change of user makes a process undumpable, which would hide its own uid_map from it.
    libc("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
    try:
        os.unshare(os.CLONE_NEWUSER)
        map_user(USER, owner, owner)
        own = True
    except OSError:
        own = False
    libc("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(64):
        with contextlib.suppress(OSError):
            libc("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    libc.syscall(_number("capset"), header, nothing, what="capset")
    os.setsid()
    libc("prctl", PR_SET_PDEATHSIG, 9, 0, 0, 0)
    return own
