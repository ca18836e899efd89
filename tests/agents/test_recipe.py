"""The recipe for other images makes what `install.put` makes here: the same files at the same paths. Bash and npm are the real ones."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import install, recipe
from agents.packages import PACKAGES, Package
from tests.installed import Sandboxed, bring_node, installed
from tests.npm_registry import Registry

DEMO = Package("demo", "demo-agent", "1.2.3", "demo", 1)
NATIVE = Package("native", "@demo/native", "2.0.0", "native", 1, "@demo/native-linux-*/bin/native")
EITHER = Package("either", "@demo/either", "3.0.0", "either", 1, "@demo/either-linux-*/bin/either")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    registry = Registry()
    registry.add("demo-agent", "1.2.3", {"lib/cli.js": "console.log('demo 1.2.3', ...process.argv.slice(2))"}, bin={"demo": "lib/cli.js"})
    registry.add("@demo/native-linux-x64", "2.0.0", {"bin/native": "#!/bin/sh\nkill -ILL $$\n"})  # wants more of the processor
    registry.add("@demo/native-linux-x64-baseline", "2.0.0", {"bin/native": "#!/bin/sh\necho 2.0.0 $*\n"})
    needs = {"@demo/native-linux-x64": "2.0.0", "@demo/native-linux-x64-baseline": "2.0.0"}
    registry.add("@demo/native", "2.0.0", {"cli.js": "process.exit(1)"}, needs=needs, bin={"native": "cli.js"})
    variants = ("@demo/either-linux-x64", "@demo/either-linux-x64-baseline")
    for variant in variants:
        registry.add(variant, "3.0.0", {"bin/either": "#!/bin/sh\necho 3.0.0\n"})
    registry.add("@demo/either", "3.0.0", {}, needs=dict.fromkeys(variants, "3.0.0"))
    monkeypatch.setenv("npm_config_registry", registry.url)
    yield registry
    registry.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="asynccode-tests-", dir="/var/tmp"))
    folder.chmod(0o711)
    (folder / "here").mkdir(0o755)
    bring_node(folder / "here")
    yield folder
    shutil.rmtree(folder)


def build(package: Package, root: Path, registry: Registry) -> subprocess.CompletedProcess[str]:
    """Run the recipe as the builder of an image does, with Node and npm on the PATH."""
    node = install.ensure_node(installed(), lambda percent, text: None)
    tools = root.parent / "tools"
    tools.mkdir(exist_ok=True)
    for name, argv in (("node", f'"{node.program}"'), ("npm", f'"{node.program}" "{node.npm}"')):
        (tools / name).write_text(f'#!/bin/sh\nexec {argv} "$@"\n')
        (tools / name).chmod(0o755)
    env = {"PATH": f"{tools}:/usr/bin:/bin", "npm_config_registry": registry.url}
    script = " && ".join(recipe.commands(package, str(root)))
    return subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=False, env=env, timeout=120)


def tree(folder: Path) -> dict[str, str]:
    """Path → what is there, except Node itself and npm's own notes."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if name in ("bin/node", "node_modules/.package-lock.json"):
            continue
        found[name] = (
            f"→ {path.readlink()}" if path.is_symlink() else f"{path.stat().st_mode:o} " + (path.read_text() if path.is_file() else "")
        )
    return found


@pytest.mark.parametrize("package", [DEMO, NATIVE, EITHER], ids=["for Node", "native", "native, several that work"])
def test_an_image_gets_the_same_layout_as_this_machine(registry: Registry, folder: Path, package: Package) -> None:
    here = install.put(package, folder / "here", lambda percent, text: None, Sandboxed(folder / "here"))
    done = build(package, folder / "there", registry)
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(folder / "there" / package.name / package.version) == tree(here)
    assert install.is_installed(package, folder / "there")


@pytest.mark.parametrize("package", [DEMO, NATIVE], ids=["for Node", "native"])
def test_its_program_is_found_by_name_too(registry: Registry, folder: Path, package: Package) -> None:
    build(package, folder / "there", registry)
    env = {"PATH": f"{folder}/there/bin:/usr/bin:/bin"}
    said = subprocess.run([package.program, "--version", "a b"], capture_output=True, text=True, check=True, env=env).stdout
    assert said == f"{'demo ' if package is DEMO else ''}{package.version} --version a b\n"


def test_a_program_that_does_not_work_there_ends_the_build_with_a_sentence(registry: Registry, folder: Path) -> None:
    registry.add("@demo/native-linux-x64-baseline", "2.0.0", {"bin/native": "#!/bin/sh\necho no such library; exit 1\n"})
    done = build(NATIVE, folder / "there", registry)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("native 2.0.0 does not work here")


def test_what_is_damaged_ends_the_build(registry: Registry, folder: Path) -> None:
    registry.damage = True
    done = build(DEMO, folder / "there", registry)
    assert done.returncode != 0
    assert "EINTEGRITY" in done.stderr


def test_every_package_lies_where_adapters_start_it() -> None:
    for package in PACKAGES.values():
        *_, leads_on_path = [line for line in recipe.commands(package) if "exec" in line]
        assert f"cd {package.path.rsplit('/', 2)[0]}" in recipe.commands(package)
        assert f"exec {package.path} " in leads_on_path
