"""What is made on this machine for a test user: a folder with small git repositories, which nobody else may use; and its end."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session

from tasks import environment, repositories
from tasks.errors import RepoUnavailable
from tasks.git import mirrors
from tasks.git.commands import git
from tasks.models import NetworkPreset, Repo, User

logger = logging.getLogger(__name__)

_GIT_S = 30.0
_AUTHOR = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "Test"), ("EMAIL", "test@localhost"))}


@dataclass(frozen=True)
class _Sample:
    name: str
    files: dict[str, str]
    check: str


_SAMPLES = (
    _Sample(
        "greeting",
        {
            "README.md": "# Greeting\n\nSays hello in Python. `python3 -m unittest` runs the tests.\n",
            "greeting.py": 'def greet(name: str) -> str:\n    return f"Hello, {name}!"\n',
            "test_greeting.py": (
                "import unittest\n\nfrom greeting import greet\n\n\n"
                "class Greeting(unittest.TestCase):\n    def test_it_names_who_is_greeted(self) -> None:\n"
                '        self.assertEqual(greet("Ada"), "Hello, Ada!")\n'
            ),
            ".gitignore": "__pycache__/\n",
        },
        "python3 -m unittest",
    ),
    _Sample(
        "words",
        {
            "README.md": "# Words\n\nCounts the words of a text. `sh check.sh` tries it.\n",
            "count.sh": "#!/bin/sh\n# The number of words in standard input.\nwc -w | tr -d ' '\n",
            "check.sh": '#!/bin/sh\nset -eu\ntest "$(printf "one two three" | sh count.sh)" = 3\necho "All is well."\n',
        },
        "sh check.sh",
    ),
)


def make(user: User) -> list[Repo]:
    """The repositories of a new test user: made below the user's folder and added, with a command that checks each."""
    user.world.parent.mkdir(parents=True, exist_ok=True)
    user.world.mkdir(mode=0o700)
    made = []
    for sample in _SAMPLES:
        repo = repositories.add_repo(by=user, source=str(_git_repository(user.world / sample.name, sample.files)))
        environment.update_environment(
            repo=repo, by=user, setup_script="", check_command=sample.check, network_preset=NetworkPreset.NONE, network_hosts=[]
        )
        made.append(repo)
    return made


def _git_repository(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    for args in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        git(args, git_dir=folder / ".git", cwd=folder, env=_AUTHOR, timeout=_GIT_S)
    return folder


def remove(user: User) -> None:
    """Delete a test user's folder and sessions; twice is fine, and for others nothing is done. A folder on another host is found there
    by `discard_strays`."""
    if user.expires_at is None:
        return
    if user.world.exists():
        shutil.rmtree(user.world)
    for session in Session.objects.filter(expire_date=user.expires_at):  # they end with their user, to the microsecond
        if session.get_decoded().get(SESSION_KEY) == str(user.pk):
            session.delete()


def discard_strays() -> None:
    """Delete this host's folders of test users who are gone, and its mirrors of repositories that are."""
    folders = {int(path.name): path for path in (settings.DATA / "test-users").glob("*") if path.name.isdecimal()}
    for pk in folders.keys() - set(User.objects.filter(pk__in=folders).values_list("pk", flat=True)):
        shutil.rmtree(folders[pk])
    copies = {int(path.stem): path for path in (settings.DATA / "mirrors").glob("*.git") if path.stem.isdecimal()}
    for pk in copies.keys() - set(Repo.objects.filter(pk__in=copies).values_list("pk", flat=True)):
        try:
            mirrors.remove(copies[pk], timeout=5)
        except RepoUnavailable as error:
            logger.info("The mirror %s of a repository that is gone was not deleted (%s); it is tried again.", copies[pk], error)
