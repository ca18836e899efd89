"""Searching tasks by words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.models import Task

pytestmark = pytest.mark.django_db
MakeTask = Callable[..., Task]


def found(text: str) -> set[str]:
    return set(Task.objects.matching(text).values_list("title", flat=True))


def test_every_word_must_occur_at_least_as_a_beginning(make_task: MakeTask) -> None:
    make_task(title="Retry uploads", prompt="with backoff in src/upload/client.py")
    make_task(title="Retry downloads", prompt="at most five times")
    assert found("retry") == {"Retry uploads", "Retry downloads"}
    assert found("RETR back") == {"Retry uploads"}
    assert found("client.py") == found("client") == found("upload/cli") == {"Retry uploads"}
    assert found("retry nothing") == set()
    assert found("etry") == set()


def test_words_of_any_script_are_found(make_task: MakeTask) -> None:
    make_task(title="Größe ändern", prompt="日本語 の テスト")
    assert found("größe") == found("日本") == {"Größe ändern"}


@pytest.mark.parametrize("text", ["'", "a' | 'b", "&|!():*<->", "\\", "%s", "\0", "a\0b", "a:*b", "--", "'':*", "_"])
def test_no_text_is_a_query_of_its_own(make_task: MakeTask, text: str) -> None:
    make_task(title="something else")
    found(text)  # raises nothing


def test_nothing_to_search_for_finds_all(make_task: MakeTask) -> None:
    make_task(title="one")
    assert found("  ") == {"one"}


def test_the_repository_s_name_counts(make_task: MakeTask) -> None:
    task = make_task(title="one")
    assert found(task.repo.name) == {"one"}


def test_the_longest_prompt_can_be_stored(make_task: MakeTask) -> None:
    prompt = " ".join(f"{number:x}-ü{number}" for number in range(20_000))
    make_task(title="long", prompt=prompt[:200_000])
    assert found("ü17") == {"long"}
