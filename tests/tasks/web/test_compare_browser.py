"""The comparison in a browser: from the matrix to a file in two runs, which scroll together, to a winner."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from tasks.models import Run, User
from tests.tasks.review.conftest import Workshop
from tests.tasks.web.test_compare import attempt as attempt
from tests.tasks.web.test_compare import task as task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
Attempt = Callable[..., Run]


def lines(*numbers: int) -> list[bytes]:
    return [b"line_%d = %d\n" % (number, number) for number in range(*numbers)]


@pytest.fixture
def compared(workshop: Workshop, attempt: Attempt) -> list[Run]:
    """Two runs that changed line 150 of a long file, after which the first has 60 more lines before it."""
    workshop.git("reset", "-q", "--hard")
    base = workshop.base({"long.py": b"".join(lines(300)), "small.py": b"x = 1\n"})
    whole = lines(300)
    changed = [*whole[:150], b"line_150 = 0\n", *whole[151:]]
    runs = [
        attempt({"long.py": b"".join([*changed[:50], *(b"more = %d\n" % n for n in range(60)), *changed[50:]])}),
        attempt({"long.py": b"".join(changed), "small.py": b"x = 2\n"}),
    ]
    Run.objects.update(task=base)
    return runs


@pytest.fixture
def desk(browser: Browser, live_server: Any, alice: User) -> Iterator[Page]:
    client = Client()
    client.force_login(alice)
    with browser.new_context(base_url=live_server.url, viewport={"width": 1280, "height": 800}) as context:
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
        page = context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None)
        yield page
        assert not problems


def line_at_top(page: Page, column: int) -> int:
    """The old number of the first line that is in sight in a column."""
    return int(
        page.locator(".side-lines")
        .nth(column)
        .evaluate(
            """(column) => [...column.querySelectorAll("td[id*='-L']")]
                 .find((cell) => cell.getBoundingClientRect().bottom > column.getBoundingClientRect().top + 1).textContent"""
        )
    )


def test_from_the_matrix_to_a_winner(desk: Page, compared: list[Run]) -> None:
    task = Run.objects.get(pk=compared[0].pk).task
    desk.goto(task.get_absolute_url())
    desk.get_by_role("link", name="Compare and choose").click()
    expect(desk.get_by_role("rowheader", name="long.py")).to_be_visible()

    desk.get_by_role("link", name="long.py").click()
    first, second = desk.locator(".side-lines").nth(0), desk.locator(".side-lines").nth(1)
    expect(second.locator("tr.a")).to_have_count(1)
    second.hover()
    second.evaluate("(column) => { column.scrollTop = 200 * 20; }")
    desk.wait_for_function("([a, b]) => a.scrollTop - b.scrollTop > 1000", arg=[first.element_handle(), second.element_handle()])
    assert abs(line_at_top(desk, 0) - line_at_top(desk, 1)) <= 1
    first.hover()
    first.evaluate("(column) => { column.scrollTop = 0; }")
    desk.wait_for_function("(column) => column.scrollTop === 0", arg=second.element_handle())

    desk.keyboard.press("j")
    expect(desk.get_by_role("heading", name="small.py")).to_be_visible()
    desk.get_by_label("Against").select_option(str(compared[0].pk))
    desk.get_by_role("button", name="Show").click()
    expect(desk.locator("table.diff.split")).to_be_visible()

    desk.get_by_role("link", name="compare runs").click()
    desk.locator(f"#choose-{compared[1].pk}").click()
    desk.get_by_label("Set aside").check()
    desk.get_by_role("button", name="Choose", exact=True).click()
    expect(desk.locator("th[data-chosen]")).to_contain_text("Chosen")
    expect(desk.get_by_text("is chosen. The others are set aside.")).to_be_visible()
    desk.goto(task.get_absolute_url())
    expect(desk.get_by_text("1 run not chosen")).to_be_visible()


def test_equal_lines_come_in_place_and_all_files_as_one_scrolls(desk: Page, workshop: Workshop, attempt: Attempt) -> None:
    workshop.git("reset", "-q", "--hard")
    wide = [b"line_%04d = '%s'\n" % (number, b"x" * 100) for number in range(2500)]  # too long to be shown whole
    base = workshop.base({"wide.py": b"".join(wide)})
    many: dict[str, bytes | None] = {f"{number:02}.txt": b"line\n" * 150 for number in range(12)}
    first, second = (
        attempt({"wide.py": b"".join([*wide[:2000], last, *wide[2001:]])} | more) for last, more in ((b"1\n", {}), (b"2\n", many))
    )
    Run.objects.update(task=base)

    desk.goto(f"{base.get_absolute_url()}compare/")
    desk.get_by_role("link", name="wide.py").click()
    side = desk.locator(".side-lines").nth(1)
    gap = side.locator("tr.g").first
    gap.get_by_role("button", name="20 more lines above what is below").click()
    expect(side.locator("#s2-R1970")).to_contain_text("1970")
    expect(gap).to_contain_text("1,968 lines")
    gap.get_by_role("link").click()
    expect(side.locator("#s2-L1")).to_contain_text("1")
    expect(side.locator("tr.g")).to_have_count(1)

    desk.goto(f"{base.get_absolute_url()}compare/")
    desk.get_by_label("From", exact=True).select_option(str(first.pk))
    desk.get_by_label("To", exact=True).select_option(str(second.pk))
    desk.get_by_role("button", name="Differences").click()
    expect(desk.get_by_role("heading", level=1)).to_have_text(re.compile(f"{first.label}\\s+against\\s+{second.label}"))
    expect(desk.locator(".changed-file")).to_have_count(13)
    expect(desk.locator(".lines-of[data-loaded]")).not_to_have_count(13)
    desk.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    last = desk.locator(".changed-file").last
    expect(last.locator("tr.c, tr.a")).not_to_have_count(0)
    last.locator("tr.g a").first.click()
    expect(last.locator("[id$='-R1']")).to_have_text("1")
    desk.keyboard.press("u")
    expect(desk.get_by_role("heading", name="Compare runs")).to_be_visible()


def test_a_phone_shows_one_run_at_a_time(desk: Page, compared: list[Run]) -> None:
    task = Run.objects.get(pk=compared[0].pk).task
    desk.set_viewport_size({"width": 390, "height": 844})
    desk.goto(f"{task.get_absolute_url()}compare/")
    assert desk.evaluate("document.documentElement.scrollWidth") <= 390
    desk.get_by_role("link", name="long.py").click()
    expect(desk.locator(".side:visible")).to_have_count(1)
    desk.locator(".side-tabs label").nth(1).click()
    expect(desk.locator(".side:visible h2")).to_contain_text("2")
    assert desk.evaluate("document.documentElement.scrollWidth") <= 390
