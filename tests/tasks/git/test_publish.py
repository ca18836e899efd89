"""A patch becomes a commit on a branch of a real git server, once, whatever happens on the way."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.errors import AppError, BranchMissing, InvalidInput, RepoUnavailable
from tasks.git import mirrors
from tasks.git.clones import Author, clone
from tasks.git.conflicts import Conflicts
from tasks.git.publish import NothingToPublish, publish
from tasks.git.refusals import BranchMoved, PublishRefused, TokenRefused
from tasks.git.remotes import Remote

ALICE = Author("Alice", "alice@example.org")
AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
BRANCH = "asynccode/1-fix-claude-1"
TOKEN = "ghp_SecretOfAlice0123456789"


class Scene:
    """alice's repository, our mirror of it, and patches as a sandbox makes them."""

    def __init__(self, origin, mirror, server, folder):
        self.origin, self.mirror, self.server, self.folder = origin, mirror, server, folder
        self.source = server.source(f"{origin.folder.name}/.git")
        self.scratch = folder / "scratch"
        for name in ("a.txt", "b.txt"):
            origin.commit("".join(f"{name} {n}\n" for n in range(12)), name=name)
        self.base = origin.git("rev-parse", "HEAD")
        mirrors.ensure(mirror, self.source, timeout=20)

    def patch(self, *, base="", **files):
        """The patch in which these files (`a` is a.txt) have other contents; None deletes one."""
        self.origin.git("checkout", "-q", "--detach", base or self.base)
        for name, text in files.items():
            path = self.origin.folder / f"{name}.txt"
            path.unlink() if text is None else path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.origin.git("add", "-A")
        self.tree = self.origin.git("write-tree")
        patch = raw(self.origin, "diff", "--cached", "--binary", "HEAD")
        self.origin.git("reset", "-q", "--hard")
        self.origin.git("checkout", "-q", "main")
        return patch

    def arguments(self, patch, **changed):
        fixed = {"base_commit": self.base, "base_branch": "main", "branch": BRANCH, "message": "Fix it", "author": ALICE, "at": AT}
        return {**fixed, "patch": patch, "scratch": self.scratch, "timeout": 20, **changed}

    def publish(self, patch, **changed):
        return publish(self.mirror, self.source, **self.arguments(patch, **changed))

    @property
    def branches(self):
        listing = self.origin.git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads")
        return dict(line.split() for line in listing.splitlines())

    def tree_of(self, commit):
        return self.origin.git("rev-parse", f"{commit}^{{tree}}")


def raw(origin, *args):
    return subprocess.run(["git", *args], cwd=origin.folder, capture_output=True, check=True).stdout


def lines(name, **changed):
    return "".join(changed.get(f"l{n}", f"{name} {n}\n") for n in range(12))


@pytest.fixture
def scene(origin, mirror, server, tmp_path):
    return Scene(origin, mirror, server, tmp_path)


# --- what is pushed


def test_a_patch_becomes_one_commit_on_a_branch(scene):
    patch = scene.patch(a="other\n", new="new\n")
    bob, odd = Author("Bob", "bob@example.org"), Author("Eve <eve@example.org>\nSigned-off-by: x", "eve>@example.org")
    published = scene.publish(patch, message="Fix it\n\nAt length.", co_authors=[bob, bob, odd])
    assert (published.base, published.is_rebased, published.was_there) == (scene.base, False, False)
    assert scene.branches[BRANCH] == published.commit
    assert scene.tree_of(BRANCH) == scene.tree
    assert scene.origin.git("show", "-s", "--format=%P|%an <%ae>|%cn <%ce>|%aI|%cI|%B", BRANCH) == (
        f"{scene.base}|Alice <alice@example.org>|Alice <alice@example.org>|2026-03-01T12:30:00+00:00|2026-03-01T12:30:00+00:00|"
        "Fix it\n\nAt length.\n\nCo-authored-by: Bob <bob@example.org>\n"
        "Co-authored-by: Eve eve@example.orgSigned-off-by: x <eve@example.org>"
    )
    assert list(scene.scratch.iterdir()) == []


def test_the_same_call_gives_the_same_commit_and_pushes_once(scene):
    patch = scene.patch(a="other\n")
    first = scene.publish(patch)
    again = scene.publish(patch)
    assert (again.commit, again.base, again.was_there) == (first.commit, scene.base, True)
    assert scene.server.pushes == 1
    scene.origin.git("branch", "-D", BRANCH)
    assert scene.publish(patch) == first


@pytest.mark.parametrize("patch", [b"", b"\n"])
def test_an_empty_patch_is_nothing_to_publish(scene, patch):
    with pytest.raises(NothingToPublish, match="nothing to publish: this run has changed no files"):
        scene.publish(patch)
    assert scene.server.pushes == 0


def test_odd_names_and_messages_are_made_fit_for_git(scene):
    patch = scene.patch(a="other\n")
    scene.publish(patch, author=Author("\x00<>\n", "carol@example.org"), message="\x00 \ud800\r\n# not a comment\r\n---\nx")
    assert scene.origin.git("show", "-s", "--format=%an <%ae>|%B", BRANCH) == "carol <carol@example.org>|?\n# not a comment\n---\nx"


class Trees:
    """Trees put together by hand, so that nothing converts what is in them."""

    def __init__(self, origin):
        self.origin = origin

    def make(self, entries):
        self.origin.git("read-tree", "--empty")
        for path, (mode, content) in entries.items():
            object_id = content
            if mode != "160000":
                args = ["git", "hash-object", "-w", "--no-filters", "--stdin"]
                object_id = (
                    subprocess.run(args, cwd=self.origin.folder, input=content, capture_output=True, check=True).stdout.decode().strip()
                )
            self.origin.git("update-index", "--add", "--cacheinfo", f"{mode},{object_id},{path}")
        return self.origin.git("write-tree")


ATTRIBUTES = b"* text=auto eol=crlf\n*.bin filter=lfs diff=lfs merge=lfs -text\n*.id ident\n*.u16 working-tree-encoding=UTF-16\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 5\n"


def test_the_branch_fetched_by_plain_git_has_exactly_the_patch_s_tree(scene, tmp_path):
    trees, kept = Trees(scene.origin), scene.origin.git("rev-parse", "HEAD")
    before = {
        ".gitattributes": ("100644", ATTRIBUTES),
        ".gitmodules": ("100644", b'[submodule "sub"]\n\tpath = sub\n\turl = ../sub\n'),
        "crlf.txt": ("100644", b"one\r\ntwo\r\nthree\r\n"),
        "mixed.txt": ("100644", b"one\r\ntwo\nthree\r"),
        "big.bin": ("100644", POINTER % (b"a" * 64)),
        "same.bin": ("100644", POINTER % (b"b" * 64)),
        "x.id": ("100644", b"$Id: 12 $\n"),
        "run.sh": ("100644", b"#!/bin/sh\n"),
        "link": ("120000", b"crlf.txt"),
        "image": ("100644", bytes(range(256)) * 4),
        "gone": ("100644", b"gone\n"),
        "sub": ("160000", "1" * 40),
        "moved/deep/file": ("100644", b"a\n" * 50),
        "was a file": ("100644", b"x"),
    }  # fmt: skip
    after = {
        **{path: entry for path, entry in before.items() if path not in ("gone", "moved/deep/file", "was a file")},
        "crlf.txt": ("100644", b"one\r\n2\r\nthree\r\nfour"),
        "mixed.txt": ("100644", b"one\ntwo\r\nthree\r"),
        "big.bin": ("100644", POINTER % (b"c" * 64)),
        "x.id": ("100644", b"$Id$ \t \n\n\n"),
        "run.sh": ("100755", b"#!/bin/sh\n"),
        "link": ("120000", b"../etc/passwd"),
        "image": ("100644", bytes(reversed(range(256))) * 5),
        "t.u16": ("100644", b"plain\n"),
        "empty": ("100755", b""),
        "moved/else/fil\u00e9 \"quoted\"\t": ("100644", b"a\n" * 50 + b"b\n"),
        "was a file/now a folder": ("120000", b"x"),
        "random": ("100644", os.urandom(3 * 2**20)),
    }  # fmt: skip
    base_tree, tree = trees.make(before), trees.make(after)
    base = scene.origin.git("commit-tree", base_tree, "-p", kept, "-m", "odd")
    scene.origin.git("branch", "odd", base)
    patch = raw(scene.origin, "diff", "--binary", "--full-index", "--no-ext-diff", "--no-textconv", base_tree, tree)
    scene.publish(patch, base_commit=base, base_branch="odd")
    plain = tmp_path / "plain"
    subprocess.run(["git", "init", "-q", "--bare", plain], check=True)
    subprocess.run(["git", "fetch", "-q", scene.source.url, BRANCH], cwd=plain, check=True)
    fetched = subprocess.run(["git", "rev-parse", "FETCH_HEAD^{tree}"], cwd=plain, capture_output=True, check=True).stdout.decode().strip()
    assert fetched == tree


def test_nothing_of_the_repository_is_run_and_no_patch_reaches_git_itself(scene, tmp_path):
    witness = tmp_path / "witness"
    evil = (
        "diff --git a/.git/hooks/pre-push b/.git/hooks/pre-push\nnew file mode 100755\n--- /dev/null\n+++ b/.git/hooks/pre-push\n"
        f"@@ -0,0 +1 @@\n+touch {witness}\n"
    )
    for path in (".git/hooks/pre-push", "../outside", "/etc/outside"):
        with pytest.raises(AppError, match="does not fit the commit"):
            scene.publish(evil.replace(".git/hooks/pre-push", path).encode())
    (scene.origin.folder / ".gitattributes").write_text("* filter=evil merge=evil\n")
    scene.origin.commit("x", name="x.txt")
    scene.publish(scene.patch(a="other\n"))
    assert not witness.exists()
    assert not (scene.scratch / "outside").exists()


# --- the base branch has moved on


def test_on_a_base_branch_that_moved_on_the_patch_is_rebased(scene):
    patch = scene.patch(a=lines("a.txt", l1="mine\n"))
    newest = scene.origin.commit(lines("a.txt", l10="theirs\n"), name="a.txt")
    published = scene.publish(patch)
    assert (published.base, published.is_rebased) == (newest, True)
    assert scene.origin.git("rev-parse", f"{BRANCH}^") == newest
    assert scene.origin.git("show", f"{BRANCH}:a.txt") == lines("a.txt", l1="mine\n", l10="theirs\n").strip()


def test_what_was_pushed_before_the_base_branch_moved_is_recognized(scene):
    patch = scene.patch(a=lines("a.txt", l1="mine\n"))
    scene.origin.commit("second", name="c.txt")
    first = scene.publish(patch)
    scene.origin.commit("third", name="c.txt")
    again = scene.publish(patch)
    assert (again.commit, again.base, again.is_rebased, again.was_there) == (first.commit, first.base, True, True)
    assert scene.server.pushes == 1


def test_a_base_branch_that_was_forced_elsewhere_gets_the_changes_alone(scene):
    patch = scene.patch(b=lines("b.txt", l1="mine\n"))
    scene.origin.git("reset", "-q", "--hard", "HEAD~2")
    newest = scene.origin.commit(lines("b.txt"), name="b.txt")
    assert scene.publish(patch).base == newest
    assert scene.origin.git("ls-tree", "--name-only", BRANCH).split() == ["b.txt", "file.txt"]


def test_conflicts_name_their_paths_and_hold_what_conflicts(scene):
    patch = scene.patch(a=lines("a.txt", l5="mine\n"), b="mine\n", file=bytes(range(256)), new="new\n")
    scene.origin.commit(lines("a.txt", l5="theirs\n"), name="a.txt")
    (scene.origin.folder / "b.txt").unlink()
    (scene.origin.folder / "file.txt").write_bytes(bytes(reversed(range(256))))
    scene.origin.commit("theirs", name="other.txt")
    with pytest.raises(Conflicts, match=r"what is new on main, in a\.txt, b\.txt, file\.txt\. Send the conflicts to the agent") as caught:
        scene.publish(patch)
    texts = {c.path: c.text for c in caught.value.conflicting}
    assert texts["a.txt"] == "<<<<<<< main\ntheirs\n=======\nmine\n>>>>>>> these changes"
    assert texts["b.txt"].startswith("CONFLICT (modify/delete): b.txt deleted in main and modified in these changes.")
    assert "Cannot merge binary files: file.txt (main vs. these changes)" in texts["file.txt"]
    assert BRANCH not in scene.branches
    published = scene.publish(patch, rebase=False)
    assert (published.base, published.is_rebased) == (scene.base, False)
    assert scene.tree_of(BRANCH) == scene.tree


def test_long_conflicts_are_cut_and_many_are_counted(scene):
    many = {f"f{n}": f"mine {n}\n" for n in range(8)}
    patch = scene.patch(a="m" * 9000, **many)
    for name in many:
        (scene.origin.folder / f"{name}.txt").write_text("theirs\n")
    scene.origin.commit("t" * 9000, name="a.txt")
    with pytest.raises(Conflicts, match=r"f3\.txt and 4 more\. ") as caught:
        scene.publish(patch)
    assert all(len(c.text) <= 4002 for c in caught.value.conflicting)
    assert len(caught.value.conflicting) == 9


def conflict(scene, patch, settled=None):
    with pytest.raises(Conflicts) as caught:
        scene.publish(patch, settled=settled)
    return caught.value


def test_conflicts_that_the_agent_has_settled_are_none_any_more(scene):
    patch = scene.patch(a=lines("a.txt", l5="mine\n"), b=lines("b.txt", l5="mine\n"), file="mine\n", new="mine\n")
    for name in ("a.txt", "b.txt"):
        (scene.origin.folder / name).write_text(lines(name, l5="theirs\n", l0="more of theirs\n"))
    (scene.origin.folder / "file.txt").unlink()
    newest = scene.origin.commit("theirs", name="new.txt")
    found = conflict(scene, patch)
    assert (found.commit, [c.path for c in found.conflicting]) == (newest, ["a.txt", "b.txt", "file.txt", "new.txt"])
    both = {"l0": "more of theirs\n", "l5": "both\n"}
    patch = scene.patch(a=lines("a.txt", **both), b=lines("b.txt", **both), file="mine\n", new="both\n")
    settled = dict.fromkeys(("a.txt", "file.txt", "new.txt"), newest)
    assert [c.path for c in conflict(scene, patch, settled=settled).conflicting] == ["b.txt"]
    scene.origin.commit(lines("a.txt", l0="more of theirs\n", l5="theirs\n", l11="later\n"), name="a.txt")
    settled["b.txt"] = newest
    published = scene.publish(patch, settled=settled)
    assert published.is_rebased
    assert scene.origin.git("show", f"{BRANCH}:a.txt") == lines("a.txt", l11="later\n", **both).strip()
    assert scene.origin.git("show", f"{BRANCH}:b.txt") == lines("b.txt", **both).strip()
    assert scene.origin.git("show", f"{BRANCH}:file.txt", f"{BRANCH}:new.txt") == "mine\nboth"
    assert scene.publish(patch, settled=settled).was_there


def test_a_repository_with_sha_256_is_published_to_like_any_other(make_origin, mirror, server, tmp_path):
    scene = Scene(make_origin("long", "--object-format=sha256"), mirror, server, tmp_path)
    patch = scene.patch(a=lines("a.txt", l1="mine\n"), new=bytes(range(256)))
    newest = scene.origin.commit(lines("a.txt", l1="theirs\n"), name="a.txt")
    assert conflict(scene, patch).commit == newest
    first = scene.publish(patch, settled={"a.txt": newest})
    assert len(first.commit) == 64
    second = scene.publish(scene.patch(a="all mine\n"), previous=first.commit, settled={"a.txt": newest})
    assert scene.origin.git("show", f"{BRANCH}:a.txt") == "all mine"
    assert scene.origin.git("rev-list", f"main..{BRANCH}").split() == [second.commit, first.commit]


def test_what_was_settled_conflicts_again_when_the_base_branch_changes_it_again(scene):
    patch = scene.patch(a=lines("a.txt", l5="both\n"))
    first = scene.origin.commit(lines("a.txt", l5="theirs\n"), name="a.txt")
    second = scene.origin.commit(lines("a.txt", l5="theirs again\n"), name="a.txt")
    assert conflict(scene, patch, settled={"a.txt": first}).commit == second
    assert conflict(scene, patch, settled={"a.txt": "1" * 40, "not/there": first}).commit == second


def test_changes_that_the_base_branch_holds_by_now_are_nothing_to_publish(scene):
    patch = scene.patch(a="same\n")
    scene.origin.commit("same\n", name="a.txt")
    with pytest.raises(NothingToPublish, match="main holds these changes already"):
        scene.publish(patch)
    assert BRANCH not in scene.branches


def test_a_base_branch_that_is_gone_is_said(scene):
    patch = scene.patch(a="other\n")
    scene.origin.git("branch", "-m", "main", "trunk")
    with pytest.raises(BranchMissing, match="no branch named main"):
        scene.publish(patch)


# --- follow-ups


def test_a_follow_up_stands_on_what_was_pushed_and_has_the_new_patch_s_tree(scene):
    first = scene.publish(scene.patch(a="other\n"))
    patch = scene.patch(a=lines("a.txt"), b="changed\n")
    second = scene.publish(patch, previous=first.commit, message="Follow up")
    assert scene.origin.git("rev-parse", f"{BRANCH}^") == first.commit
    assert (scene.branches[BRANCH], scene.tree_of(BRANCH)) == (second.commit, scene.tree)
    again = scene.publish(patch, previous=first.commit, message="Follow up")
    assert (again.commit, again.was_there) == (second.commit, True)
    nothing_new = scene.publish(patch, previous=second.commit, message="Once more")
    assert (nothing_new.commit, nothing_new.was_there) == (second.commit, True)
    assert scene.server.pushes == 2


def test_a_follow_up_stays_on_the_base_that_the_first_commit_was_rebased_onto(scene):
    patch = scene.patch(a=lines("a.txt", l1="mine\n"))
    onto = scene.origin.commit("second", name="c.txt")
    first = scene.publish(patch)
    scene.origin.commit("third", name="c.txt")
    second = scene.publish(scene.patch(a=lines("a.txt", l1="mine\n", l2="more\n")), previous=first.commit)
    assert (second.base, second.is_rebased) == (onto, True)
    assert scene.origin.git("diff", "--stat", "--format=", first.commit, second.commit).splitlines()[0].split() == ["a.txt", "|", "2", "+-"]
    assert scene.origin.git("show", f"{BRANCH}:c.txt") == "second"


def test_somebody_else_s_commits_are_never_overwritten(scene):
    first = scene.publish(scene.patch(a="other\n"))
    patch = scene.patch(a="another\n")
    theirs = scene.origin.git("commit-tree", f"{first.commit}^{{tree}}", "-p", first.commit, "-m", "theirs")
    scene.origin.git("branch", "-f", BRANCH, theirs)
    with pytest.raises(BranchMoved, match=r"Somebody else has pushed to .* nothing was overwritten"):
        scene.publish(patch, previous=first.commit)
    with pytest.raises(BranchMoved, match=r"has a branch .* already, with something else in it"):
        scene.publish(patch)
    assert scene.branches[BRANCH] == theirs
    scene.origin.git("branch", "-D", BRANCH)
    with pytest.raises(BranchMoved, match="is gone from"):
        scene.publish(patch, previous=first.commit)
    assert BRANCH not in scene.branches


def test_a_push_that_comes_between_our_look_and_our_push_is_not_overwritten(scene):
    patch = scene.patch(a="other\n")

    def sneak(handler, _):
        if handler.path.endswith("git-receive-pack") and handler.command == "POST":
            scene.origin.git("branch", BRANCH, "main")
        return False

    scene.server.rules["/"] = sneak
    with pytest.raises(BranchMoved, match="nothing was overwritten"):
        scene.publish(patch)
    assert scene.branches[BRANCH] == scene.base


# --- the token


def test_the_token_is_in_no_argument_and_in_no_file(scene):
    scene.server.token = TOKEN
    seen = []

    def look(handler, _):
        if handler.path.endswith("git-receive-pack"):
            processes = [p for p in Path("/proc").iterdir() if p.name.isdigit()]
            seen.extend(argv for p in processes if scene.server.address in (argv := text(p / "cmdline")))
            places = (scene.scratch, scene.mirror)
            seen.extend(text(f) for place in places for f in place.rglob("*") if f.is_file() and "objects" not in f.parts)
        return False

    def text(file):
        try:
            return file.read_bytes().decode(errors="replace")
        except OSError:  # the process has ended
            return ""

    scene.server.rules["/"] = look
    patch = scene.patch(a="other\n")
    assert scene.publish(patch, token=TOKEN).commit == scene.branches[BRANCH]
    assert any("force-with-lease" in t for t in seen)
    encoded = "eC1hY2Nlc3MtdG9rZW46"  # base64 of "x-access-token:"
    assert [t for t in seen if TOKEN in t or encoded in t] == []


def test_a_wrong_token_is_told_from_none(scene):
    scene.server.token = TOKEN
    patch = scene.patch(a="other\n")
    with pytest.raises(TokenRefused, match="does not take your token any more"):
        scene.publish(patch, token="ghp_old")
    with pytest.raises(PublishRefused, match="asks for a sign-in") as caught:
        scene.publish(patch)
    assert caught.value.reason == "sign_in"


def test_the_token_is_in_no_error_whatever_the_server_repeats(scene):
    patch = scene.patch(a="other\n")

    def repeat(handler, _):
        if "git-receive-pack" in handler.path:
            answer(handler, 403, f"You sent {handler.headers['Authorization']} and {TOKEN}".encode())
            return True
        return False

    scene.server.rules["/"] = repeat
    with pytest.raises(PublishRefused) as caught:
        scene.publish(patch, token=TOKEN)
    assert "You sent Basic ***" in caught.value.__cause__.stderr
    assert TOKEN not in f"{caught.value} {caught.value.__cause__.stderr}"
    assert TOKEN not in repr(Remote(scene.source, 0.0, token=TOKEN))


# --- refusals


def answer(handler, status, body=b"", **headers):
    handler.send_response(status)
    for name, value in {"Content-Type": "text/plain", **headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize(
    ("status", "body", "reason", "says"),
    [
        (403, b"Permission to alice/shop.git denied to bob.", "denied", "does not let this account write to shop"),
        (403, b"Write access to repository not granted.", "denied", "does not let this account write"),
        (403, b"This repository was archived so it is read-only.", "archived", "is archived at 127.0.0.1"),
        (403, b"The 'acme' organization has enabled or enforced SAML SSO.", "sso", "asks for single sign-on"),
        (404, b"Repository not found.", "gone", "deleted, renamed, or not for this account to see"),
    ],
)
def test_a_host_that_answers_no_is_explained(scene, status, body, reason, says):
    def refuse(handler, _):
        if "git-receive-pack" in handler.path:
            answer(handler, status, body)
            return True
        return False

    patch = scene.patch(a="other\n")
    scene.server.rules["/"] = refuse
    with pytest.raises(PublishRefused, match=says) as caught:
        scene.publish(patch, token=TOKEN)
    assert caught.value.reason == reason


def test_a_renamed_repository_is_named_and_not_followed(scene):
    patch = scene.patch(a="other\n")
    scene.server.token = TOKEN
    scene.server.rules["/shop/.git/info"] = lambda handler, _: (
        answer(handler, 301, Location=f"http://{scene.server.address}/new/info/refs") or True
    )
    with pytest.raises(RepoUnavailable, match=r"redirects to http://127\.0\.0\.1:[0-9]+/new\. If the repository lives there now, use that"):
        scene.publish(patch, token=TOKEN)
    assert not any("/new" in request for request in scene.server.requests)


GITHUB_SAYS = [
    (
        "protected",
        "is protected at",
        "error: GH006: Protected branch update failed for refs/heads/x.\n\n- Changes must be made through a pull request.",
    ),
    (
        "private_email",
        "email address private",
        "error: GH007: Your push would publish a private email address.\nYou can make your email public or disable this protection.",
    ),
    (
        "lfs_missing",
        "Git LFS files that",
        "error: GH008: Your push referenced at least 1 unknown Git LFS object:\n    cd0e6edf7a48b6b12ca737\n",
    ),
    (
        "too_large",
        r"It says: big\.zip is 301\.74 MB\. Have it removed",
        "error: Trace: 654c\nerror: See https://gh.io/lfs for more information.\nerror: File big.zip is 301.74 MB; this exceeds "
        "GitHub's file size limit of 100.00 MB\nerror: GH001: Large files detected. You may want to try Git Large File Storage.",
    ),
    (
        "secrets",
        r"found a secret in these changes and took nothing\. It says: DeepSeek API Key in \.env:6\. Have it removed",
        "error: GH013: Repository rule violations found for refs/heads/main.\n\n- GITHUB PUSH PROTECTION\n  ———————————————\n"
        "    Resolve the following violations before pushing again\n\n    - Push cannot contain secrets\n\n"
        "     —— DeepSeek API Key ——————————\n       locations:\n         - commit: b6ba2be6\n           path: .env:6\n",
    ),
    (
        "rules",
        r"The rules of shop/ refuse these changes\. It says: Commits must have verified signatures\. Ask",
        "error: GH013: Repository rule violations found for refs/heads/x.\nReview all repository rules at https://github.com/a/b/rules\n\n"
        "- Commits must have verified signatures.\n",
    ),
    ("rejected", "took no push to .*: pre-receive hook declined", "we are closed today"),
]


@pytest.mark.parametrize(("reason", "says", "words"), GITHUB_SAYS)
def test_what_github_says_to_a_push_is_explained(scene, reason, says, words):
    hook = scene.origin.folder / ".git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{words}\nEND\nexit 1\n")
    hook.chmod(0o755)
    patch = scene.patch(a="other\n")
    with pytest.raises(PublishRefused, match=says) as caught:
        scene.publish(patch)
    assert caught.value.reason == reason
    assert BRANCH not in scene.branches


@pytest.mark.parametrize("app", ["an OAuth App", "a Personal Access Token", "a GitHub App"])
def test_a_token_that_may_not_change_workflows_is_explained(scene, app):
    words = f"refusing to allow {app} to create or update workflow `.github/workflows/ci.yml` without `workflow` scope"
    reports = b"".join(map(packet, [b"unpack ok\n", f"ng refs/heads/{BRANCH} {words}\n".encode()])) + b"0000"

    def refuse(handler, _):
        if handler.command == "POST" and handler.path.endswith("git-receive-pack"):
            content = packet(b"\x01" + reports) + b"0000"
            answer(handler, 200, content, **{"Content-Type": "application/x-git-receive-pack-result"})
            return True
        return False

    patch = scene.patch(a="other\n")
    scene.server.rules["/"] = refuse
    with pytest.raises(
        PublishRefused, match=r"no workflow files \(\.github/workflows/ci\.yml\)\. Sign in again and allow workflows"
    ) as caught:
        scene.publish(patch)
    assert caught.value.reason == "workflow"


def packet(content):
    return b"%04x" % (len(content) + 4) + content


@pytest.mark.parametrize(("there", "wanted"), [("a", "a/b"), ("a/b", "a")])
def test_a_branch_whose_name_is_in_the_way_is_explained(scene, there, wanted):
    scene.origin.git("branch", there)
    patch = scene.patch(a="other\n")
    with pytest.raises(PublishRefused, match=f"whose name is in the way of {wanted}") as caught:
        scene.publish(patch, branch=wanted)
    assert caught.value.reason == "name_taken"


def test_what_cannot_be_published_is_refused_before_anything_is_asked(scene):
    patch = scene.patch(a="other\n")
    asked = len(scene.server.requests)
    with pytest.raises(InvalidInput, match="the branch that the task started from"):
        scene.publish(patch, branch="main")
    with pytest.raises(InvalidInput, match="cannot be a branch name"):
        scene.publish(patch, branch="-x")
    with pytest.raises(InvalidInput, match="folder on this machine"):
        publish(scene.mirror, scene.origin.source, **scene.arguments(patch))
    assert len(scene.server.requests) == asked


def test_a_base_commit_that_our_copy_lost_is_said(scene):
    patch = scene.patch(a="other\n")
    with pytest.raises(RepoUnavailable, match="no longer has the commit"):
        scene.publish(patch, base_commit="1" * 40)


# --- crashes

DIE = """
import os, pickle, signal, sys
from pathlib import Path
from tasks.git import commands
from tasks.git.publish import publish
mirror, source, arguments, steps = pickle.load(sys.stdin.buffer)
begin = commands.subprocess.Popen
def counted(*args, **kwargs):
    global steps
    steps -= 1
    if steps < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return begin(*args, **kwargs)
commands.subprocess.Popen = counted
publish(mirror, source, **arguments)
"""


def start(scene, arguments, steps):
    process = subprocess.Popen([sys.executable, "-c", DIE], stdin=subprocess.PIPE, cwd=Path(__file__).parents[3])
    process.stdin.write(pickle.dumps((scene.mirror, scene.source, arguments, steps)))
    process.stdin.close()
    return process


@pytest.mark.parametrize(("is_follow_up", "stride"), [(False, 1), (True, 3)])
def test_killed_between_any_two_steps_and_done_again_there_is_one_branch_with_the_right_commit(scene, is_follow_up, stride):
    patch = scene.patch(a=lines("a.txt", l1="mine\n"))
    scene.origin.commit("second", name="c.txt")
    previous = ""
    if is_follow_up:
        previous = scene.publish(patch).commit
        patch = scene.patch(a=lines("a.txt", l1="mine\n", l3="more\n"))
    arguments = scene.arguments(patch, previous=previous)
    right = scene.publish(patch, previous=previous)
    before = {name: commit for name, commit in scene.branches.items() if name != BRANCH}

    def forget():
        scene.origin.git(*(["branch", "-f", BRANCH, previous] if previous else ["branch", "-D", BRANCH]))

    died = 0
    for step in range(1, 100, stride):
        forget()
        with start(scene, arguments, step) as process:
            if process.wait(20) == 0:
                break
        assert process.returncode == -signal.SIGKILL
        died += 1
        again = scene.publish(patch, previous=previous)
        assert (again.commit, again.base) == (right.commit, right.base)
        assert scene.branches == {**before, BRANCH: right.commit}
        assert list(scene.scratch.iterdir()) == []
    assert died > 12 / stride


def test_a_push_that_outlives_its_process_is_found_by_the_next_call(scene, wait_for):
    patch = scene.patch(a="other\n")
    arrived, go = threading.Event(), threading.Event()

    def hold(handler, _):
        if handler.command == "POST" and handler.path.endswith("git-receive-pack") and not arrived.is_set():
            arrived.set()
            assert go.wait(20)
        return False

    scene.server.rules["/"] = hold
    with start(scene, scene.arguments(patch), 100) as process:
        assert arrived.wait(20)
        process.kill()
    (left,) = scene.scratch.iterdir()
    second = scene.publish(patch)
    assert left.exists()  # its git is still at work
    assert scene.branches[BRANCH] == second.commit
    go.set()
    wait_for(lambda: not any(str(left) in argv_and_environment(p) for p in Path("/proc").iterdir() if p.name.isdigit()))
    assert scene.publish(patch).was_there
    assert scene.branches[BRANCH] == second.commit
    assert list(scene.scratch.iterdir()) == []


def argv_and_environment(process):
    try:
        return (process / "cmdline").read_text() + (process / "environ").read_text(errors="replace")
    except OSError:
        return ""


def test_an_answer_that_gets_lost_is_no_failure(scene):
    patch = scene.patch(a="other\n")

    def lose(handler, body):
        if handler.command == "POST" and handler.path.endswith("git-receive-pack"):
            handler.wfile, wfile = open(os.devnull, "wb"), handler.wfile  # noqa: SIM115
            scene.server.rules.clear()
            handler.git(body)
            handler.wfile.close()
            handler.wfile = wfile
            handler.close_connection = True
            return True
        return False

    scene.server.rules["/"] = lose
    published = scene.publish(patch)
    assert scene.branches[BRANCH] == published.commit


def test_leftovers_are_removed_and_what_is_in_use_is_not(scene):
    patch = scene.patch(a="other\n")
    leftover = scene.scratch / "tmpdead"
    shutil.copytree(scene.mirror, leftover / "clone.git")
    with clone(scene.mirror, scene.base, scene.scratch, Remote(scene.source, time.monotonic() + 60)) as used:
        scene.publish(patch)
        assert [p.name for p in scene.scratch.iterdir()] == [used.git_dir.parent.name]
        assert used.tree(scene.base) == scene.tree_of(scene.base)
    assert list(scene.scratch.iterdir()) == []


def test_two_calls_at_once_make_one_branch(scene):
    patch = scene.patch(a="other\n")
    done = []
    threads = [threading.Thread(target=lambda: done.append(scene.publish(patch).commit)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [scene.branches[BRANCH]] * 3
