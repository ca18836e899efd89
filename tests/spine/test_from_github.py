"""From a comment at GitHub to a finished run and back, with the product as users run it and a GitHub on loopback."""

from __future__ import annotations

from collections.abc import Callable

from tests.github.server import github_server
from tests.spine.product import BRISK, Product, wait_for

SECRET = "between us"
CONNECT = """
from tasks.models import GitHubAccount, User
user = User.objects.get(is_staff=True)
account = GitHubAccount(user=user, github_id={id}, login="alice", scopes=["repo"])
account.token = "token-of-alice"
account.save()
"""
SCRIPT = """
echo changed >> README.md
(exec 9<>/dev/tcp/127.0.0.1/3128; printf 'CONNECT pypi.org:443 HTTP/1.1\\r\\nHost: pypi.org:443\\r\\n\\r\\n' >&9; head -1 <&9)
"""


def test_a_comment_becomes_a_restricted_run_and_is_answered(make_product: Callable[..., Product]) -> None:
    with github_server() as github:
        person = github.add_user("alice", "token-of-alice")
        github.add_repo("alice/shop", {"README.md": "# Shop\n"}, private=True)
        product = make_product(**BRISK, GITHUB_URL=github.url, GITHUB_WEBHOOK_SECRET=SECRET)
        product.environment["ALLOW_PRIVATE_HOSTS"] += f",{github.url.removeprefix('http://')}"
        product.start()
        product.manage("shell", "-c", CONNECT.format(id=person.id))
        github.listen(f"{product.url.rstrip('/')}/github/webhook", SECRET, "issue_comment", "issues")

        issue = github.add_issue("alice/shop", "alice", "It breaks")
        github.add_comment("alice/shop", issue, "alice", f"@asynccode shell\n```sh{SCRIPT}```")

        def answer() -> str:
            said = [one["body"] for one in github.comments("alice/shop", issue)[1:]]
            assert len(said) <= 1, said
            return next((one for one in said if "Succeeded" in one), "")

        said = wait_for(answer, "the answer that says how it went", 90, 0.5)
        assert "| Succeeded | 1 file, +1 −0 |" in said
        [run] = product.rows("SELECT r.* FROM tasks_run r JOIN tasks_task t ON t.id = r.task_id WHERE t.is_restricted")
        assert f"/runs/{run['id']}/" in said
        assert "403" in product.text(run["id"]), "the network of its repository would let it through"
        assert [one["content"] for one in github.reactions] == ["eyes"]
        outcomes = product.rows("SELECT event, status, outcome FROM tasks_delivery ORDER BY id")
        assert {one["status"] for one in outcomes} <= {"done", "ignored"}, outcomes
        assert "token-of-alice" not in product.tail(100_000)
