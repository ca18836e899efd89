"""What comes after a pull request was opened, as far as the emulator lacks it: logs of jobs, drafts that become ready, branches that go."""

from __future__ import annotations

from typing import Any

from tests.github.emulator import Answer
from tests.github.repositories import Repository
from tests.github.world import Request, World, error, reply

_NOT_FOUND = error(404, "Not Found")


def _job_log(world: World, request: Request, repository: Repository, job: str) -> Answer:
    """GitHub leads to another host, where whoever has the address may read, and no token is wanted."""
    if request.token is None or not world.can(request.login, repository, "pull"):
        return error(403, "Must have admin rights to Repository.")
    if (address := world.jobs.get(int(job))) is None:
        return _NOT_FOUND
    return Answer(302, [("Location", address)], b"")


def log(world: World, request: Request, name: str) -> Answer:
    """Such an address. It answers nobody who shows a token."""
    if "authorization" in request.headers:
        return Answer(400, [("Content-Type", "text/plain")], b"InvalidAuthenticationInfo")
    content = world.logs.get(name)
    return _NOT_FOUND if content is None else Answer(200, [("Content-Type", "text/plain")], content)


def _delete_ref(world: World, request: Request, repository: Repository, branch: str) -> Answer:
    if not world.can(request.login, repository, "push"):
        return error(403, "Must have push access.")
    if branch not in repository.branches():
        return error(422, "Reference does not exist")
    if branch in repository.protected:
        return error(422, "Cannot delete this protected branch")
    repository.git("update-ref", "-d", f"refs/heads/{branch}")
    world.synchronize(repository, request.login)
    return Answer(204, [], b"")


def ready(world: World, request: Request) -> Answer:
    """markPullRequestReadyForReview."""
    node = (request.json.get("variables") or {}).get("id")
    told = world.emulator.tell("ready", node_id=node)
    repository = world.repositories.get(told.get("full_name", ""))
    if repository is None or not world.can(request.login, repository, "push"):
        return reply(200, {"data": {}, "errors": [{"type": "FORBIDDEN", "message": "Viewer does not have permission."}]})
    world.emulator.tell("ready", node_id=node, done=True)
    return reply(200, {"data": {"markPullRequestReadyForReview": {"pullRequest": {"isDraft": False}}}})


def as_job(world: World, check_run: dict[str, Any]) -> dict[str, Any]:
    """A check run, by Actions if it is one of their jobs."""
    is_job = check_run["id"] in world.jobs
    return check_run | {"app": {"slug": "github-actions" if is_job else "some-app", "name": "GitHub Actions" if is_job else "Some app"}}


ROUTES: list[tuple[str, str, Any]] = [
    ("GET", r"/actions/jobs/(\d+)/logs", _job_log),
    ("DELETE", r"/git/refs/heads/(.+)", _delete_ref),
]
