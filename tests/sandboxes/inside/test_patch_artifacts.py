"""A folder `artifacts` at the top is kept outside the patch, unless it is the repository's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sandboxes.inside._patch_lab import Lab, make

# what a run does, and what of it `git add` would see without the convention
CASES = {
    "a file": ("mkdir artifacts; echo 1 > artifacts/report", ":"),
    "much in it": ("mkdir -p artifacts/a/b; echo '*' > artifacts/.gitattributes; git init -q artifacts/n; echo 1 > artifacts/n/x", ":"),
    "a pipe for git to wait at": ("mkdir artifacts; mkfifo artifacts/.gitignore", ":"),
    "closed to us": ("mkdir artifacts; echo 1 > artifacts/a; chmod 0 artifacts", ":"),
    "beside a change": ("mkdir artifacts; echo 1 > artifacts/a; echo 2 > new", "echo 2 > new"),
    "not at the top": ("mkdir src/artifacts; echo 1 > src/artifacts/a", "mkdir src/artifacts; echo 1 > src/artifacts/a"),
    "a name that begins so": ("mkdir artifacts2; echo 1 > artifacts2/a", "mkdir artifacts2; echo 1 > artifacts2/a"),
    "another case": ("mkdir Artifacts; echo 1 > Artifacts/a", "mkdir Artifacts; echo 1 > Artifacts/a"),
    "a file of this name": ("echo 1 > artifacts", "echo 1 > artifacts"),
    "a link of this name": ("ln -s src artifacts", "ln -s src artifacts"),
    "in the agent's own commit": ("mkdir artifacts; echo 1 > artifacts/a; git add -A; git commit -q -m x", ":"),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A repository that has such a folder."""
    script = "mkdir artifacts; echo 1 > artifacts/of-the-repository; echo x > a; git add -A; git commit -q -m x; git branch other"
    return Lab(tmp_path_factory.mktemp("owner"), script)


@pytest.mark.parametrize("name", CASES)
def test_it_is_kept_outside(lab: Lab, name: str) -> None:
    script, plain = CASES[name]
    bench = lab.bench().checkout()
    maker = bench.maker()
    bench.run(f"git config user.name a; git config user.email a@b; {script}")
    told, patch = make(maker.checkpoint)
    assert told["tree"] == bench.plain(plain)
    assert make(maker.final) == (told, patch)
    assert told["left_out"] == []
    assert bench.applied(patch) == told["tree"]
    (bench.workspace / "artifacts").chmod(0o700) if name == "closed to us" else None


@pytest.mark.parametrize(
    "script",
    [
        "echo 2 >> artifacts/of-the-repository; echo new > artifacts/new; mkdir artifacts/deep; echo 3 > artifacts/deep/3",
        "rm -r artifacts",
        "rm -r artifacts; mkdir artifacts; echo new > artifacts/new",
    ],
)
def test_a_repository_that_has_one_keeps_it_as_any_other(owner: Lab, script: str) -> None:
    bench = owner.bench().checkout()
    maker = bench.maker()
    bench.run(script)
    assert make(maker.final)[0]["tree"] == bench.plain(script)


def test_a_file_of_this_name_in_the_base_is_not_hidden_by_a_folder(tmp_path: Path) -> None:
    lab = Lab(tmp_path, "echo 1 > artifacts; git add -A; git commit -q -m x; git branch other")
    bench = lab.bench().checkout()
    maker = bench.maker()
    script = "rm artifacts; mkdir artifacts; echo 1 > artifacts/a"
    bench.run(script)
    assert make(maker.final)[0]["tree"] == bench.plain(script)
