"""The attempts themselves: run as `python3 attempts.py NAME JSON`, inside a sandbox and, as the control, outside.

An attempt that returns has worked; OSError or Refused says it was refused. Standard library only: it runs anywhere.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

_libc = ctypes.CDLL(None, use_errno=True)
_ARM = platform.machine() == "aarch64"
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
O_PATH = 0x200000


class Refused(Exception):
    """The attempt came to nothing, without an error of the system."""


def call(name, *arguments):
    """A system call by name (one of the few needed here); OSError when it fails."""
    numbers = {
        "ptrace": (101, 117),
        "bpf": (321, 280),
        "add_key": (248, 217),
        "fsopen": (430, 430),
        "unshare": (272, 97),
        "mount": (165, 40),
        "pidfd_open": (434, 434),
        "pidfd_getfd": (438, 438),
        "process_vm_readv": (310, 270),
        "name_to_handle_at": (303, 264),
        "open_by_handle_at": (304, 265),
    }
    result = _libc.syscall(ctypes.c_long(numbers[name][_ARM]), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def open_all(paths, flags):
    """Refused when none of the paths can be opened; with the last reason."""
    reason = "nothing to open"
    for path in paths:
        try:
            os.close(os.open(path, flags))
            return
        except OSError as error:
            reason = f"{error.strerror}"
    raise Refused(reason)


def own_child():
    """A sleeping child that ends with us: its id."""
    pid = os.fork()
    if not pid:
        time.sleep(60)
        os._exit(0)
    atexit.register(os.kill, pid, signal.SIGKILL)
    return pid


def in_child(work):
    """Run `work` in a child: its wait status. What it holds is gone afterwards."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except MemoryError:
            os._exit(3)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


# Processes


def kill_with_every_signal(pid):
    for number in range(1, 65):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    for _ in range(20):
        if not lives(pid):
            return
        time.sleep(0.02)
    raise Refused("it got 64 signals and lives on")


def kill_everything(group, pid):
    os.kill(group, signal.SIGKILL)
    for _ in range(20):
        if not lives(pid):
            return
        time.sleep(0.02)
    raise Refused("it lives on")


def signal_process(pid):
    os.kill(pid, signal.SIGTERM)


def read_environment(pid, mark):
    with open(f"/proc/{pid}/environ", "rb") as file:
        if mark.encode() not in file.read():
            raise Refused("nothing of ours in it")


def read_any_environment(mark):
    """Of every process there is to be seen, but for this one and its parents' words to it."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark.encode() in file.read():
                    return
        except OSError:
            continue
    raise Refused("no process shows it")


def read_memory(pid):
    with open(f"/proc/{pid}/maps") as file:
        start = int(file.readline().split("-")[0], 16)
    with open(f"/proc/{pid}/mem", "rb") as file:
        file.seek(start)
        file.read(16)


def read_memory_by_call(pid, address):
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    buffer = ctypes.create_string_buffer(8)
    if not pid:  # a child of ours has what we have, and where we have it
        pid, address = own_child(), ctypes.addressof(buffer)
    call("process_vm_readv", pid, ctypes.byref(Vector(ctypes.addressof(buffer), 8)), 1, ctypes.byref(Vector(address, 8)), 1, 0)


def trace(pid):
    pid = pid or own_child()
    call("ptrace", 16, pid, 0, 0)  # PTRACE_ATTACH


def open_descriptors(pid):
    open_all([f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")], os.O_RDONLY)


def take_descriptor(pid):
    pid = pid or own_child()
    handle = call("pidfd_open", pid, 0)
    for number in range(16):
        try:
            call("pidfd_getfd", handle, number, 0)
            return
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
    raise Refused("it has none")


# The journal and the control socket


def write_journal_by_descriptor(name, forged):
    """Through every process's descriptors that lead to a file of that name."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{descriptor}"
                if name in os.readlink(path):
                    with open(path, "a") as file:
                        file.write(forged)
                    return
        except OSError:
            continue
    raise Refused("no process shows a descriptor of it")


def write_journal_by_path(root, name, forged):
    for folder, _, files in os.walk(root):
        if name in files and not folder.startswith("/proc"):
            with open(os.path.join(folder, name), "a") as file:
                file.write(forged)
            return
    raise Refused("it is nowhere to be found")


def forge_record(forged, path):
    """Print what looks like records, in every way that might end a line early; outside, into a plain file."""
    out = os.open(path, os.O_WRONLY | os.O_APPEND) if path else 1
    for before in (
        b"",
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"\x0b",
        b"\x0c",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b'"}\n',
        b"\xff\n",
        b"x" * (1 << 20) + b"\n",
    ):
        os.write(out, before + forged.encode() + b"\n")
    if not path:
        raise Refused("it is output like any other")
    with open(path, "rb") as file:
        assert any(line.strip() == forged.encode() for line in file)


def connect_control(paths, root):
    """Every socket file there is, and those we were told of: does one answer a ping?"""
    found = list(paths)
    for folder, _, files in os.walk(root or "/nonexistent"):
        if not folder.startswith(("/proc", "/sys", "/usr")):
            found += [path for path in (os.path.join(folder, name) for name in files) if stat.S_ISSOCK(os.lstat(path).st_mode)]
    reason = "there is none"
    for path in found:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            try:
                folder = os.open(os.path.dirname(path), O_PATH)
                client.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
                message = b'{"do":"ping"}'
                client.sendall(len(message).to_bytes(4, "big") + message)
                if b'"ok"' in client.recv(4096):
                    return
                reason = "what answers is not the supervisor"
            except OSError as error:
                reason = f"{os.path.basename(path)}: {error.strerror or error}"
    raise Refused(reason)


# The network


def talk_tcp(host, port, message, answer):
    with socket.create_connection((host, port), timeout=3) as client:
        client.sendall(message.encode())
        if answer.encode() not in client.recv(4096):
            raise Refused("something else answered")


def talk_unix(path, message, answer):
    """`path` may be an abstract name, which begins with @."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(3)
        client.connect("\0" + path[1:] if path.startswith("@") else path)
        client.sendall(message.encode())
        if answer.encode() not in client.recv(4096):
            raise Refused("something else answered")


def tunnel(host, port):
    """Through the gateway where there is one (inside), straight on where there is none (outside)."""
    proxy = os.environ.get("HTTPS_PROXY")
    if not proxy:
        socket.create_connection((host, port), timeout=3).close()
        return
    address, _, number = proxy[len("http://") :].partition(":")
    with socket.create_connection((address, int(number)), timeout=10) as client:
        client.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        status = client.recv(4096).decode(errors="replace").split("\r\n")[0]
    if " 200 " not in status + " ":
        raise Refused(f"the gateway: {status}")


def raw_socket(family, number):
    try:
        socket.socket(family, socket.SOCK_RAW, number).close()
    except PermissionError:
        call("unshare", CLONE_NEWUSER | CLONE_NEWNET)  # with capabilities over a network of one's own
        socket.socket(family, socket.SOCK_RAW, number).close()


def kernel_messages():
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15).close()  # NETLINK_KOBJECT_UEVENT


# Files


def read_file(path, mark):
    with open(path, "rb") as file:
        if mark.encode() not in file.read(1 << 20):
            raise Refused("it is another file")


def list_folder(path):
    os.listdir(path)


def read_anywhere(root, mark):
    """Every file below `root` that is not the system's."""
    for folder, folders, files in os.walk(root):
        if folder == "/":
            folders[:] = [name for name in folders if name not in ("usr", "proc", "sys")]
        for name in files:
            try:
                path = os.path.join(folder, name)
                if stat.S_ISREG(os.stat(path).st_mode):
                    with open(path, "rb") as file:
                        if mark.encode() in file.read(1 << 20):
                            return
            except OSError:
                continue
    raise Refused("it is nowhere to be found")


def write_new(folder):
    """A new file, removed at once."""
    path = os.path.join(folder, f"asynccode-probe-{os.getpid()}")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.unlink(path)


def open_for_writing(path):
    """Opened and closed: nothing is written."""
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def replace_file(path):
    os.rename(path, path + ".old")


def open_by_handle(only_name):
    """The host's root by its handle, as containers were left by once; `only_name` asks for the handle only."""

    class Handle(ctypes.Structure):
        _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128))

    handle, mount = Handle(bytes=128), ctypes.c_int()
    call("name_to_handle_at", -100, ctypes.c_char_p(b"/usr"), ctypes.byref(handle), ctypes.byref(mount), 0)
    if not only_name:
        root = os.open("/usr", os.O_RDONLY)
        os.close(call("open_by_handle_at", root, ctypes.byref(handle), os.O_RDONLY))


def make_node(kind, major, minor):
    with tempfile.TemporaryDirectory() as folder:
        os.mknod(os.path.join(folder, "node"), 0o600 | kind, os.makedev(major, minor))


def open_disk(paths):
    open_all(paths, os.O_RDONLY)


def fill(folder, megabytes):
    path = os.path.join(folder, f"asynccode-probe-{os.getpid()}")
    try:
        with open(path, "wb") as file:
            for _ in range(megabytes):
                file.write(bytes(1 << 20))
    finally:
        os.unlink(path)


# The kernel


def user_namespace():
    call("unshare", CLONE_NEWUSER)


def mount_tmpfs():
    try:
        call("mount", ctypes.c_char_p(b"probe"), ctypes.c_char_p(b"/tmp"), ctypes.c_char_p(b"tmpfs"), 0, 0)
    except PermissionError:
        call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
        call("mount", ctypes.c_char_p(b"probe"), ctypes.c_char_p(b"/tmp"), ctypes.c_char_p(b"tmpfs"), 0, 0)


def mount_tmpfs_apart():
    """As `mount_tmpfs`, in a mount namespace of its own from the start: for the control."""
    call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
    mount_tmpfs()


def new_mount_call():
    try:
        call("fsopen", ctypes.c_char_p(b"tmpfs"), 0)
    except PermissionError:
        call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
        call("fsopen", ctypes.c_char_p(b"tmpfs"), 0)


def load_bpf(is_classic):
    """An array map; `is_classic` instead gives a socket the one-instruction filter that anybody may."""
    if is_classic:
        program = ctypes.create_string_buffer(bytes.fromhex("06000000ffff0000"))
        filter_ = (1).to_bytes(8, "little") + ctypes.addressof(program).to_bytes(8, "little")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            any_socket.setsockopt(socket.SOL_SOCKET, 26, filter_)
        return
    attributes = ctypes.create_string_buffer(b"".join(value.to_bytes(4, "little") for value in (2, 4, 4, 1)) + bytes(112))
    os.close(call("bpf", 0, ctypes.byref(attributes), 128))


def add_key():
    call("add_key", ctypes.c_char_p(b"user"), ctypes.c_char_p(b"asynccode-probe"), ctypes.c_char_p(b"x"), 1, ctypes.c_int(-2))


def type_into_terminal(is_size):
    """Put a character into a terminal of ours; `is_size` asks the terminal for its size instead."""
    os.setsid()
    _, terminal = os.openpty()
    fcntl.ioctl(terminal, 0x540E, 0)  # TIOCSCTTY
    fcntl.ioctl(terminal, 0x5413, bytes(8)) if is_size else fcntl.ioctl(terminal, 0x5412, b"x")  # TIOCSTI


def gain_by_setuid(programs):
    """Run what has the setuid bit; does it become somebody else?"""
    reason = "there is none"
    for program in filter(os.path.exists, programs):
        with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
            reason = "they run as who started them"
            deadline = time.monotonic() + 1
            while started.poll() is None and time.monotonic() < deadline:
                with open(f"/proc/{started.pid}/status") as file:
                    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
                if int(fields["Uid"].split()[1]) != os.geteuid() or (os.geteuid() and int(fields["CapEff"], 16)):
                    return
    raise Refused(reason)


def capabilities():
    """Has this process any, or could it get one by exec?"""
    with open("/proc/self/status") as file:
        fields = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    if not int(fields["CapBnd"], 16) or fields["NoNewPrivs"] == "1":
        raise Refused(f"bounding set {fields['CapBnd']}, NoNewPrivs {fields['NoNewPrivs']}")


# Limits


def many_processes(count):
    children = []
    try:
        for _ in range(count):
            child = os.fork()
            if not child:
                time.sleep(30)
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


def much_memory(megabytes):
    def work():
        held = mmap.mmap(-1, megabytes << 20)
        for at in range(0, len(held), 4096):
            held[at] = 1
        time.sleep(3)  # a watchdog looks once a second

    status = in_child(work)
    if status:
        raise Refused(f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no memory given")


def main():
    name, targets = sys.argv[1], json.loads(sys.argv[2])
    try:
        globals()[name](**targets)
    except Refused as refused:
        said = f"REFUSED {refused}"
    except OSError as error:
        said = f"REFUSED {error.strerror or error}"
    else:
        said = "WORKED"
    print(f"\n{said}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
