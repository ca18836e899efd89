"""Reviews with comments on lines, which the emulator takes wherever they are: GitHub takes them on lines of the diff, all or none."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from tests.github.emulator import Answer
from tests.github.repositories import Repository
from tests.github.world import DOCS, Request, World, error, reply

_AT = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_OWN = {"APPROVE": "Can not approve your own pull request", "REQUEST_CHANGES": "Can not request changes on your own pull request"}
_NOT_IN_DIFF = "Pull request review thread line must be part of the diff"


def _compare(world: World, request: Request, repository: Repository, base: str, head: str) -> Answer:
    """What `head` has changed since both parted; 300 files, which page 1 has all."""
    tips = [repository.tip(unquote(ref)) for ref in (base, head)]
    if not all(tips):
        return error(404, "Not Found")
    is_first = request.query.get("page", "1") == "1"
    files = _files(repository, *tips)[:300] if is_first else []
    return reply(200, {"status": "ahead", "merge_base_commit": {"sha": _parted(repository, *tips)}, "commits": [], "files": files})


def _files(repository: Repository, base: str, head: str) -> list[dict[str, Any]]:
    old = _parted(repository, base, head)
    words = repository.git("diff", "--raw", "-z", "-M", "--no-abbrev", old, head).decode().split("\0")[:-1]
    found = []
    while words:
        _, _, _, blob, kind = words.pop(0).split(" ")
        before = words.pop(0)
        path = words.pop(0) if kind[0] == "R" else before
        patch = repository.git("diff", "-M", old, head, "--", before, path).decode(errors="replace")
        status = {"A": "added", "D": "removed", "R": "renamed"}.get(kind[0], "modified")
        one: dict[str, Any] = {"sha": blob, "filename": path, "status": status}
        one |= {"previous_filename": before} if path != before else {}
        found.append(one | ({"patch": patch[patch.index("@@ ") :].rstrip("\n")} if "\n@@ " in patch else {}))
    return found


def _parted(repository: Repository, base: str, head: str) -> str:
    return repository.git("merge-base", base, head).decode().strip()


def _hunks(patch: str) -> list[dict[str, set[int]]]:
    """The numbers of the lines in each hunk, by side."""
    found: list[dict[str, set[int]]] = []
    at = {"LEFT": 0, "RIGHT": 0}
    for line in patch.split("\n"):
        if begin := _AT.match(line):
            at = {"LEFT": int(begin[1]), "RIGHT": int(begin[3])}
            found.append({"LEFT": set(), "RIGHT": set()})
            continue
        for side in {"-": ["LEFT"], "+": ["RIGHT"], "\\": []}.get(line[:1], ["LEFT", "RIGHT"]):
            found[-1][side].add(at[side])
            at[side] += 1
    return found


def _wrong(comment: dict[str, Any], files: list[dict[str, Any]]) -> str:
    """Why GitHub would not take a comment; "" when it does."""
    file = next((one for one in files if one["filename"] == comment.get("path")), None)
    if file is None:
        return "Path could not be resolved"
    if not str(comment.get("body") or "").strip():
        return "Pull request review comment body can't be blank"
    line, side = comment.get("line"), comment.get("side", "RIGHT")
    start, start_side = comment.get("start_line", line), comment.get("start_side", side)
    hunk = next((one for one in _hunks(file.get("patch", "")) if line in one[side]), None)
    if hunk is None:
        return f"{_NOT_IN_DIFF} and Pull request review thread diff hunk can't be blank"
    if start not in hunk[start_side]:
        return "Pull request review thread start line must be part of the same hunk as the line."
    if "start_line" in comment and side == start_side and start >= line:
        return "Pull request review thread start line must precede the end line."
    return ""


def _create(world: World, request: Request, repository: Repository, number: str) -> Answer | None:
    """Check all of it as GitHub does, and let the emulator make it, each comment by itself."""
    said, path = request.json, f"/repos/{repository.full_name}/pulls/{number}"
    comments, event = said.get("comments") or [], said.get("event")
    answer = world.emulator.ask("GET", path, {"Authorization": "token as:admin"})
    if answer.status != 200:
        return None
    pull = answer.json
    reviews = world.emulator.ask_as("admin", "GET", f"{path}/reviews?per_page=100")
    if any(one["state"] == "PENDING" and one["user"]["login"] == request.login for one in reviews):
        return _unprocessable("User can only have one pending review per pull request")
    if event in _OWN and pull["user"]["login"] == request.login:
        return _unprocessable(_OWN[event])
    if event == "COMMENT" and not comments and not str(said.get("body") or "").strip():
        return _unprocessable("Pull request review body can't be blank")
    commit = said.get("commit_id") or pull["head"]["sha"]
    if not repository.tip(commit):
        return _unprocessable("The commit_id is not part of the pull request")
    files = _files(repository, repository.tip(pull["base"]["ref"]), commit)
    if wrong := [words for words in (_wrong(one, files) for one in comments) if words]:
        return _unprocessable(wrong[0])
    sent = {name: value for name, value in said.items() if name != "comments"}
    headers = {"Authorization": f"token as:{request.login}", "Content-Type": "application/json"}
    made = world.emulator.ask("POST", f"{path}/reviews", headers, json.dumps(sent).encode())
    for one in comments if made.status < 300 else ():
        row = {name: one[name] for name in ("path", "line", "side", "body") if name in one}
        comment = world.emulator.ask_as(request.login, "POST", f"{path}/comments", row | {"commit_id": commit})
        world.emulator.tell("in_review", id=comment["id"], review_id=made.json["id"])
        world.starts[comment["id"]] = {"start_line": one.get("start_line"), "start_side": one.get("start_side")}
    return made


def _unprocessable(words: str) -> Answer:
    return reply(422, {"message": "Unprocessable Entity", "errors": [words], "documentation_url": DOCS, "status": "422"})


ROUTES: list[tuple[str, str, Any]] = [
    ("GET", r"/compare/(.+)\.\.\.(.+)", _compare),
    ("POST", r"/pulls/(\d+)/reviews", _create),
]
