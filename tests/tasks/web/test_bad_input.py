"""Whatever a browser, a careless person or an attacker sends: an answer that says no, never an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from tasks.models import ApiToken, Attachment, Credential, PromptTemplate, Run, Task, User
from tasks.running import events
from tasks.web.urls import urlpatterns

pytestmark = pytest.mark.django_db

PARAMETERS = (
    *("q", "show", "in", "agent", "before", "after", "to", "until", "tab", "seen", "repo", "template", "source", "task"),
    *("ids", "run", "change", "server", "next", "branch", "mode", "by_itself", "code", "state", "error"),
)
NASTY = {
    "nothing": "",
    "huge": "9" * 20,
    "largest": str(2**63 - 1),
    "endless": "9" * 5000,
    "negative": "-1",
    "superscript": "²",
    "arabic": "٣",
    "words": "abc",
    "control": "\x01\x1b\x7f\u202e\u2028",
    "operators": "'\\:*|&!<->()%_\"",
    "elsewhere": "//example.org/\\",
    "crlf": "a\r\nX-Injected: 1\r\n",
    "astral": "𝔘\U0010ffff\ufffd",
    "long": "x" * 10_000,
}
PART = {"HX-Request": "true", "HX-Target": "work", "HX-Current-URL": "http://["}
FIELDS = (
    *(
        "prompt",
        "prompts",
        "plan",
        "now",
        "several",
        "keep",
        "source",
        "branch",
        "mode",
        "submission",
        "repo",
        "attachments",
        "runs",
        "runs-shell",
    ),
    *("task", "confirmed", "back", "number", "run", "name", "value", "lines", "phase", "is_secret", "setup_script", "check_command"),
    *("network_preset", "network_hosts", "display_name", "email", "theme", "notify", "old_password", "new_password", "again"),
    *("scope", "expires_in_days", "username", "password", "is_replacing", "changes", "next"),
    *("provider", "kind", "secret", "base_url", "for_site", "url", "command", "env", "token"),
)
RIGHT = {
    "prompt": "do it",
    "prompts": "do it",
    "keep": "0",
    "runs-shell": "1",
    "name": "NAME",
    "lines": "A=1",
    "network_preset": "none",
    "scope": "read",
    "theme": "dark",
    "notify": "run",
    "mode": "code",
    "phase": "agent",
    "provider": "openai",
    "kind": "api_key",
}


@pytest.fixture(autouse=True)
def _own_counters(settings: Settings) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.PASSWORD_LOGIN = True


NAMES = [pattern.name for pattern in urlpatterns if pattern.name]


@pytest.fixture
def world(alice: User, make_task: Callable[..., Task], make_run: Callable[..., Run]) -> dict[str, int]:
    """One of each thing, by the beginning of the names of the addresses that take its number."""
    task = make_task(base_commit="")
    run = make_run(task=task, status="succeeded", finished_at=timezone.now())
    events.append(run.pk, "log", {"text": "x", "stream": "stdout"})
    task.repo.variables.create(name="NAME", value="1", is_secret=False, phase="agent")
    task.repo.mcp_servers.create(name="NAME", url="https://example.org/mcp")
    key = Credential(owner=alice, provider="openai", base_url="https://nowhere.invalid", checked_at=timezone.now())
    key.secret = "sk-0123456789abcdef"
    key.save()
    return {
        "task": task.pk,
        "run": run.pk,
        "repo": task.repo_id,
        "variable": task.repo_id,
        "mcp": task.repo_id,
        "prompt": PromptTemplate.objects.create(owner=alice, name="a", prompt="b").pk,
        "attachment": Attachment.objects.create(owner=alice, name="a", content_type="text/plain", content=b"a", size=1).pk,
        "key": key.pk,
        "token": ApiToken.objects.create(user=alice, name="a", digest="0" * 64, hint="ac_0").pk,
    }


def _address(name: str, world: dict[str, int]) -> str:
    pattern = next(pattern for pattern in urlpatterns if pattern.name == name)
    whose = next((pk for kind, pk in world.items() if name.startswith(kind)), 1)
    values = {"seq": 1, "number": 1, "name": "NAME", "token": "t"}
    return reverse(name, kwargs={key: values.get(key, whose) for key in pattern.pattern.converters})


def _check(response: HttpResponse, what: str) -> None:
    is_told = what.startswith("readyz") and response.status_code == 503  # no services run here, and it says so
    assert response.status_code < 500 or is_told, what
    for name, value in response.items():
        assert "\n" not in value, what
        assert name != "X-Injected", what


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("headers", [{}, PART], ids=["page", "part"])
def test_no_query_string_is_an_error_of_ours(as_alice: Client, world: dict[str, int], name: str, headers: dict[str, str]) -> None:
    as_alice.raise_request_exception = False
    for kind, value in NASTY.items():
        asked = dict.fromkeys(PARAMETERS, value)
        for tab in ({}, {"tab": "network"}):
            _check(as_alice.get(_address(name, world), asked | tab, headers=headers), f"{name} with {kind}")


@pytest.mark.parametrize("name", NAMES)
def test_no_form_is_an_error_of_ours(as_alice: Client, alice: User, world: dict[str, int], name: str) -> None:
    as_alice.raise_request_exception = False
    address = _address(name, world)
    for kind, value in (NASTY | {"nul": "a\0b"}).items():
        all_wrong = {field: [value, value] for field in FIELDS}
        _check(as_alice.post(address, all_wrong), f"{name} with {kind}")
        _check(
            as_alice.post(address, RIGHT | {field: value for field in FIELDS if field not in RIGHT}, headers=PART), f"{name} with {kind}"
        )
        as_alice.force_login(alice)  # some of these sign out


@pytest.mark.parametrize(
    "name", ["task-create", "task-create-several", "run-follow-up", "run-approve", "run-branch", "prompt-new", "repo", "sign-in"]
)
def test_no_size_of_a_text_is_an_error_of_ours(as_alice: Client, world: dict[str, int], name: str) -> None:
    as_alice.raise_request_exception = False
    for field in ("prompt", "prompts", "plan", "source", "setup_script", "password"):
        _check(as_alice.post(_address(name, world), RIGHT | {field: "y" * 3_000_000}), f"{name} with {field}")


FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
BODIES = [
    (b"", FORM),
    (b"prompt=%ff%fe&task=%ff&repo=%80", FORM),
    (b"prompt=%ff", f"{FORM}; charset=nonsense"),
    (b"a&" * 1001, FORM),
    (b"prompt=" + b"x" * (4 * 2**20 + 1), FORM),
    (b"", "multipart/form-data"),
    (b"", MULTIPART),
    (b"--x\r\nnonsense", MULTIPART),
    (b'--x\r\nContent-Disposition: form-data; name="files"; filename="\xff\x00"\r\n\r\n\xff\r\n--x--\r\n', MULTIPART),
    (b'{"prompt": "\\ud800"}', "application/json"),
    (b"\xff", "text/plain"),
]


@pytest.mark.parametrize("name", NAMES)
def test_no_body_is_an_error_of_ours(as_alice: Client, alice: User, world: dict[str, int], name: str) -> None:
    as_alice.raise_request_exception = False
    for body, content_type in BODIES:
        _check(as_alice.generic("POST", _address(name, world), body, content_type), f"{name} with {body[:20]!r}")
        as_alice.force_login(alice)


@pytest.mark.parametrize("name", [pattern.name for pattern in urlpatterns if pattern.name and pattern.pattern.converters])
def test_no_number_of_a_thing_is_an_error_of_ours(as_alice: Client, name: str) -> None:
    as_alice.raise_request_exception = False
    pattern = next(pattern for pattern in urlpatterns if pattern.name == name)
    for number in ("0", "9" * 19, "9" * 30, "9" * 5000, "²", "٣", "-1", "%00", "%FF"):
        address = reverse(name, kwargs=dict.fromkeys(pattern.pattern.converters, 77)).replace("77", number)
        for response in (as_alice.get(address), as_alice.post(address)):
            _check(response, address[:80])
            assert response.status_code in ((400, 404, 405) if name != "login-link" else (200, 400, 404, 410)), address[:80]


@pytest.mark.parametrize("cookie", [r'"\000aaaaaaaaaaaa"', "a" * 5000, "\xff", '"'])
@pytest.mark.parametrize("kind", ["sessionid", "csrftoken", "messages", "next"])
def test_no_cookie_is_an_error_of_ours(kind: str, cookie: str) -> None:
    client = Client(raise_request_exception=False)
    for address in (reverse("sign-in"), reverse("home")):
        _check(client.get(address, headers={"Cookie": f"{kind}={cookie}"}), cookie)


@pytest.mark.parametrize(
    "name", ["a\r\nX-Injected: 1.txt", 'a"; filename="b.html', "\ud800.txt", "../../etc/passwd", "\u202egpj.exe", "x" * 5000, "", "."]
)
def test_no_name_of_a_file_is_an_error_of_ours(as_alice: Client, name: str) -> None:
    as_alice.raise_request_exception = False
    raw = name.encode("utf-8", "surrogatepass").replace(b'"', b"%22")
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="' + raw + b'"\r\n\r\nx\r\n--x--\r\n'
    response = as_alice.generic("POST", reverse("attachments"), body, "multipart/form-data; boundary=x")
    _check(response, name)
    for stored in Attachment.objects.all():
        shown = as_alice.get(reverse("attachment", args=[stored.pk]))
        _check(shown, name)
        assert shown["Content-Disposition"].startswith("attachment")
