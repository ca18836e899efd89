"""Pull requests: a run's patch on GitHub."""

from __future__ import annotations

from ninja import Router

from tasks.api import schemas
from tasks.models import PullRequest, PullRequestState

router = Router(tags=["pull requests"])


def pull_request(pull: PullRequest) -> schemas.PullRequest:
    return schemas.PullRequest(
        run=pull.run_id,
        repository=pull.repository,
        number=pull.number,
        url=pull.url,
        branch=pull.branch,
        base=pull.base,
        state=PullRequestState(pull.state),
        head_sha=pull.head_sha,
        checks=pull.checks,
        review=pull.review,
        mergeable=pull.mergeable,
        created_at=pull.created_at,
        seen_at=pull.seen_at,
    )
