"""What an agent might try, one line of the table each. The attempts are in attempts.py, the stage they run on in scene.py.

`inside` and `outside` give an attempt its targets. Outside it runs as the account sandboxes run under or, with
`as_root`, as whoever runs the probes; where succeeding there would do harm, `instead` says what stands in.
"""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.security.scene import FORGED, MARK, Scene

Targets = Callable[[Scene], dict[str, Any]]


def nothing(scene: Scene) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Probe:
    tried: str
    attempt: str
    inside: Targets = nothing
    outside: Targets | None = None  # None: the same
    as_root: bool = False
    instead: str = ""
    worked: Callable[[Scene], Awaitable[bool]] | None = None  # asks the host, whatever the attempt says itself
    control: str | None = None  # another attempt outside


STAND_IN = "a process of the same account"
SETUID = ["/usr/bin/su", "/usr/bin/passwd", "/usr/bin/newgrp", "/usr/bin/chsh", "/usr/bin/sudo", "/usr/bin/mount"]


def both(**targets: Any) -> Targets:
    return lambda scene: targets


PROBES = [
    # PID 1, the supervisor
    Probe("kill PID 1 with each of 64 signals", "kill_with_every_signal", both(pid=1), lambda s: {"pid": s.stand_in()}, instead=STAND_IN),
    Probe(
        "kill everything (kill -9 -1)",
        "kill_everything",
        both(group=-1, pid=1),
        lambda s: {"group": -(pid := s.stand_in()), "pid": pid},
        instead="a process group of the same account",
    ),
    Probe(
        "read PID 1's environment",
        "read_environment",
        both(pid=1, mark=""),
        lambda s: {"pid": s.stand_in(), "mark": MARK},
        instead=STAND_IN,
    ),
    Probe("read PID 1's memory (/proc/1/mem)", "read_memory", both(pid=1), lambda s: {"pid": s.stand_in()}, instead=STAND_IN),
    Probe(
        "read PID 1's memory (process_vm_readv)",
        "read_memory_by_call",
        both(pid=1, address=4096),
        both(pid=0, address=0),
        instead="its own child",
    ),
    Probe("trace PID 1 (ptrace)", "trace", both(pid=1), both(pid=0), instead="its own child"),
    Probe("open PID 1's descriptors (/proc/1/fd)", "open_descriptors", both(pid=1), lambda s: {"pid": s.stand_in()}, instead=STAND_IN),
    Probe("take PID 1's descriptors (pidfd_getfd)", "take_descriptor", both(pid=1), both(pid=0), instead="its own child"),
    Probe(
        "replace the supervisor's program",
        "replace_file",
        both(path="/run/supervisor.pyz"),
        lambda s: {"path": s.own_file("supervisor.pyz")},
        instead="a file of its own",
    ),
    # The journal and the control channel
    Probe(
        "write to the journal through any process's descriptors",
        "write_journal_by_descriptor",
        both(name="journal.jsonl", forged=FORGED + "\n"),
        lambda s: {"name": s.held_journal(), "forged": FORGED + "\n"},
        instead="a file of that name that a process of the same account holds open",
        worked=Scene.journal_is_forged,
    ),
    Probe(
        "find the journal by its name and write to it",
        "write_journal_by_path",
        both(root="/", name="journal.jsonl", forged=FORGED + "\n"),
        lambda s: {"root": s.own_folder(), "name": s.own_journal(), "forged": FORGED + "\n"},
        instead="a file of its own",
        worked=Scene.journal_is_forged,
    ),
    Probe(
        "forge the record of an exit by printing it",
        "forge_record",
        both(forged=FORGED, path=None),
        lambda s: {"forged": FORGED, "path": s.own_file("journal.jsonl")},
        instead="lines appended to a plain file",
        worked=Scene.journal_is_forged,
    ),
    Probe(
        "connect to the control socket",
        "connect_control",
        lambda s: {"paths": [s.control_socket, "/run/asynccode/control.sock"], "root": "/"},
        lambda s: {"paths": [s.control_socket], "root": None},
        as_root=True,
    ),
    # The host's network
    Probe("reach the host's Redis by TCP", "talk_tcp", lambda s: s.redis_tcp),
    Probe("reach the host's Redis by its socket", "talk_unix", lambda s: s.redis_unix),
    Probe("reach the host's Postgres by TCP", "talk_tcp", lambda s: s.postgres_tcp),
    Probe("reach the host's Postgres by its socket", "talk_unix", lambda s: s.postgres_unix),
    Probe("reach an abstract socket of the host", "talk_unix", lambda s: s.abstract),
    Probe("reach a port of the host by IPv6", "talk_tcp", lambda s: s.ipv6),
    Probe(
        "reach the metadata address",
        "talk_tcp",
        lambda s: {**s.redis_tcp, "host": "169.254.169.254", "port": 80},
        lambda s: s.redis_tcp,
        instead="a loopback address",
    ),
    Probe("reach a port of the host through the gateway", "tunnel", lambda s: {"host": "127.0.0.1", "port": s.redis_tcp["port"]}),
    Probe("the same by a name of the host", "tunnel", lambda s: {"host": "localhost", "port": s.redis_tcp["port"]}),
    Probe(
        "reach the metadata address through the gateway",
        "tunnel",
        both(host="169.254.169.254", port=80),
        lambda s: {"host": "127.0.0.1", "port": s.redis_tcp["port"]},
        instead="a loopback address",
    ),
    Probe("open a raw socket (ICMP)", "raw_socket", both(family=2, number=1)),
    Probe("open a packet socket", "raw_socket", both(family=17, number=0x0300)),
    Probe("listen to the kernel's device events (netlink)", "kernel_messages"),
    # The host's processes and files
    Probe("signal a process of the host", "signal_process", lambda s: {"pid": s.far_pid()}, lambda s: {"pid": s.stand_in()}),
    Probe("read the environment of a process of the host", "read_environment", lambda s: {"pid": s.far_pid(), "mark": MARK}),
    Probe("find our secrets in any environment", "read_any_environment", lambda s: {"mark": s.marked_environment()}),
    Probe("read another sandbox's workspace", "read_file", lambda s: {"path": s.other_file, "mark": s.other_mark}),
    Probe(
        "search everything for the other sandbox's file",
        "read_anywhere",
        lambda s: {"root": "/", "mark": s.other_mark},
        lambda s: {"root": s.other_workspace, "mark": s.other_mark},
    ),
    Probe("read /etc/shadow", "read_file", both(path="/etc/shadow", mark="root:"), lambda s: s.shadow, as_root=True),
    Probe("look into the home of who runs asynccode", "list_folder", lambda s: {"path": s.home}, as_root=True),
    Probe("read the data folder", "read_file", lambda s: {"path": s.data_file, "mark": MARK}, as_root=True),
    Probe("read the project's checkout", "read_file", lambda s: {"path": s.checkout_file, "mark": "asynccode"}, as_root=True),
    Probe(
        "read the host's disk",
        "open_disk",
        lambda s: {"paths": s.disks()},
        lambda s: {"paths": s.disks(is_control=True)},
        as_root=True,
        instead="where there is none: /dev/zero",
    ),
    Probe("write to /usr", "write_new", both(folder="/usr/bin"), lambda s: {"folder": s.writable("/usr/bin")}, as_root=True),
    Probe("write to /etc", "write_new", both(folder="/etc"), lambda s: {"folder": s.writable("/etc")}, as_root=True),
    Probe("write to the root folder", "write_new", both(folder="/"), lambda s: {"folder": s.writable("/")}, as_root=True),
    Probe("write to the gateway's folder", "write_new", both(folder="/run/gateway"), lambda s: {"folder": s.gateway_folder}, as_root=True),
    Probe(
        "write past the overlay of a prepared environment",
        "write_new",
        both(folder="/run/changes/workspace"),
        lambda s: {"folder": s.own_folder()},
        instead="a folder of its own",
    ),
    Probe(
        "write to the mirror",
        "open_for_writing",
        both(path="/run/mirror.git/config"),
        lambda s: {"path": s.mirror_config},
        as_root=True,
        instead="opened, nothing written",
    ),
    Probe(
        "set /proc/sys/kernel/core_pattern",
        "open_for_writing",
        both(path="/proc/sys/kernel/core_pattern"),
        lambda s: {"path": s.kernel_file("/proc/sys/kernel/core_pattern")},
        as_root=True,
        instead="opened, nothing written",
    ),
    Probe(
        "make the kernel drop its caches",
        "open_for_writing",
        both(path="/proc/sys/vm/drop_caches"),
        lambda s: {"path": s.kernel_file("/proc/sys/vm/drop_caches")},
        as_root=True,
        instead="opened, nothing written",
    ),
    Probe(
        "make a device node",
        "make_node",
        both(kind=stat.S_IFCHR, major=1, minor=1),
        lambda s: {"kind": stat.S_IFCHR if s.is_root else stat.S_IFIFO, "major": 1, "minor": 1},
        as_root=True,
        instead="for an ordinary user: a pipe",
    ),
    Probe(
        "open files by handle",
        "open_by_handle",
        both(only_name=False),
        lambda s: {"only_name": not s.is_root},
        as_root=True,
        instead="for an ordinary user: the handle only",
    ),
    Probe(
        "leave by a link: get and put through it",
        "read_file",
        lambda s: s.links_out(),
        lambda s: s.link_target(),
        as_root=True,
        worked=Scene.link_leads_out,
    ),
    # The kernel
    Probe("make a user namespace", "user_namespace"),
    Probe("mount a file system", "mount_tmpfs", control="mount_tmpfs_apart", instead="in a namespace of its own"),
    Probe("mount by the new calls (fsopen)", "new_mount_call"),
    Probe(
        "load a BPF program",
        "load_bpf",
        both(is_classic=False),
        lambda s: {"is_classic": not s.is_root},
        as_root=True,
        instead="a map; for an ordinary user: a classic socket filter",
    ),
    Probe("put a key into a keyring", "add_key"),
    Probe(
        "type into a terminal (TIOCSTI)",
        "type_into_terminal",
        both(is_size=False),
        lambda s: {"is_size": not s.is_root},
        as_root=True,
        instead="a terminal of its own; for an ordinary user: ask for its size",
    ),
    Probe("become root by a setuid program", "gain_by_setuid", both(programs=SETUID)),
    Probe("have or gain a capability", "capabilities"),
    # Limits
    Probe(
        "fill /tmp beyond its size",
        "fill",
        lambda s: {"folder": "/tmp", "megabytes": s.limits.tmp_mb + 1},
        lambda s: {"folder": s.own_folder(), "megabytes": s.limits.tmp_mb + 1},
    ),
    Probe(
        "fill /dev/shm beyond its size",
        "fill",
        lambda s: {"folder": "/dev/shm", "megabytes": s.limits.shm_mb + 1},
        lambda s: {"folder": s.own_folder(), "megabytes": s.limits.shm_mb + 1},
    ),
    Probe(
        "write a file beyond the largest size",
        "fill",
        lambda s: {"folder": "/workspace", "megabytes": s.limits.file_mb + 1},
        lambda s: {"folder": s.own_folder(), "megabytes": s.limits.file_mb + 1},
    ),
    Probe("start more processes than the limit", "many_processes", lambda s: {"count": s.limits.processes + 20}),
    Probe("take more memory than the limit", "much_memory", lambda s: {"megabytes": s.limits.memory_mb + 64}),
]
