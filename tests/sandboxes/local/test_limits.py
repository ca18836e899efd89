"""Which cgroups are tried for limits, and that removal waits for the dying."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxes.base import Limits
from sandboxes.local import limits

V1 = (
    "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n"
)


def tried(mounts, own):
    return list(limits._candidates(mounts, own))


def test_v1_hierarchies_are_tried_where_they_are_mounted():
    found = tried(V1, "4:memory:/user.slice\n0::/\n")
    assert (1, Path("/sys/fs/cgroup/memory"), ["memory"]) in found
    assert (1, Path("/sys/fs/cgroup/cpu,cpuacct"), ["cpu"]) in found


def test_v2_is_tried_beside_our_own_group_first_and_never_in_it():
    found = [folder for _, folder, _ in tried("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "0::/a/b/ours.service\n")]
    assert found == [Path("/sys/fs/cgroup/a/b"), Path("/sys/fs/cgroup/a"), Path("/sys/fs/cgroup")]


def test_all_controllers_of_v2_are_had_in_one_place(tmp_path, monkeypatch):
    """A process is in one group only: memory here and cpu there would leave it with one of them."""
    monkeypatch.setattr(limits, "_works", lambda controller, version, above: controller == "memory" or above.name != "b")
    (tmp_path / "mounts").write_text("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
    (tmp_path / "own").write_text("0::/a/b/ours.service\n")
    found = limits.find(tmp_path / "mounts", tmp_path / "own")
    assert set(found.parents.values()) == {(2, Path("/sys/fs/cgroup/a/asynccode"))}
    assert found.folders("x") == [Path("/sys/fs/cgroup/a/asynccode/x")]


def test_a_machine_without_cgroups_leaves_it_to_the_watchdog(tmp_path):
    (tmp_path / "mounts").write_text("tmpfs /tmp tmpfs rw 0 0\n")
    (tmp_path / "own").write_text("")
    found = limits.find(tmp_path / "mounts", tmp_path / "own")
    assert found.describe() == {"memory": "watchdog", "processes": "rlimit", "cpu": "nice", "disk": "watchdog"}
    assert found.make("x", Limits()) == []


def test_groups_are_made_twice_and_removed_twice():
    found = limits.find()
    if not found.parents:
        pytest.skip("no cgroup can be made here")
    name = f"test-{os.getpid()}"
    folders = found.make(name, Limits())
    assert found.make(name, Limits()) == folders
    limits.remove(folders)
    limits.remove(folders)
    assert not any(folder.exists() for folder in folders)
