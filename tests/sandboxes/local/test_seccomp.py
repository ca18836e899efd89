"""The filter's program, run by a small interpreter of classic BPF, and its numbers against the kernel's headers."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from sandboxes.errors import SandboxUnavailable
from sandboxes.local import seccomp

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}
COLUMN = {"x86_64": 0, "aarch64": 1}
CALLS = {
    "x86_64": {"clone": 56, "unshare": 272, "ioctl": 16, "socket": 41, "read": 0},
    "aarch64": {"clone": 220, "unshare": 97, "ioctl": 29, "socket": 198, "read": 63},
}
machines = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def verdict(machine, call, *arguments, arch=None):
    """0 when the filter lets the call pass, else its errno."""
    number = CALLS[machine].get(call) if isinstance(call, str) else call
    memory = struct.pack("=IIQ6Q", number, arch or ARCH[machine], 0, *[*arguments, 0, 0, 0, 0, 0, 0][:6])
    steps = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    at = accumulator = 0
    while True:
        code, yes, no, k = steps[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", memory, k)
        elif code == 0x06:
            return 0 if k == 0x7FFF0000 else k & 0xFFFF
        else:
            met = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[code]
            at += yes if met else no


@machines
def test_ordinary_calls_and_threads_pass(machine):
    assert verdict(machine, "read") == 0
    assert verdict(machine, "clone", 0x003D0F00) == 0  # pthread_create
    assert verdict(machine, "clone", 17) == 0  # fork


@machines
def test_namespaces_are_refused(machine):
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, "clone", flag | 17) == errno.EPERM
        assert verdict(machine, "unshare", flag) == errno.EPERM
    assert verdict(machine, "unshare", 0x400) == 0  # CLONE_FILES


@machines
def test_the_upper_half_of_an_argument_hides_nothing(machine):
    assert verdict(machine, "ioctl", 0, 0xFFFFFFFF_00005412) == errno.EPERM
    assert verdict(machine, "unshare", 0xFFFFFFFF_10000000) == errno.EPERM


@machines
def test_only_plain_sockets_can_be_made(machine):
    allowed = {family for family in range(50) if verdict(machine, "socket", family, 1, 0) == 0}
    assert allowed == {1, 2, 10, 16}
    assert verdict(machine, "socket", 16, 3, 9) == errno.EAFNOSUPPORT  # NETLINK_AUDIT
    assert verdict(machine, "socket", 40, 1, 0) == errno.EAFNOSUPPORT  # AF_VSOCK


@machines
def test_every_listed_call_is_refused(machine):
    for numbers in seccomp.DENIED.values():
        if numbers[COLUMN[machine]] is not None:
            assert verdict(machine, numbers[COLUMN[machine]]) == errno.EPERM
    for numbers in seccomp.MISSING.values():
        assert verdict(machine, numbers[COLUMN[machine]]) == errno.ENOSYS


def test_other_numberings_are_refused():
    assert verdict("x86_64", "read", arch=0x40000003) == errno.ENOSYS  # i386
    assert verdict("x86_64", 0x40000000) == errno.ENOSYS  # x32


@machines
def test_the_numbers_are_the_kernels(machine):
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())}
    known_too = {name: number for name, number in CALLS[machine].items() if name in known}
    for name, number in known_too.items():
        assert number == known[name]
    for name, numbers in {**seccomp.DENIED, **seccomp.MISSING}.items():
        if name in known:
            assert numbers[COLUMN[machine]] == known[name], name


def test_a_strange_processor_is_refused_with_a_sentence():
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        seccomp.program("riscv64")
