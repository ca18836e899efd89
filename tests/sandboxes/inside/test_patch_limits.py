"""What is left out of a patch is named; the rest is exact."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandboxes.inside._patch_lab import Bench, Lab, make

NOBODY = 65534
LARGE_BASE = """
head -c 3000 /dev/urandom > big.bin; seq 2000 > big.txt; head -c 3000 /dev/zero > zero.bin; printf 'a\\n%.0s' $(seq 1500) > crlf.big
echo small > small; printf '*.big text eol=crlf\\n' > .gitattributes; mkdir d; for i in 1 2 3 4; do seq 400 > d/$i; done
git add -A; git commit -q -m base
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), LARGE_BASE)


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return lab.bench().checkout()


def left_out(told: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(entry["path"], entry["bytes"], entry["reason"]) for entry in told["left_out"]]


@pytest.mark.parametrize("is_trusting", [True, False])
def test_new_and_changed_files_over_the_limit_stay_as_in_the_base(bench: Bench, is_trusting: bool) -> None:
    maker = bench.maker(is_trusting=is_trusting, max_file_bytes=1000)
    rest = "echo more >> small; echo new > new; rm zero.bin; "
    bench.run(
        rest + "head -c 1001 /dev/zero > large; echo x >> big.bin; mkdir n; head -c 2000 /dev/zero > n/deep; head -c 1000 /dev/zero > fits"
    )
    told, patch = make(maker.final)
    assert left_out(told) == [("big.bin", 3002, "size"), ("large", 1001, "size"), ("n/deep", 2000, "size")]
    assert told["tree"] == bench.plain(rest + "head -c 1000 /dev/zero > fits") == bench.applied(patch)


@pytest.mark.parametrize("is_trusting", [True, False])
def test_large_files_that_only_look_changed_are_not_named(lab: Lab, bench: Bench, is_trusting: bool) -> None:
    maker = bench.maker(is_trusting=is_trusting, max_file_bytes=1000)
    bench.run("touch -d 2001-01-01 big.bin; cp big.txt t; mv t big.txt")
    told, patch = make(maker.final)
    assert (left_out(told), patch, told["tree"]) == ([], b"", lab.base_tree)


def test_large_file_that_shrinks_or_goes_is_in_the_patch(bench: Bench) -> None:
    maker = bench.maker(max_file_bytes=1000)
    script = "echo short > big.txt; rm big.bin; rm zero.bin; ln -s small zero.bin"
    bench.run(script)
    told, patch = make(maker.final)
    assert left_out(told) == []
    assert told["tree"] == bench.plain(script) == bench.applied(patch)


def test_large_file_in_place_of_a_folder_and_the_other_way(bench: Bench) -> None:
    maker = bench.maker(max_file_bytes=1000)
    bench.run("rm -r d; head -c 2000 /dev/zero > d; rm small; mkdir small; head -c 3000 /dev/zero > small/large; echo s > small/s")
    told, patch = make(maker.final)
    assert left_out(told) == [("d", 2000, "size"), ("small/large", 3000, "size")]
    assert told["tree"] == bench.plain("rm -r d small; mkdir small; echo s > small/s") == bench.applied(patch)


def test_limits_may_be_set_anew(bench: Bench) -> None:
    maker = bench.maker(max_file_bytes=10)
    bench.run("head -c 50 /dev/zero > n")
    assert left_out(make(maker.final)[0]) == [("n", 50, "size")]
    maker.max_file_bytes = 50
    assert left_out(make(maker.final)[0]) == []


def test_largest_are_left_out_until_the_rest_fits(bench: Bench) -> None:
    maker = bench.maker(max_patch_bytes=10000)
    bench.run("for n in 3000 5000 4000 2999; do head -c $n /dev/zero > n$n; done")
    told, patch = make(maker.final)
    assert left_out(told) == [("n5000", 5000, "total")]
    assert bench.applied(patch) == told["tree"]


def test_patch_itself_keeps_to_the_limit_also_where_it_is_longer_than_its_files(bench: Bench) -> None:
    maker = bench.maker(max_patch_bytes=10000)
    bench.run("for n in 3000 3001 3500; do head -c $n /dev/urandom > n$n; done")
    told, patch = make(maker.final)
    assert left_out(told) == [("n3500", 3500, "total")]
    assert len(patch) == told["bytes"] <= 10000
    assert bench.applied(patch) == told["tree"]


def test_patch_itself_keeps_to_the_limit_also_by_what_it_deletes(bench: Bench) -> None:
    maker = bench.maker(max_patch_bytes=5000)
    bench.run("rm big.txt; rm -r d; echo x >> small")
    told, patch = make(maker.final)
    assert len(patch) == told["bytes"] <= 5000
    assert ("big.txt", 0, "total") in left_out(told)
    assert {reason for _, _, reason in left_out(told)} == {"total"}
    assert b"+x" in patch
    assert bench.applied(patch) == told["tree"]


def test_limit_of_nothing_leaves_everything_out(lab: Lab, bench: Bench) -> None:
    maker = bench.maker(max_patch_bytes=0)
    bench.run("echo x > x; : > empty; rm small; chmod +x big.txt; ln -s a b")
    told, patch = make(maker.final)
    assert (patch, told["tree"]) == (b"", lab.base_tree)
    assert [path for path, _, _ in left_out(told)] == ["b", "big.txt", "empty", "small", "x"]


def test_names_that_are_no_utf8_are_named_readably(bench: Bench) -> None:
    maker = bench.maker(max_file_bytes=1000)
    bench.run("head -c 2000 /dev/zero > $'caf\\xe9'")
    told, _ = make(maker.final)
    assert left_out(told) == [("caf\ufffd", 2000, "size")]


def as_nobody(main: Callable[[], object]) -> Any:
    """What `main` gives as an account that file modes bind, as JSON; the test's own account where that is no root."""
    if os.getuid() != 0:
        return main()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writer, json.dumps(main()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return json.loads(answer)


@pytest.fixture
def open_lab() -> Iterator[Lab]:
    """A lab that other accounts reach."""
    root = Path(tempfile.mkdtemp(prefix="patch-lab-", dir="/var/tmp"))
    root.chmod(0o755)
    yield Lab(root, LARGE_BASE)
    shutil.rmtree(root)


def test_unreadable_files_and_folders_stay_as_in_the_base(open_lab: Lab) -> None:
    bench = open_lab.bench()
    for folder in (bench.root, bench.workspace, bench.home, bench.scratch):
        os.chmod(folder, 0o755)
        if os.getuid() == 0:
            os.chown(folder, NOBODY, NOBODY)

    def main() -> Any:
        bench.checkout()
        maker = bench.maker()
        (bench.workspace / "small").write_text("secret")
        for name in ("small", "new", "shut/x", "d/1"):
            path = bench.workspace / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("changed")
        (bench.workspace / "d/2").unlink()
        (bench.workspace / "ok").write_text("ok")
        modes = {"small": 0, "new": 0o200, "shut": 0, "d": 0o300, ".": 0o755}
        for name, mode in modes.items():
            os.chmod(bench.workspace / name, mode)
        try:
            return make(maker.final)[0], make(bench.maker(is_trusting=False).checkpoint)[0]
        finally:
            for name in modes:
                os.chmod(bench.workspace / name, 0o700)

    trusted, untrusted = as_nobody(main)
    assert sorted((path, reason) for path, _, reason in left_out(trusted)) == [
        ("d/", "unreadable"),
        ("new", "unreadable"),
        ("shut/", "unreadable"),
        ("small", "unreadable"),
    ]
    assert untrusted["left_out"] == trusted["left_out"]
    assert untrusted["tree"] == trusted["tree"]
    assert trusted["tree"] == bench.plain("printf ok > ok; printf changed > d/1")
