"""Installing agents: a package is there whole or not at all. The registry is one of our own; npm and Node are the real ones."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agents import install
from agents.install import InstallFailed
from agents.packages import INSIDE, NODE_VERSION, PACKAGES, Package
from tests.installed import Sandboxed, bring_node
from tests.npm_registry import PROGRAM, Registry

DEMO = Package("demo", "demo-agent", "1.2.3", "demo", 1)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    registry = Registry()
    registry.add("demo-agent", "1.2.3", {"cli.js": PROGRAM}, bin={"demo": "cli.js"}, scripts={"postinstall": "touch ran"})
    monkeypatch.setenv("npm_config_registry", registry.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    yield registry
    registry.close()


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder for agents that any account can reach, with Node in it."""
    folder = Path(tempfile.mkdtemp(prefix="asynccode-tests-", dir="/var/tmp"))
    folder.chmod(0o711)
    (folder / "agents").mkdir(0o755)
    bring_node(folder / "agents")
    yield folder / "agents"
    shutil.rmtree(folder)


def silent(percent: int, text: str) -> None: ...


def put(root: Path, package: Package = DEMO, progress: Callable[[int, str], None] = silent) -> Path:
    return install.put(package, root, progress, Sandboxed(root))


def said(root: Path, package: Package = DEMO) -> str:
    """What the program says to a bystander."""
    argv = [root / package.name / package.version / "bin" / package.program, "--version"]
    account = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    return subprocess.run(argv, capture_output=True, text=True, check=True, env={"PATH": "/bin:/usr/bin"}, cwd="/", **account).stdout


def assert_nothing_left(root: Path, package: Package = DEMO) -> None:
    assert not install.is_installed(package, root)
    assert [path.name for path in (root / package.name).iterdir()] == [".lock"]


# --- what is installed --------------------------------------------------------------------------------------------------------


def test_a_package_is_installed_and_its_program_starts_with_our_node(registry: Registry, root: Path) -> None:
    seen: list[tuple[int, str]] = []
    assert not install.is_installed(DEMO, root)
    folder = put(root, progress=lambda percent, text: seen.append((percent, text)))
    assert folder == root / "demo" / "1.2.3"
    assert install.is_installed(DEMO, root)
    assert said(root) == "demo 1.2.3 --version\n"
    assert sorted(path.name for path in folder.iterdir()) == ["bin", "node_modules", "package.json"]
    percents = [percent for percent, _ in seen]
    assert percents == sorted(percents)
    assert seen[-1] == (100, "demo-agent 1.2.3 is installed")


def test_the_packages_own_scripts_are_not_run(registry: Registry, root: Path) -> None:
    assert not list(put(root).rglob("ran"))


def test_others_can_read_it_whatever_the_umask_says(registry: Registry, root: Path) -> None:
    before = os.umask(0o077)
    try:
        folder = put(root)
    finally:
        os.umask(before)
    for path in [folder.parent, folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o055 == (0o055 if path.is_dir() or path.stat().st_mode & 0o100 else 0o044), path
    assert said(root).startswith("demo")


def test_what_is_there_is_not_installed_again(registry: Registry, root: Path) -> None:
    put(root)
    put(root)
    assert registry.downloads == 1


def test_it_can_be_shared_by_a_link(registry: Registry, root: Path) -> None:
    link = root.parent / "shared"
    link.symlink_to(root)
    put(link)
    assert install.is_installed(DEMO, root)
    assert said(link).startswith("demo")


def test_a_native_program_is_started_itself_and_those_for_other_machines_go(registry: Registry, root: Path) -> None:
    native = Package("native", "native-agent", "2.0.0", "native", 1, "native-linux-*/bin/native")
    registry.add("native-linux-x64", "2.0.0", {"bin/native": "#!/bin/sh\nkill -ILL $$\n"})  # wants more of the processor
    registry.add("native-linux-x64-baseline", "2.0.0", {"bin/native": "#!/bin/sh\necho 2.0.0\n"})
    needs = {"native-linux-x64": "2.0.0", "native-linux-x64-baseline": "2.0.0"}
    registry.add("native-agent", "2.0.0", {"cli.js": "process.exit(1)"}, needs=needs, bin={"native": "cli.js"})
    folder = put(root, native)
    assert (folder / "bin/native").readlink() == Path("../node_modules/native-linux-x64-baseline/bin/native")
    assert not (folder / "node_modules/native-linux-x64").exists()
    assert said(root, native) == "2.0.0\n"


def test_a_path_names_the_version_as_a_sandbox_sees_it() -> None:
    assert DEMO.path == f"{INSIDE}/demo/1.2.3/bin/demo"


# --- at the same time, and cut short ------------------------------------------------------------------------------------------


def test_two_at_once_install_it_once(registry: Registry, root: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert len({future.result() for future in [pool.submit(put, root) for _ in range(3)]}) == 1
    assert registry.downloads == 1


def test_who_gives_up_leaves_nothing(registry: Registry, root: Path) -> None:
    class Abandoned(Exception): ...

    def progress(percent: int, text: str) -> None:
        if registry.asked.is_set():
            raise Abandoned

    registry.hold()
    with pytest.raises(Abandoned):
        put(root, progress=progress)
    assert_nothing_left(root)


def test_killed_in_the_middle_it_is_not_there_and_the_next_one_makes_it(registry: Registry, root: Path) -> None:
    registry.hold()
    code = "import sys; from pathlib import Path; from tests.agents.test_install import *; put(Path(sys.argv[1]))"
    victim = subprocess.Popen([sys.executable, "-c", code, root], cwd=Path(__file__).parents[2])
    assert registry.asked.wait(30)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not install.is_installed(DEMO, root)
    waits: list[str] = []

    def progress(percent: int, text: str) -> None:
        waits.append(text)
        registry.go()  # npm, which the victim left behind, comes to its end

    put(root, progress=progress)
    assert waits[0] == "Waits for another installation of it"
    assert said(root).startswith("demo")
    assert sorted(path.name for path in (root / "demo").iterdir()) == [".lock", "1.2.3"]


# --- what goes wrong ----------------------------------------------------------------------------------------------------------


def test_no_network_is_said(registry: Registry, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(InstallFailed, match=r"registry cannot be reached from this server \(ECONNREFUSED\)"):
            put(root)
    assert_nothing_left(root)


def test_a_version_that_the_registry_does_not_have_is_said(registry: Registry, root: Path) -> None:
    gone = Package("demo", "demo-agent", "9.9.9", "demo", 1)
    with pytest.raises(InstallFailed, match=r"has no demo-agent@9\.9\.9"):
        put(root, gone)
    assert_nothing_left(root)


def test_a_damaged_download_is_refused(registry: Registry, root: Path) -> None:
    registry.damage = True
    with pytest.raises(InstallFailed, match=r"demo-agent@1\.2\.3 is damaged"):
        put(root)
    assert_nothing_left(root)


def test_a_program_that_does_not_work_is_refused(registry: Registry, root: Path) -> None:
    registry.add("demo-agent", "1.2.3", {"cli.js": "console.error('no luck'); process.exit(3)"}, bin={"demo": "cli.js"})
    with pytest.raises(InstallFailed, match=r"demo 1\.2\.3 does not work on this machine \(no luck\)"):
        put(root)
    assert_nothing_left(root)


def test_a_program_of_another_version_is_refused(registry: Registry, root: Path) -> None:
    registry.add("demo-agent", "1.2.3", {"cli.js": "console.log('1.0.0')"}, bin={"demo": "cli.js"})
    with pytest.raises(InstallFailed, match=r"says that it is '1\.0\.0', but 1\.2\.3"):
        put(root)
    assert_nothing_left(root)


def test_without_a_program_for_this_machine_it_is_refused(registry: Registry, root: Path) -> None:
    with pytest.raises(InstallFailed, match="no program for this kind of machine"):
        put(root, Package("demo", "demo-agent", "1.2.3", "demo", 1, "demo-linux-*/demo"))
    assert_nothing_left(root)


def test_it_does_not_begin_without_room_on_the_disk(registry: Registry, root: Path) -> None:
    with pytest.raises(InstallFailed, match=r"Only \d+ MB are free .* Make room and try again"):
        put(root, Package("demo", "demo-agent", "1.2.3", "demo", 2**40))
    assert_nothing_left(root)
    assert registry.downloads == 0


def test_a_disk_that_gets_full_is_said(registry: Registry, root: Path) -> None:
    code = """
import contextlib, sys
from tests.agents.test_install import *
root = Path(sys.argv[1])

def fill(percent, text):
    with (root / "demo/others").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(2**20)): ...

try:
    put(root, progress=fill)
except InstallFailed as error:
    print(error)
print(sorted(path.name for path in (root / "demo").iterdir()))
"""
    (root / "demo").mkdir()
    mount = 'mount -t tmpfs -o size=264m none "$1/demo" && exec "$0" -c "$2" "$1"'
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable, root, code]
    done = subprocess.run(argv, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    said, left = done.stdout.splitlines()
    assert said == f"Only 0 MB are free where {root}/demo lies; 257 MB are needed. Make room and try again."
    assert left == "['.lock', 'others']"


def test_a_folder_that_cannot_be_written_to_is_said(registry: Registry, root: Path) -> None:
    (root / "demo").write_text("a file")
    with pytest.raises(InstallFailed, match="cannot be written to"):
        put(root)


# --- Node ---------------------------------------------------------------------------------------------------------------------


def make_usr(usr: Path, version: str) -> Path:
    (usr / "bin").mkdir(parents=True)
    for name in ("node", "npm"):
        (usr / "bin" / name).write_text(f"#!/bin/sh\necho v{version}\n")
        (usr / "bin" / name).chmod(0o755)
    return usr


def test_the_systems_node_is_taken_if_it_is_new_enough(tmp_path: Path, root: Path) -> None:
    usr = make_usr(tmp_path / "usr", "22.1.0")
    assert install.ensure_node(root, silent, usr=usr).program == usr / "bin/node"


@pytest.mark.parametrize("version", ["20.19.0", "nonsense"])
def test_else_one_of_our_own_is_fetched(tmp_path: Path, root: Path, version: str) -> None:
    node = install.ensure_node(root, silent, usr=make_usr(tmp_path / "usr", version))
    assert node.program == root.resolve() / "node" / NODE_VERSION / "bin/node"
    assert subprocess.run([node.program, "--version"], capture_output=True, text=True).stdout == f"v{NODE_VERSION}\n"


def test_a_node_that_sandboxes_do_not_see_is_not_taken(tmp_path: Path, root: Path) -> None:
    elsewhere = make_usr(tmp_path / "elsewhere", "22.1.0")
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/bin").symlink_to(elsewhere / "bin")
    assert install.ensure_node(root, silent, usr=tmp_path / "usr").program.is_relative_to(root.resolve() / "node")


# --- versions that no pin names -------------------------------------------------------------------------------------------------


def test_versions_that_no_pin_names_are_found_and_removed(root: Path) -> None:
    shutil.rmtree(root / "node")
    claude = root / "claude"
    for path in (claude / "1.0.0", claude / PACKAGES["claude"].version, claude / ".new-x", root / "node/1.0.0", root / "node/2.0.0/bin"):
        path.mkdir(parents=True)
    (root / "node/2.0.0/bin/node").touch()
    launched = root / "gemini" / PACKAGES["gemini"].version / "bin"
    launched.mkdir(parents=True)
    (launched / "node").symlink_to("../../../node/2.0.0/bin/node")
    assert install.unpinned(root) == [claude / "1.0.0", root / "node/1.0.0"]
    for _ in range(2):
        install.remove(claude / "1.0.0")
    assert sorted(path.name for path in claude.iterdir()) == [".lock", PACKAGES["claude"].version]


# --- the real ones --------------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", [*PACKAGES])
def test_every_pin_can_be_installed_and_works(name: str, root: Path) -> None:
    package = PACKAGES[name]
    folder = put(root, package)
    mb = install.size(folder) / 2**20
    install.check(package, root, Sandboxed(root))
    assert mb == pytest.approx(package.mb, rel=0.1)
