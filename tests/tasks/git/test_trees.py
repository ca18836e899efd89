"""A patch becomes the tree of the workspace it was made in, and git is asked about trees."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import AppError, RepoUnavailable
from tasks.git import mirrors, trees
from tasks.git.changes import Change, Hunk, Status, attribute_files, attributes, blobs, changes, contents, hunks
from tasks.git.trees import TreesLost, has, place_of, tree_of

HOSTILE_NAMES = [b"a b", "é\n\t\"'".encode(), b"\xff\xfe", b"-x", b":(top)y", b"dir\rx/blob y"]


class Lab:
    """alice's repository and our mirror of it; `change` makes a patch as sandboxes do, and tells the workspace's own tree."""

    def __init__(self, origin, mirror: Path) -> None:
        self.origin, self.mirror = origin, mirror

    def base(self, **files: bytes) -> str:
        for name, content in files.items():
            self.write(name, content)
        self.origin.git("add", "-A")
        self.origin.git("commit", "-q", "--allow-empty", "-m", "base")
        self.commit = self.origin.git("rev-parse", "HEAD")
        mirrors.ensure(self.mirror, self.origin.source, timeout=30)
        return self.commit

    def path(self, name: str | bytes) -> bytes:
        return os.path.join(os.fsencode(self.origin.folder), os.fsencode(name))

    def write(self, name: str | bytes, content: bytes) -> None:
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(content)

    def change(self) -> tuple[bytes, str]:
        """The work tree as a patch, and as `git write-tree` names it; the work tree is the base's again afterwards."""
        self.origin.git("add", "-A")
        patch = subprocess.run(
            ["git", "diff", "--cached", "--binary", "--full-index", "HEAD"], cwd=self.origin.folder, capture_output=True, check=True
        ).stdout
        tree = self.origin.git("write-tree")
        self.origin.git("reset", "-q", "--hard")
        return patch, tree

    def tree(self) -> str:
        patch, expected = self.change()
        made = tree_of(self.mirror, base_commit=self.commit, patch=patch)
        assert made == expected
        return made

    def changes(self) -> dict[str, Change]:
        return {change.path: change for change in changes(self.mirror, self.commit, self.tree())}


@pytest.fixture
def lab(origin, mirror: Path) -> Lab:
    return Lab(origin, mirror)


# --- trees --------------------------------------------------------------------------------------------------------


def test_a_patch_gives_the_tree_of_its_workspace_and_the_mirror_stays_as_it_was(lab: Lab) -> None:
    lab.base(a=b"1\n2\n", b=b"\0\1", run=b"x")
    before = sorted(path for path in lab.mirror.rglob("*") if path.is_file())
    lab.write("a", b"1\r\n2")
    lab.write("b", b"\0\2")
    lab.write("new/f", b"")
    os.chmod(lab.path("run"), 0o755)
    os.symlink("a", lab.path("link"))
    for name in HOSTILE_NAMES:
        lab.write(name, name)
    tree = lab.tree()
    assert has(lab.mirror, tree)
    assert sorted(path for path in lab.mirror.rglob("*") if path.is_file()) == before
    assert set(place_of(lab.mirror).rglob("index*")) == set()


def test_an_empty_patch_gives_the_base_tree(lab: Lab) -> None:
    commit = lab.base(a=b"1\n")
    tree = tree_of(lab.mirror, base_commit=commit, patch=b"")
    assert changes(lab.mirror, commit, tree) == []


def test_many_at_once_make_one_repository(lab: Lab) -> None:
    lab.base(a=b"1\n")
    lab.write("a", b"2\n")
    patch, expected = lab.change()
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(tree_of(lab.mirror, base_commit=lab.commit, patch=patch))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 6
    assert [path.name for path in lab.mirror.parent.glob("7.trees.git*")] == ["7.trees.git"]


@pytest.mark.parametrize("harm", ["deleted", "emptied", "torn", "cut off"])
def test_what_was_deleted_or_damaged_is_made_anew(lab: Lab, harm: str) -> None:
    lab.base(a=b"1\n")
    lab.write("a", b"2\n")
    patch, tree = lab.change()
    tree_of(lab.mirror, base_commit=lab.commit, patch=patch)
    place = place_of(lab.mirror)
    if harm == "deleted":
        shutil.rmtree(place)
    elif harm == "emptied":
        (place / "HEAD").unlink()
    elif harm == "torn":
        torn = place / "objects" / tree[:2] / tree[2:]
        torn.chmod(0o600)
        torn.write_bytes(b"")
    else:
        (place / "objects/info/alternates").unlink()
    with pytest.raises(TreesLost):
        changes(lab.mirror, lab.commit, tree)
    assert tree_of(lab.mirror, base_commit=lab.commit, patch=patch) == tree
    assert [change.path for change in changes(lab.mirror, lab.commit, tree)] == ["a"]


def test_a_base_commit_that_is_gone_and_a_patch_that_does_not_fit_are_told(lab: Lab) -> None:
    lab.base(a=b"1\n")
    lab.write("a", b"2\n")
    patch, _ = lab.change()
    with pytest.raises(RepoUnavailable, match="no longer has the commit"):
        tree_of(lab.mirror, base_commit="1" * 40, patch=patch)
    with pytest.raises(AppError, match="does not fit"):
        tree_of(lab.mirror, base_commit=lab.commit, patch=patch.replace(b"-1", b"-7"))


def test_trees_go_with_their_mirror(lab: Lab) -> None:
    lab.base(a=b"1\n")
    tree_of(lab.mirror, base_commit=lab.commit, patch=b"")
    mirrors.remove(lab.mirror)
    assert not place_of(lab.mirror).exists()
    trees.forget(lab.mirror)  # twice is fine


def test_a_repository_of_sha256_has_trees_too(make_origin, mirror: Path) -> None:
    lab = Lab(make_origin("long", "--object-format=sha256"), mirror)
    lab.base(a=b"1\n")
    lab.write("a", b"2\n")
    (change,) = lab.changes().values()
    assert hunks(mirror, [(change.old_blob, change.new_blob)]) == [[Hunk(0, 1, 0, 1)]]


# --- what differs -------------------------------------------------------------------------------------------------


def test_every_kind_of_change_is_told(lab: Lab) -> None:
    long = b"".join(b"line %d\n" % n for n in range(40))
    lab.base(gone=b"1\n2\n", kept=b"1\n", run=b"x\n", moved=long, was_link=b"", bin=b"\0\1", same=b"s\n")
    os.remove(lab.path("gone"))
    os.remove(lab.path("moved"))
    os.remove(lab.path("was_link"))
    os.symlink("kept", lab.path("was_link"))
    lab.write("sub/moved", long + b"more\n")
    lab.write("kept", b"1\n2\n")
    lab.write("bin", b"\0\2")
    os.chmod(lab.path("run"), 0o755)
    lab.origin.git("update-index", "--add", "--cacheinfo", f"160000,{'3' * 40},module")
    os.mkdir(lab.path("module"))
    found = lab.changes()
    assert {path: change.status for path, change in found.items()} == {
        "gone": Status.DELETED,
        "kept": Status.MODIFIED,
        "run": Status.MODE,
        "sub/moved": Status.RENAMED,
        "was_link": Status.TYPE,
        "bin": Status.MODIFIED,
        "module": Status.ADDED,
    }
    assert (found["sub/moved"].old_path, found["sub/moved"].additions, found["sub/moved"].similarity > 90) == ("moved", 1, True)
    assert (found["gone"].deletions, found["gone"].new_mode, found["gone"].new_blob) == (2, "", "")
    assert (found["run"].old_mode, found["run"].new_mode) == ("100644", "100755")
    assert found["bin"].is_binary
    assert found["module"].is_submodule
    assert found["module"].new_blob == "3" * 40
    assert found["was_link"].is_symlink


def test_names_that_mean_something_to_git_or_are_no_text_are_told_as_they_are(lab: Lab) -> None:
    lab.base()
    for name in HOSTILE_NAMES:
        lab.write(name, b"x\n")
    assert {os.fsencode(path) for path in lab.changes()} == set(HOSTILE_NAMES)


def test_two_runs_are_compared_as_any_two_trees(lab: Lab) -> None:
    lab.base(a=b"1\n", b=b"1\n")
    lab.write("a", b"2\n")
    one = lab.tree()
    lab.write("b", b"2\n")
    other = lab.tree()
    assert [change.path for change in changes(lab.mirror, one, other)] == ["a", "b"]


def test_whitespace_can_be_ignored(lab: Lab) -> None:
    lab.base(a=b"if x:\n  y\nz = 1\n")
    lab.write("a", b"if x:\n    y\nz=1\n")
    (change,) = lab.changes().values()
    pair = [(change.old_blob, change.new_blob)]
    assert hunks(lab.mirror, pair) == [[Hunk(1, 3, 1, 3, "if x:")]]
    assert hunks(lab.mirror, pair, whitespace="amount") == [[Hunk(2, 3, 2, 3, "if x:")]]
    assert hunks(lab.mirror, pair, whitespace="all") == [[]]


_LINES = st.lists(
    st.sampled_from([b"a", b"b", b"\\ No newline at end of file", b"@@ -1 +1 @@", b"diff --git a/000001 b/000001", b"", b"\r"]), max_size=9
)
_TEXT = st.builds(lambda lines, end: b"\n".join(lines) + end, _LINES, st.sampled_from([b"", b"\n"]))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=12))
def test_hunks_of_many_pairs_turn_the_old_lines_into_the_new_ones(lab: Lab, texts: list[tuple[bytes, bytes]]) -> None:
    if not hasattr(lab, "commit"):
        lab.base()
    for number, (old, new) in enumerate(texts):
        lab.write(f"{number}.old", old)
        lab.write(f"{number}.new", new)
    tree = lab.tree()
    ids = {change.path: change.new_blob for change in changes(lab.mirror, lab.commit, tree)}
    found = hunks(lab.mirror, [(ids[f"{number}.old"], ids[f"{number}.new"]) for number in range(len(texts))])
    for (old, new), of_pair in zip(texts, found, strict=True):
        assert of_pair is not None
        old_lines, new_lines = (_split(text) for text in (old, new))
        made, at = [], 0
        for hunk in of_pair:
            made += old_lines[at : hunk.old_start] + new_lines[hunk.new_start : hunk.new_end]
            at = hunk.old_end
        assert made + old_lines[at:] == new_lines


def _split(text: bytes) -> list[bytes]:
    lines = text.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def test_contents_come_up_to_a_size_and_what_is_no_blob_is_left_out(lab: Lab) -> None:
    lab.base()
    lab.write("small", b"x\n\0")
    lab.write("large", b"y" * 1000)
    found = lab.changes()
    small, large = found["small"].new_blob, found["large"].new_blob
    known = blobs(lab.mirror, [small, large, "4" * 40, f"{lab.commit}:file.txt", f"{lab.commit}:no such", ""])
    assert {name: size for name, (_, size) in known.items()} == {small: 3, large: 1000, f"{lab.commit}:file.txt": 5}
    assert contents(lab.mirror, {small: 3, large: 1000}, most=500) == {small: b"x\n\0"}
    assert (blobs(lab.mirror, []), contents(lab.mirror, {}, most=500)) == ({}, {})


def test_a_file_that_was_lost_makes_the_trees_anew(lab: Lab) -> None:
    lab.base()
    lab.write("a", b"x\n")
    blob = lab.changes()["a"].new_blob
    (place_of(lab.mirror) / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(TreesLost):
        contents(lab.mirror, {blob: 2}, most=500)
    assert not place_of(lab.mirror).exists()


def test_attributes_are_those_of_the_tree(lab: Lab) -> None:
    files = [b"*.gen linguist-generated\n*.dat -diff\n", b"*.gen -linguist-generated\n/x* linguist-vendored=true\n"]
    lab.base(**{".gitattributes": files[0], ".github/.gitattributes": files[1], "dir\rx/blob y": b""})
    paths = ["a.gen", "a.dat", ".github/b.gen", ".github/x", "plain", "no\nline/c.gen", "dir\rx/blob y"]

    def of(tree: str) -> dict[str, dict[str, str]]:
        names = attribute_files(tree, paths)
        known = blobs(lab.mirror, names.values())
        its = {path: known[name] for path, name in names.items() if name in known}
        return attributes(lab.mirror, its, paths, ["linguist-generated", "linguist-vendored", "diff"])

    assert of(lab.commit) == {
        "a.gen": {"linguist-generated": "set"},
        "no\nline/c.gen": {"linguist-generated": "set"},
        "a.dat": {"diff": "unset"},
        ".github/b.gen": {"linguist-generated": "unset"},
        ".github/x": {"linguist-vendored": "true"},
    }
    os.remove(lab.path(".gitattributes"))
    os.remove(lab.path(".github/.gitattributes"))
    assert of(lab.tree()) == {}
