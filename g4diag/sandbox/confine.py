"""Give up what reading evidence does not need, as far as this kernel can: the network, writing, other processes.

No new privileges; seccomp, which refuses the system calls; Landlock, which refuses what they would reach by any other
call. Each by itself: where one is missing the others hold, and the resource limits always. Linux on x86-64 and aarch64,
by ctypes: five calls do not need a library.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from dataclasses import dataclass
from typing import Final

_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
# Of a file system all but to read a file or a folder, by the ABI that brought it; of the network to bind and connect.
_FS_BITS = ((1, 0b1_1111_1111_0011), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
_NET, _NET_ABI, _SCOPES, _SCOPES_ABI = 0b11, 4, 0b11, 6
_WRITES: Final = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_COMMON = (424, 425)  # pidfd_send_signal, io_uring_setup: what goes through a ring is not filtered
_NO_SUCH = (435, 437)  # clone3, openat2: their arguments lie where a filter cannot look; callers know an older call


@dataclass(frozen=True)
class _Machine:
    """arch: as seccomp names it. refused: numbers of calls. opens: (number, which argument holds the flags)."""

    arch: int
    refused: tuple[int, ...]
    opens: tuple[tuple[int, int], ...]


# Sockets; new processes and other programs; signals and the memory of others; names, modes and sizes of files; the rest
# that changes the system.
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        (
            *(41, 42, 43, 44, 46, 49, 50, 53, 288, 307),
            *(56, 57, 58, 59, 322),
            *(62, 101, 200, 234, 310, 311),
            *(76, 77, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 132, 133, 188, 189, 190, 235, 258, 259, 260, 261),
            *(263, 264, 265, 266, 268, 280, 316),
            *(161, 165, 250, 272, 298, 308, 319, 321, 323),
        ),
        ((2, 1), (257, 2)),
    ),
    "aarch64": _Machine(
        0xC00000B7,
        (
            *(198, 199, 200, 201, 202, 203, 206, 211, 242, 269),
            *(220, 221, 281),
            *(117, 129, 130, 131, 270, 271),
            *(5, 6, 7, 33, 34, 35, 36, 37, 38, 45, 46, 52, 53, 54, 55, 88, 276),
            *(40, 51, 97, 219, 241, 268, 279, 280, 282),
        ),
        ((56, 2),),
    ),
}


def confine() -> tuple[str, ...]:
    """Give up all that can be given up here, for ever; what is in force then. Never raises."""
    libc = _libc()
    if libc is None or libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        return ()
    held = ["no new privileges"]
    # Landlock first: seccomp takes away no call that it needs, but a later version of it might.
    if (abi := landlock_abi()) and _landlock(libc, abi):
        held.append(f"Landlock (ABI {abi})")
    if (machine := _MACHINES.get(platform.machine())) and _seccomp(libc, machine):
        held.append("seccomp")
    return tuple(held)


def missing() -> tuple[str, ...]:
    """What `confine` would not bring into force here, and what that leaves open. Changes nothing."""
    found = []
    if _libc() is None:
        return (
            "no new privileges, seccomp and Landlock (not Linux): network, writing and new processes are left open",
        )
    if platform.machine() not in _MACHINES:
        found.append(f"seccomp (not on {platform.machine()}): new processes and sockets are left open")
    elif not _kernel_filters():
        found.append("seccomp (not in this kernel): new processes and sockets are left open")
    if not (abi := landlock_abi()):
        found.append("Landlock (not in this kernel): seccomp alone keeps it from writing")
    elif abi < _NET_ABI:
        found.append(
            f"Landlock's network rules (ABI {abi}, wanted {_NET_ABI}): seccomp alone keeps it from the network"
        )
    return tuple(found)


def landlock_abi() -> int:
    """The version of Landlock's interface, 0 where it is off or not in the kernel."""
    libc = _libc()
    return 0 if libc is None else max(int(libc.syscall(_LANDLOCK_CREATE, None, 0, 1)), 0)


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _kernel_filters() -> bool:
    try:
        with open("/proc/sys/kernel/seccomp/actions_avail", encoding="ascii") as file:
            return "errno" in file.read().split()
    except OSError:
        return False


def _landlock(libc: ctypes.CDLL, abi: int) -> bool:
    """A set of rules that grants nothing of what it handles."""
    file_system = sum(bits for since, bits in _FS_BITS if abi >= since)
    fields = [file_system, *([_NET] if abi >= _NET_ABI else []), *([_SCOPES] if abi >= _SCOPES_ABI else [])]
    made = struct.pack(f"={len(fields)}Q", *fields)
    rules = libc.syscall(_LANDLOCK_CREATE, made, len(made), 0)
    return bool(rules >= 0 and libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0)


def _seccomp(libc: ctypes.CDLL, machine: _Machine) -> bool:
    refuse, none_such = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    # Where in a call's data: its number 0, the architecture 4, argument n 16 + 8 n.
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, machine.arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    if machine.arch == _MACHINES["x86_64"].arch:
        steps += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, refuse)]  # the same calls under other numbers
    for number in (*machine.refused, *_COMMON):
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, refuse)]
    for number in _NO_SUCH:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, none_such)]
    for number, argument in machine.opens:
        steps += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, 16 + 8 * argument), (_ANY_BIT, 0, 1, _WRITES)]
        steps += [(_RETURN, 0, 0, refuse), (_RETURN, 0, 0, _ALLOW)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    return bool(libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0) == 0)
