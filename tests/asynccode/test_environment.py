from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from asynccode import environment

READ = re.compile(r"\b(?:env\.)?(?:text|number|flag|choice|names|networks)\(\"([A-Z0-9_]+)\"")


def test_the_example_lists_every_variable_and_no_other() -> None:
    sources = "".join((settings.BASE_DIR / "asynccode" / name).read_text() for name in ("settings.py", "environment.py"))
    example = (settings.BASE_DIR / ".env.example").read_text()

    assert set(re.findall(r"^#([A-Z0-9_]+)=", example, re.MULTILINE)) == set(READ.findall(sources))


@pytest.mark.parametrize("raw", ["eight", "-1", "1.5", "0", "٣"])
def test_a_number_that_is_none_is_refused_by_name(raw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_NUMBER", raw)

    with pytest.raises(ImproperlyConfigured, match="SOME_NUMBER must be a whole number of at least 1"):
        environment.number("SOME_NUMBER", 5, least=1)


def test_unset_and_blank_mean_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_NUMBER", " ")

    assert environment.number("SOME_NUMBER", 5) == 5
    assert environment.number("NOT_SET_ANYWHERE", 6) == 6


@pytest.mark.parametrize(("raw", "value"), [("1", True), ("Yes", True), ("off", False), ("0", False), ("", False)])
def test_a_flag(raw: str, value: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FLAG", raw)

    assert environment.flag("SOME_FLAG") is value


def test_a_flag_that_is_neither_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FLAG", "perhaps")

    with pytest.raises(ImproperlyConfigured, match="SOME_FLAG must be 1 or 0, not 'perhaps'"):
        environment.flag("SOME_FLAG")


def test_a_choice_out_of_the_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_CHOICE", "c")

    with pytest.raises(ImproperlyConfigured, match="SOME_CHOICE must be one of a, b, not 'c'"):
        environment.choice("SOME_CHOICE", "a", ("a", "b"))


def test_a_database_url_in_all_its_parts() -> None:
    parsed = environment.database("postgres://us%40er:p%2Fw@db.example.org:5433/na%20me?sslmode=require")

    assert parsed["USER"] == "us@er"
    assert parsed["PASSWORD"] == "p/w"
    assert (parsed["HOST"], parsed["PORT"], parsed["NAME"]) == ("db.example.org", "5433", "na me")
    assert parsed["OPTIONS"] == {"sslmode": "require"}


def test_a_database_url_with_a_socket_folder() -> None:
    parsed = environment.database("postgres://asynccode@/asynccode?host=/run/a%20folder")

    assert parsed["HOST"] == "/run/a folder"
    assert parsed["OPTIONS"] == {}


def test_another_database_than_postgres_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="needs PostgreSQL"):
        environment.database("mysql://localhost/asynccode")


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCCODE_DATA", "/srv/data")
    assert environment.data_folder() == Path("/srv/data")

    monkeypatch.delenv("ASYNCCODE_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", "/home/alice/data")
    assert environment.data_folder() == (Path("/var/lib/asynccode") if os.geteuid() == 0 else Path("/home/alice/data/asynccode"))


def test_a_kept_secret_is_made_once_even_by_many_at_the_same_time(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from asynccode.environment import kept_secret; print(kept_secret(Path(sys.argv[1]), 'key'))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data")], cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    secrets = {process.communicate()[0] for process in processes}

    assert len(secrets) == 1
    assert len(secrets.pop().strip()) > 40
    files = list((tmp_path / "data/keys").iterdir())
    assert [file.name for file in files] == ["key"]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600


def test_a_data_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImproperlyConfigured, match=r"file/data cannot be made: Not a directory\. Set ASYNCCODE_DATA"):
        environment.kept_secret(tmp_path / "file/data", "key")


@pytest.mark.parametrize("name", ["SANDBOX_BACKEND", "SANDBOX_FALLBACK"])
def test_runs_are_not_sent_to_where_no_sandbox_can_be_made(name: str) -> None:
    given = os.environ | {"LOCAL_SANDBOXES": "0", name: "local"}
    done = subprocess.run(
        [sys.executable, "-c", "import asynccode.settings"], cwd=settings.BASE_DIR, env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot be local where LOCAL_SANDBOXES is 0" in done.stderr


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://me:p%40ss@mail.example.org", ("mail.example.org", 587, "me", "p@ss", False, True)),
        ("smtp://localhost:25?tls=0", ("localhost", 25, "", "", False, False)),
        ("smtps://mail.example.org", ("mail.example.org", 465, "", "", True, False)),
    ],
)
def test_a_mail_server_in_all_its_parts(url: str, expected: tuple[object, ...]) -> None:
    found = environment.mail(url)
    assert tuple(found[name] for name in ("HOST", "PORT", "HOST_USER", "HOST_PASSWORD", "USE_SSL", "USE_TLS")) == expected


@pytest.mark.parametrize("url", ["mail.example.org", "http://mail.example.org", "smtp://", "smtp://host?ssl=1", "smtp://host?tls=yes"])
def test_a_mail_server_that_cannot_be_understood_is_refused(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="EMAIL_URL must look like"):
        environment.mail(url)
