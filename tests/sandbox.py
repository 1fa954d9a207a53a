"""Start a program as the systemd unit would have it: `python sandbox.py PROGRAM…`, with no right to gain rights.

The unit's system calls and address families, by libseccomp, which systemd itself uses. Where systemd would refuse a
call, here the program is killed, so that not even one that it could do without escapes notice.
"""

import ctypes
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

UNIT = Path(__file__).resolve().parent.parent / "systemd" / "hcs-daemon.service"
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EAFNOSUPPORT
EQUAL = 4


class Comparison(ctypes.Structure):
    """libseccomp's scmp_arg_cmp: which argument, how it is compared, with what."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def calls(group: str) -> Iterator[str]:
    """The system calls of one of systemd's groups, such as @system-service."""
    command = ["systemd-analyze", "syscall-filter", group]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            yield from calls(word)
        elif word and not word.startswith("#"):
            yield word


def settings(key: str) -> list[str]:
    """Every value that the unit gives a key, in order."""
    lines = UNIT.read_text("utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def allowed() -> set[str]:
    """The system calls that the unit leaves."""
    left: set[str] = set()
    for groups in settings("SystemCallFilter"):
        for group in groups.lstrip("~").split():
            left = left - set(calls(group)) if groups.startswith("~") else left | set(calls(group))
    return left


def confine() -> None:
    """From here on for this process and all that it starts."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(KILL)))

    def rule(action: int, name: str, *comparisons: Comparison) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())  # negative: not on this processor
        array = (Comparison * len(comparisons))(*comparisons)
        done = library.seccomp_rule_add_array(rules, ctypes.c_uint32(action), number, len(comparisons), array)
        if done and (number >= 0 or done != -errno.EINVAL):
            sys.exit(f"libseccomp takes no rule for {name}: {done}")

    for name in allowed() - {"socket"}:
        rule(ALLOW, name)
    families = {int(getattr(socket, name)) for name in settings("RestrictAddressFamilies")[0].split()}
    for family in range(48):
        rule(ALLOW if family in families else REFUSE, "socket", Comparison(0, EQUAL, family, 0))
    if library.seccomp_load(rules):
        sys.exit("the kernel takes no filter")


if __name__ == "__main__":
    confine()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 (that is what it is for)
