"""Where the emulator answers otherwise than GitHub does: in its place, or put right after it."""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import unquote

from tests.github import actions, reviews
from tests.github.emulator import Answer
from tests.github.repositories import Conflicts, Repository
from tests.github.world import Request, World, error, reply

_ROLE_NAMES = {"none": "none", "pull": "read", "triage": "triage", "push": "write", "maintain": "maintain", "admin": "admin"}
_LEGACY = {"none": "none", "pull": "read", "triage": "read", "push": "write", "maintain": "write", "admin": "admin"}
_NOT_FOUND = error(404, "Not Found")


def instead(world: World, request: Request) -> Answer | None:
    """GitHub's answer where the emulator has none or a wrong one; None where it may be asked."""
    if request.path == "/user/emails":
        return _emails(world, request)
    if found := re.fullmatch(r"/(?:user/memberships/)?orgs/([^/]+)(?:/(public_)?members/([^/]+))?", request.path):
        return _membership(world, request, *found.groups())
    repository = world.repository(request.path)
    if repository is None:
        return _NOT_FOUND if request.path.startswith("/repos/") else None
    if refused := _access(world, request, repository):
        return refused
    rest = "/" + "/".join(request.path.strip("/").split("/")[3:])
    for method, pattern, function in _ROUTES:
        if request.method == method and (found := re.fullmatch(pattern, rest)):
            return function(world, request, repository, *found.groups())
    return None


def _access(world: World, request: Request, repository: Repository) -> Answer | None:
    token = request.token
    if token and not token.reaches(repository.full_name):
        return _NOT_FOUND
    if repository.is_private and not (world.can(request.login, repository, "pull") and token and token.has("repo")):
        return _NOT_FOUND
    if request.method == "GET":
        return None
    if token is None:
        return error(401, "Requires authentication")
    if not token.has("repo", "public_repo"):
        return error(404, "Not Found", headers={"X-Accepted-OAuth-Scopes": "public_repo, repo"})
    if repository.is_archived:
        return error(403, "Repository was archived so is read-only.")
    return None


def _emails(world: World, request: Request) -> Answer:
    if request.token is None:
        return error(401, "Requires authentication")
    if not request.token.has("user", "user:email"):
        return error(404, "Not Found", headers={"X-Accepted-OAuth-Scopes": "user, user:email"})
    person = world.people[request.login]
    return reply(
        200,
        [
            {"email": person.noreply, "primary": False, "verified": True, "visibility": None},
            {"email": person.email, "primary": True, "verified": True, "visibility": "public" if person.is_email_public else "private"},
        ],
    )


def _membership(world: World, request: Request, org: str, public: str | None, login: str | None) -> Answer | None:
    """Of the asking user, or of somebody else; nobody's membership is public here."""
    if request.token is None:
        return error(401, "Requires authentication")
    if login is None and not request.path.startswith("/user/"):
        return None
    if not request.token.has("read:org", "write:org", "admin:org"):
        return error(403, "You need at least read:org scope.", headers={"X-Accepted-OAuth-Scopes": "admin:org, read:org, write:org"})
    if login is None:
        is_member = world.is_member(request.login, org)
        return reply(200, {"state": "active", "role": "member", "organization": {"login": org}}) if is_member else _NOT_FOUND
    if public:
        return _NOT_FOUND
    if not world.is_member(request.login, org):
        return Answer(302, [("Location", f"http://emulator.invalid/orgs/{org}/public_members/{login}")], b"")
    return Answer(204, [], b"") if world.is_member(login, org) else _NOT_FOUND


def _permission(world: World, request: Request, repository: Repository, login: str) -> Answer:
    if not world.can(request.login, repository, "push"):
        return error(403, "Must have push access to view collaborator permission.")
    if login not in world.people:
        return error(404, f"{login} is not a user")
    role = world.role(login, repository)
    user = world.emulator.ask_as("admin", "GET", f"/users/{login}")
    return reply(200, {"permission": _LEGACY[role], "role_name": _ROLE_NAMES[role], "user": user})


def _is_collaborator(world: World, request: Request, repository: Repository, login: str) -> Answer:
    if not world.can(request.login, repository, "push"):
        return error(403, "Must have push access to view repository collaborators.")
    is_one = login in world.people and login in (*repository.permissions, repository.full_name.split("/")[0])
    return Answer(204, [], b"") if is_one else _NOT_FOUND


def _collaborators(world: World, request: Request, repository: Repository) -> Answer:
    if not world.can(request.login, repository, "push"):
        return error(403, "Must have push access to view repository collaborators.")
    logins = [login for login in repository.permissions if login in world.people]
    return reply(200, [world.emulator.ask_as("admin", "GET", f"/users/{login}") for login in logins])


def _assignees(world: World, request: Request, repository: Repository) -> Answer:
    logins = [login for login in repository.permissions if login in world.people and world.can(login, repository, "triage")]
    return reply(200, [world.emulator.ask_as("admin", "GET", f"/users/{login}") for login in logins])


def _create_pull(world: World, request: Request, repository: Repository) -> Answer | None:
    body, owner = request.json, repository.full_name.split("/")[0]
    head, base = str(body.get("head", "")), str(body.get("base", ""))
    branch = head.removeprefix(f"{owner}:")
    if not world.can(request.login, repository, "push"):
        return (
            error(403, "Resource not accessible by personal access token") if request.token and request.token.scopes is None else _NOT_FOUND
        )
    for name, value in (("head", branch), ("base", base)):
        if f"{value}" not in repository.branches():
            return error(422, "Validation Failed", {"resource": "PullRequest", "field": name, "code": "invalid"})
    if repository.ahead(base, branch) == 0:
        return _invalid_pull(f"No commits between {base} and {branch}")
    query = f"/repos/{repository.full_name}/pulls?state=open&head={owner}:{branch}&base={base}"
    if world.emulator.ask_as("admin", "GET", query):
        return _invalid_pull(f"A pull request already exists for {owner}:{branch}.")
    if body.get("draft") and not repository.allows_drafts:
        return error(422, "Draft pull requests are not supported in this repository.")
    return None


def _invalid_pull(message: str) -> Answer:
    return error(422, "Validation Failed", {"resource": "PullRequest", "code": "custom", "message": message})


def _merge(world: World, request: Request, repository: Repository, number: str) -> Answer | None:
    """Merge in git first; then the emulator says that it is merged."""
    if not world.can(request.login, repository, "push"):
        return error(403, "Must have push access to merge pull requests.")
    url, body = f"/repos/{repository.full_name}/pulls/{number}", request.json
    pull = world.emulator.ask_as("admin", "GET", url)
    method = body.get("merge_method", "merge")
    allowed = {"merge": "allow_merge_commit", "squash": "allow_squash_merge", "rebase": "allow_rebase_merge"}
    if not pull["base"]["repo"][allowed[method]]:
        words = {"merge": "Merge commits are", "squash": "Squash merges are", "rebase": "Rebase merges are"}
        return error(405, f"{words[method]} not allowed on this repository.")
    if pull["draft"]:
        return error(405, "Pull Request is still a draft")
    if pull["state"] != "open":
        return error(405, "Pull Request is not mergeable")
    if body.get("sha", pull["head"]["sha"]) != pull["head"]["sha"]:
        return error(409, "Head branch was modified. Review and try the merge again.")
    head, base = pull["head"]["ref"], pull["base"]["ref"]
    if base in repository.protected:
        return error(405, "At least 1 approving review is required by reviewers with write access.")
    title = (
        f"Merge pull request #{number} from {pull['head']['label'].replace(':', '/')}"
        if method == "merge"
        else f"{pull['title']} (#{number})"
    )
    message = f"{body.get('commit_title') or title}\n\n{body.get('commit_message') or pull['title']}"
    try:
        commit = repository.merge(base, head, method=method, message=message)
    except Conflicts:
        return error(405, "Pull Request is not mergeable")
    world.emulator.ask_as("admin", "PUT", f"{url}/merge", {"merge_method": method})
    world.emulator.tell("merged", full_name=repository.full_name, number=int(number), sha=commit)
    world.synchronize(repository, request.login)
    return reply(200, {"sha": commit, "merged": True, "message": "Pull Request successfully merged"})


def _contents(world: World, request: Request, repository: Repository, path: str = "") -> Answer:
    found = repository.entry(request.query.get("ref") or repository.default_branch, path.strip("/"))
    url = f"http://emulator.invalid/repos/{repository.full_name}/contents"
    if found is None:
        return _NOT_FOUND
    if isinstance(found, bytes):
        content = base64.encodebytes(found).decode()
        name = path.rsplit("/", 1)[-1]
        return reply(
            200,
            {
                "type": "file",
                "encoding": "base64",
                "size": len(found),
                "name": name,
                "path": path,
                "content": content,
                "url": f"{url}/{path}",
            },
        )
    rows = [(("dir" if kind == "tree" else "file"), sha, name) for kind, sha, name in found]
    prefix = f"{path}/" if path else ""
    return reply(
        200, [{"type": kind, "name": name, "path": prefix + name, "sha": sha, "url": f"{url}/{prefix}{name}"} for kind, sha, name in rows]
    )


def _combined_status(world: World, request: Request, repository: Repository, ref: str) -> Answer:
    """Of each context the newest."""
    sha = repository.tip(ref)
    if not sha:
        return error(422, f"No commit found for SHA: {ref}")
    newest = {one["context"]: one for one in repository.statuses.get(sha, [])}
    states = {one["state"] for one in newest.values()}
    state = "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
    return reply(200, {"state": state, "sha": sha, "total_count": len(newest), "statuses": list(newest.values())})


def _create_status(world: World, request: Request, repository: Repository, sha: str) -> Answer:
    body = request.json
    row = {"context": "default", "description": None, "target_url": None} | body
    repository.statuses.setdefault(sha, []).append(row)
    world.tell("status", {"sha": sha, **row, "repository": world.emulator.ask_as("admin", "GET", f"/repos/{repository.full_name}")})
    return reply(201, row)


def _create_check_run(world: World, request: Request, repository: Repository) -> Answer:
    return error(403, "You must authenticate via a GitHub App.")


def _react(world: World, request: Request, repository: Repository, subject: str) -> Answer:
    content = request.json.get("content")
    if content not in ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"):
        return error(422, "Validation Failed", {"resource": "Reaction", "field": "content", "code": "invalid"})
    row = {"repository": repository.full_name, "subject": subject, "content": content, "login": request.login}
    is_new = row not in world.reactions
    if is_new:
        world.reactions.append(row)
    user = world.emulator.ask_as("admin", "GET", f"/users/{request.login}")
    return reply(201 if is_new else 200, {"id": world.reactions.index(row) + 1, "content": content, "user": user})


def _request_reviewers(world: World, request: Request, repository: Repository, number: str) -> Answer | None:
    wanted = request.json.get("reviewers") or []
    pull = world.emulator.ask_as("admin", "GET", f"/repos/{repository.full_name}/pulls/{number}")
    if pull["user"]["login"] in wanted:
        return error(422, "Review cannot be requested from pull request author.")
    if any(login not in world.people or not world.can(login, repository, "pull") for login in wanted):
        return error(
            422,
            "Reviews may only be requested from collaborators. One or more of the users or teams you specified is not a collaborator "
            f"of the {repository.full_name} repository.",
        )
    return None


def _add_labels(world: World, request: Request, repository: Repository, number: str) -> Answer | None:
    return None if world.can(request.login, repository, "triage") else error(403, "Must have triage rights to Repository.")


def _label(world: World, request: Request, repository: Repository, name: str) -> Answer:
    """GitHub does not mind upper and lower case."""
    found = world.emulator.ask_as("admin", "GET", f"/repos/{repository.full_name}/labels?per_page=100")
    return next((reply(200, one) for one in found if one["name"].lower() == unquote(name).lower()), _NOT_FOUND)


def _issue(world: World, request: Request, repository: Repository, number: str) -> Answer | None:
    """A pull request is an issue too."""
    answer = world.emulator.ask("GET", f"/repos/{repository.full_name}/pulls/{number}", {"Authorization": "token as:admin"})
    if answer.status == 404:
        return None
    pull = answer.json
    shared = {name: pull[name] for name in ("id", "number", "title", "body", "user", "state", "html_url")}
    return reply(200, shared | {"pull_request": {"html_url": pull["html_url"], "url": pull["url"]}})


def _reply(world: World, request: Request, repository: Repository, number: str) -> None:
    """The emulator calls it otherwise."""
    if "in_reply_to" in request.json:
        request.body = json.dumps(request.json | {"in_reply_to_id": request.json["in_reply_to"]}).encode()


_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", r"/collaborators", _collaborators),
    ("GET", r"/collaborators/([^/]+)", _is_collaborator),
    ("GET", r"/collaborators/([^/]+)/permission", _permission),
    ("GET", r"/assignees", _assignees),
    ("GET", r"/labels/([^/]+)", _label),
    ("POST", r"/pulls", _create_pull),
    ("PUT", r"/pulls/(\d+)/merge", _merge),
    ("GET", r"/contents/?", _contents),
    ("GET", r"/contents/(.+)", _contents),
    ("GET", r"/commits/(.+)/status", _combined_status),
    ("POST", r"/statuses/([0-9a-f]+)", _create_status),
    ("POST", r"/check-runs", _create_check_run),
    ("POST", r"/((?:issues|issues/comments|pulls/comments)/\d+)/reactions", _react),
    ("POST", r"/pulls/(\d+)/requested_reviewers", _request_reviewers),
    ("POST", r"/issues/(\d+)/labels", _add_labels),
    ("POST", r"/pulls/(\d+)/comments", _reply),
    ("GET", r"/issues/(\d+)", _issue),
    *actions.ROUTES,
    *reviews.ROUTES,
]


def correct(world: World, request: Request, value: Any) -> Any:
    """Put right what the emulator says of repositories, pull requests and people in a body."""
    if isinstance(value, list):
        return [correct(world, request, one) for one in value]
    if not isinstance(value, dict):
        return value
    value = {key: correct(world, request, one) for key, one in value.items()}
    if "full_name" in value and "permissions" in value and (repository := world.repositories.get(value["full_name"])):
        role = world.role(request.login, repository)
        is_installation = request.token is not None and request.token.repositories is not None  # GitHub tells those of none
        roles = ("admin", "maintain", "push", "triage", "pull")
        value["permissions"] = {one: world.can(request.login, repository, one) and not is_installation for one in roles}
        if role != "admin":  # GitHub tells the settings to those only who may change them
            value.pop("delete_branch_on_merge", None)
    if "check_suite" in value and "head_sha" in value:
        value = actions.as_job(world, value)
    if "pull_request_review_id" in value:
        value |= world.starts.get(value["id"], {})
    if "mergeable_state" in value and "base" in value and value.get("state") == "open":
        _mergeable(world, value)
    if value.get("login") in world.people and "email" in value and not world.people[value["login"]].is_email_public:
        value["email"] = None
    return value


def _mergeable(world: World, pull: dict[str, Any]) -> None:
    repository = world.repositories[pull["base"]["repo"]["full_name"]]
    head, base = pull["head"]["ref"], pull["base"]["ref"]
    if not repository.tip(head) or not repository.tip(base):
        return
    try:
        repository.merge(base, head, method="merge", message="", dry=True)
    except Conflicts:
        pull |= {"mergeable": False, "mergeable_state": "dirty"}
        return
    if pull["draft"]:
        pull["mergeable_state"] = "draft"
    elif base in repository.protected:
        pull["mergeable_state"] = "blocked"


def graphql(world: World, request: Request) -> Answer:
    """What is asked in GraphQL: the review threads of a pull request, and that a draft becomes ready."""
    if request.token is None:
        return error(401, "This endpoint requires you to be authenticated.")
    if "markPullRequestReadyForReview" in str(request.json.get("query")):
        return actions.ready(world, request)
    variables = request.json.get("variables") or {}
    full_name, number = f"{variables.get('owner')}/{variables.get('name')}", variables.get("number")
    repository = world.repository(f"/repos/{full_name}")
    if "reviewThreads" not in str(request.json.get("query")):
        return reply(200, {"errors": [{"type": "NOT_IMPLEMENTED", "message": "The GitHub of the tests does not know this query."}]})
    if repository is None or not world.can(request.login, repository, "pull"):
        return _graphql_missing("repository", f"Could not resolve to a Repository with the name '{full_name}'.")
    answer = world.emulator.ask(
        "GET", f"/repos/{repository.full_name}/pulls/{number}/comments?per_page=100", {"Authorization": "token as:admin"}
    )
    if answer.status != 200:
        return _graphql_missing("pullRequest", f"Could not resolve to a PullRequest with the number of {number}.")
    threads: dict[int, list[dict[str, Any]]] = {}
    for comment in answer.json:
        threads.setdefault(comment.get("in_reply_to_id") or comment["id"], []).append(comment)
    nodes = [_thread(world, first, comments) for first, comments in threads.items()]
    connection = {"nodes": nodes, "pageInfo": {"hasNextPage": False, "endCursor": None}}
    return reply(200, {"data": {"repository": {"pullRequest": {"reviewThreads": connection}}}})


def _thread(world: World, first: int, comments: list[dict[str, Any]]) -> dict[str, Any]:
    nodes = [
        {
            "databaseId": one["id"],
            "body": one["body"],
            "url": one["html_url"],
            "createdAt": one["created_at"],
            "diffHunk": one["diff_hunk"],
            "author": {"login": one["user"]["login"]},
            "pullRequestReview": {"databaseId": one["pull_request_review_id"]},
        }
        for one in comments
    ]
    return {
        "isResolved": first in world.resolved,
        "isOutdated": first in world.outdated,
        "path": comments[0]["path"],
        "line": comments[0].get("line"),
        "originalLine": comments[0].get("line"),
        "comments": {"nodes": nodes},
    }


def _graphql_missing(path: str, message: str) -> Answer:
    return reply(200, {"data": {"repository": None}, "errors": [{"type": "NOT_FOUND", "path": [path], "message": message}]})
