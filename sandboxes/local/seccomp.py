"""The system calls a sandbox does without, as a classic BPF program (what `bwrap --seccomp` takes).

Everything is allowed but a list: what makes namespaces and mounts, reaches into the kernel or the host's clock, or is
a large attack surface that no build needs. The program is assembled here, since libseccomp is not on every machine.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sandboxes.errors import SandboxUnavailable

# name: (number on x86_64, number on aarch64); None where the call does not exist.
DENIED: dict[str, tuple[int | None, int | None]] = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "setns": (308, 268),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "query_module": (178, None),
    "get_kernel_syms": (177, None),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "lookup_dcookie": (212, 18),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vhangup": (153, 58),
    "nfsservctl": (180, 42),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "fanotify_init": (300, 262),
    "uselib": (134, None),
    "_sysctl": (156, None),
    "ustat": (136, None),
    "sysfs": (139, None),
}
# Told to be missing, so that callers fall back: clone3's flags lie in memory where a filter cannot look.
MISSING: dict[str, tuple[int, int]] = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}

CLONE_NEW = 0x7E020000  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
CLONE_NEWTIME = 0x80  # in clone() this bit belongs to the exit signal
TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into somebody else's terminal
SOCKET_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
AF_NETLINK, NETLINK_ROUTE = 16, 0  # what getifaddrs needs, no more
PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF)  # Linux, 32-bit, UNAME26, no ASLR (debuggers), "which is it"

_LOAD, _JUMP_EQ, _JUMP_GE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_NR, _ARCH = 0, 4  # offsets in struct seccomp_data
_X32 = 0x40000000

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, k


@dataclass(frozen=True)
class _Machine:
    audit_arch: int
    column: int  # in the tables above
    clone: int
    unshare: int
    ioctl: int
    socket: int
    personality: int


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 0, clone=56, unshare=272, ioctl=16, socket=41, personality=135),
    "aarch64": _Machine(0xC00000B7, 1, clone=220, unshare=97, ioctl=29, socket=198, personality=92),
}


def program(machine: str | None = None) -> bytes:
    """The filter for `machine` (default: this one) as an array of struct sock_filter.
    Raises SandboxUnavailable for a processor it does not know."""
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        raise SandboxUnavailable(f"Local sandboxes run on x86_64 and aarch64; this machine is {machine}.")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in _assemble(_MACHINES[machine]))


def _assemble(machine: _Machine) -> Iterator[Instruction]:
    yield _LOAD, 0, 0, _ARCH
    yield _JUMP_EQ, 1, 0, machine.audit_arch
    yield _fail(errno.ENOSYS)  # a 32-bit program: its numbers mean other calls
    yield _LOAD, 0, 0, _NR
    if machine.audit_arch == _MACHINES["x86_64"].audit_arch:
        yield _JUMP_GE, 0, 1, _X32
        yield _fail(errno.ENOSYS)
    for table, error in ((DENIED, errno.EPERM), (MISSING, errno.ENOSYS)):
        for numbers in table.values():
            if (number := numbers[machine.column]) is not None:
                yield from _when(number, [_fail(error)])
    yield from _when(machine.clone, [_argument(0), *_refuse_bits(CLONE_NEW), _allow()])
    yield from _when(machine.unshare, [_argument(0), *_refuse_bits(CLONE_NEW | CLONE_NEWTIME), _allow()])
    yield from _when(machine.ioctl, [_argument(1), *_refuse_values(TERMINAL_INPUT), _allow()])
    yield from _when(machine.socket, _socket())
    yield from _when(machine.personality, [_argument(0), *_allow_values(PERSONALITIES), _fail(errno.EPERM)])
    yield _allow()


def _socket() -> list[Instruction]:
    netlink = [_argument(2), *_allow_values((NETLINK_ROUTE,)), _fail(errno.EAFNOSUPPORT)]
    return [_argument(0), *_allow_values(SOCKET_FAMILIES), *_when(AF_NETLINK, netlink), _fail(errno.EAFNOSUPPORT)]


def _when(value: int, body: Sequence[Instruction]) -> list[Instruction]:
    """Run `body`, which must not fall through, when the accumulator is `value`."""
    return [(_JUMP_EQ, 0, len(body), value), *body]


def _argument(index: int) -> Instruction:
    """Load the low half of a call's argument: the ones looked at are ints (both processors are little-endian)."""
    return _LOAD, 0, 0, 16 + 8 * index


def _refuse_bits(mask: int) -> list[Instruction]:
    return [(_JUMP_SET, 0, 1, mask), _fail(errno.EPERM)]


def _refuse_values(values: Sequence[int]) -> list[Instruction]:
    return [step for value in values for step in _when(value, [_fail(errno.EPERM)])]


def _allow_values(values: Sequence[int]) -> list[Instruction]:
    return [step for value in values for step in _when(value, [_allow()])]


def _allow() -> Instruction:
    return _RETURN, 0, 0, _ALLOW


def _fail(error: int) -> Instruction:
    return _RETURN, 0, 0, _ERRNO | error
