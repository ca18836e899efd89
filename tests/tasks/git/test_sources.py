import subprocess
from pathlib import Path

import pytest

from sandboxes.egress import is_public
from tasks.errors import InvalidInput, RepoUnavailable, SourceRefused
from tasks.git.sources import check_host, parse_source, valid_branch
from tasks.git.workspaces import checkout_branch_name


def parse(text, **options):
    return parse_source(text, **{"allow_local": False, **options})


@pytest.mark.parametrize(
    ("text", "url", "name"),
    [
        ("https://github.com/octo/shop", "https://github.com/octo/shop", "octo/shop"),
        (" https://GitHub.com:443/octo/shop.git/ ", "https://github.com/octo/shop.git", "octo/shop"),
        ("HTTPS://git.example.org:8443/a/b/c.git", "https://git.example.org:8443/a/b/c.git", "b/c"),
        ("https://github.com./octo/shop", "https://github.com/octo/shop", "octo/shop"),
        ("https://bücher.example/octo/shop", "https://xn--bcher-kva.example/octo/shop", "octo/shop"),
        ("https://example.org/my%20shop", "https://example.org/my%20shop", "my shop"),
        ("https://[2606:4700::1111]/a/b", "https://[2606:4700::1111]/a/b", "a/b"),
    ],
)
def test_an_https_url_is_normalised(text, url, name):
    source = parse(text)
    assert (source.url, source.name, source.is_local) == (url, name, False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Give the repository"),
        ("   ", "Give the repository"),
        ("https://example.org/" + "a" * 2000, "longer than 2,000"),
        ("ext::sh -c touch% /tmp/x", "remote helpers"),
        ("fd::3", "remote helpers"),
        ("https::https://example.org/a", "remote helpers"),
        ("file:///etc", "file://"),
        ("FILE:///etc", "file://"),
        ("ssh://git@github.com/octo/shop", "https URL"),
        ("git+ssh://git@github.com/octo/shop", "https URL"),
        ("git@github.com:octo/shop.git", "https URL"),
        ("github.com:octo/shop.git", "https URL"),
        ("-oProxyCommand=x:y", "dash"),
        ("git://github.com/octo/shop", "https URL"),
        ("ftp://example.org/a", "Only https"),
        ("http://example.org/a/b", "Plain http"),
        ("--upload-pack=touch /tmp/x", "dash"),
        ("-u", "dash"),
        ("octo/shop", "not an https URL"),
        ("https://user:token@github.com/octo/shop", "credentials"),
        ("https://token@github.com/octo/shop", "credentials"),
        ("https://@github.com/octo/shop", "credentials"),
        ("https://github.com/octo/shop\n", "control characters"),
        ("https://github.com/octo\r/shop", "control characters"),
        ("https://github.com/octo\x00/shop", "control characters"),
        ("https://github.com/octo%0a/shop", "not valid"),
        ("https://github.com/octo/../shop", "not valid"),
        ("https://github.com/octo/%2e%2e/shop", "not valid"),
        ("https://github.com/octo shop", "space"),
        ("https://github.com\\@evil.org/a", "backslash"),
        ("https://github.com/octo/shop?x=1", "query"),
        ("https://github.com/octo/shop#x", "fragment"),
        ("https://github.com/octo/shop?", "query"),
        ("https://github.com", "no repository"),
        ("https:///octo/shop", "host or port"),
        ("https://github.com:port/octo/shop", "host or port"),
        ("https://-x.example.org/a", "host or port"),
        ("https://exa%6dple.org/a", "host or port"),
        ("https://localhost/a/b", "private"),
        ("https://LOCALHOST./a/b", "private"),
        ("https://ⓛocalhost/a/b", "private"),
        ("https://printer/a/b", "private"),
        ("https://nas.local/a/b", "private"),
        ("https://metadata.google.internal/a/b", "private"),
        ("https://127.0.0.1/a/b", "private"),
        ("https://10.0.0.8/a/b", "private"),
        ("https://169.254.169.254/latest", "private"),
        ("https://[::1]/a/b", "private"),
        ("https://[fe80::1]/a/b", "private"),
        ("https://[fe80::1%25eth0]/a/b", "host or port"),
        ("https://[::ffff:127.0.0.1]/a/b", "private"),
        ("https://127.1/a/b", "not a complete address"),
        ("https://0x7f.0.0.1/a/b", "not a complete address"),
        ("https://0x7f.0x0.0x0.0x1/a/b", "not a complete address"),
        ("https://2130706433/a/b", "not a complete address"),
        ("/etc", "Only operators"),
        ("~/shop", "Only operators"),
        ("../shop", "Only operators"),
    ],
)
def test_all_else_is_refused_with_a_sentence_of_its_own(text, says):
    with pytest.raises(SourceRefused, match=says) as refused:
        parse(text)
    assert refused.value.field == "source"
    assert "token@" not in refused.value.message


def test_an_allowed_private_host_may_speak_http_on_the_allowed_port_only():
    allowed = frozenset({"git.lan:3000", "forge", "[::1]:80"})
    assert parse("http://git.lan:3000/a/b", allow_private=allowed).is_private_host
    assert parse("https://forge/a/b", allow_private=allowed).is_private_host
    assert parse("http://[::1]/a/b", allow_private=allowed).url == "http://[::1]/a/b"
    for other in ("http://git.lan/a/b", "http://git.lan:3001/a/b", "http://sub.forge/a/b", "http://[::1]:81/a"):
        with pytest.raises(SourceRefused):
            parse(other, allow_private=allowed)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "127.8.8.8", "10.1.1.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "168.63.129.16", "224.0.0.1",
     "255.255.255.255", "::", "::1", "::127.0.0.1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1",
     "64:ff9b::10.0.0.1", "2002:7f00:1::", "2001:0:7f00:1::"],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "140.82.121.4", "2606:4700::1111", "64:ff9b::8.8.8.8"])
def test_addresses_that_are_public(address):
    assert is_public(address)


def test_a_host_is_refused_when_any_of_its_addresses_is_private():
    def resolver(host, port, **_):
        return [(2, 1, 6, "", ("8.8.8.8", port)), (2, 1, 6, "", ("127.0.0.1", port))]

    with pytest.raises(SourceRefused, match=r"evil\.example resolves to a private"):
        check_host(parse("https://evil.example/a/b"), resolver=resolver)


def test_a_host_without_an_address_is_unavailable():
    def resolver(*_, **__):
        raise OSError("no such name")

    with pytest.raises(RepoUnavailable, match="cannot be found"):
        check_host(parse("https://gone.example/a/b"), resolver=resolver)


# --- paths


def local(path, *roots):
    return parse_source(str(path), allow_local=True, roots=roots)


def test_a_work_tree_a_bare_repository_and_a_linked_worktree_are_sources(origin, tmp_path):
    subprocess.run(["git", "clone", "-q", "--bare", str(origin.folder), str(tmp_path / "bare.git")], check=True)
    origin.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    for path, name in (
        (origin.folder, "shop"),
        (origin.folder / ".git", "shop"),
        (tmp_path / "bare.git", "bare"),
        (tmp_path / "linked", "linked"),
    ):
        source = local(path, tmp_path)
        assert (source.is_local, source.url, source.name) == (True, str(path), name)


def test_a_path_is_resolved_before_it_is_compared_with_the_roots(origin, tmp_path):
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(origin.folder)
    for path in (origin.folder, allowed / "link", allowed / ".." / "origins" / "shop", f"{allowed}/../origins/shop"):
        with pytest.raises(SourceRefused, match="outside the folders"):
            local(path, allowed)
    assert local(allowed / "link", tmp_path).url == str(origin.folder)
    with pytest.raises(SourceRefused, match="outside the folders"):
        local(origin.folder)


def test_a_repository_that_borrows_from_outside_the_roots_is_refused(origin, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    origin.git("worktree", "add", "-q", "-b", "side", str(inside / "linked"))
    subprocess.run(["git", "clone", "-q", "--shared", str(origin.folder), str(inside / "borrower")], check=True)
    (inside / "pointer").mkdir()
    (inside / "pointer" / ".git").write_text(f"gitdir: {origin.folder}/.git\n")
    (inside / "linked_git").mkdir()
    (inside / "linked_git" / ".git").symlink_to(origin.folder / ".git")
    for name in ("linked", "borrower", "pointer", "linked_git"):
        assert local(inside / name, tmp_path).is_local
        with pytest.raises(SourceRefused, match="outside the folders"):
            local(inside / name, inside)


def test_what_is_no_repository_is_said(origin, tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / ".git").write_bytes(b"gitdir: \0\xff")
    for path, says in (
        (tmp_path / "plain", "not a git repository"),
        (tmp_path / "nothing", "no folder"),
        (tmp_path / "odd", "cannot be read"),
    ):
        with pytest.raises(SourceRefused, match=says):
            local(path, tmp_path)
    with pytest.raises(SourceRefused, match="full path"):
        local("./shop", tmp_path)


def test_a_shallow_clone_is_refused_with_the_remedy(origin, tmp_path):
    origin.commit("second")
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{origin.folder}", str(tmp_path / "shallow")], check=True)
    with pytest.raises(SourceRefused, match="--unshallow"):
        local(tmp_path / "shallow", tmp_path)


# --- branches


@pytest.mark.parametrize(
    "name", ["main", "feature/größe", "日本語", "a.b", "release-1.0", "x@y", "fix/'quote\"", "emoji-🎉", "refs", "a" * 200]
)
def test_valid_branch_names(name):
    assert valid_branch(name) == name
    assert subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "name",
    ["", "-", "--upload-pack=x", "a..b", "a@{1}", "@", "HEAD", "a.lock", "a.lock/b", ".a", "a/.b", "/a", "a/", "a//b", "a.", "a b", "a~1",
     "a^", "a:b", "a?", "a*", "a[", "a\\b", "a\nb", "a\x7f", "a\x00", "a" * 201, "\ud800"],
)  # fmt: skip
def test_branch_names_that_are_refused(name):
    with pytest.raises(InvalidInput, match="cannot be a branch name") as refused:
        valid_branch(name)
    assert refused.value.field == "base_branch"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((12, "fix-the-login", "claude", 1), "asynccode/12-fix-the-login-claude-1"),
        ((12, "Größe: ändern/..lock", "shell", 3), "asynccode/12-groe-andern-lock-shell-3"),
        ((12, "日本語", "shell", 3), "asynccode/12-shell-3"),
        ((12, "", "a.lock", 1), "asynccode/12-a-lock-1"),
        ((12, "x" * 300, "shell", 1), f"asynccode/12-{'x' * 40}-shell-1"),
    ],
)
def test_branches_of_runs_are_always_valid(arguments, name):
    assert checkout_branch_name(*arguments) == name


def test_a_path_below_home_may_be_written_with_a_tilde(origin, monkeypatch):
    monkeypatch.setenv("HOME", str(origin.folder.parent))
    assert local("~/shop", Path("~")).url == str(origin.folder)
