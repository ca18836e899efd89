"""The styleguide is for operators, and it is the truth: every shared part is in it, and no style is for nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from tasks.web.styleguide import PARTS, icons, tokens

ROOT = Path(settings.BASE_DIR)
STYLES = ROOT / "static/css"


def classes(css: Path) -> set[str]:
    """The classes that a stylesheet has rules for."""
    text = re.sub(r"/\*.*?\*/|url\([^)]*\)|\{[^{}]*\}", " ", css.read_text(), flags=re.S)
    return set(re.findall(r"\.([a-z][a-z0-9-]*)", text))


def words(*folders: str) -> set[str]:
    """Every word of the templates, scripts and views in these folders."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".html", ".js", ".py", ".svg")]
    return set(re.findall(r"[a-z][a-z0-9-]*", " ".join(path.read_text() for path in files)))


@pytest.mark.django_db
def test_operators_see_it_and_nobody_else_does(as_alice: Client, as_bob: Client) -> None:
    assert as_bob.get("/styleguide").status_code == 404
    page = as_alice.get("/styleguide").content.decode()
    for part in PARTS:
        assert page.count(f'aria-labelledby="part-{part.key}"') == 1
    for token in tokens():
        assert token.name in page
    for name in icons():
        assert f"<code>{name}</code>" in page


@pytest.mark.django_db
def test_every_part_is_drawn_in_light_and_in_dark(as_alice: Client) -> None:
    page = as_alice.get("/styleguide").content.decode()
    for scheme in ("light", "dark"):
        drawn = re.findall(rf'<div class="specimen" data-theme="{scheme}">(.*?)</div>', page, re.S)
        assert len(drawn) == len(PARTS)
        assert all(part.strip() for part in drawn)


def test_every_shared_part_is_documented() -> None:
    specimens = (ROOT / "templates/tasks/specimens.html").read_text()
    documented = set(re.findall(r"[a-z][a-z0-9-]*", specimens)) | set(
        re.findall(r"[a-z][a-z0-9-]*", " ".join(n for p in PARTS for n in p.names))
    )
    assert classes(STYLES / "parts.css") - documented == {"htmx-request"}


# The pages that admin.css is for are Django's.
@pytest.mark.parametrize("css", sorted(set(STYLES.glob("*.css")) - {STYLES / "admin.css"}), ids=lambda path: path.name)
def test_no_style_is_for_nothing(css: Path) -> None:
    made = re.compile(r"(ink|ground)-(\d+|ink)")  # put together by tasks/web/shown
    unused = classes(css) - words("templates", "static/js", "tasks/web", "tasks/review", "tasks/templatetags") - {"htmx-request"}
    assert {name for name in unused if not made.fullmatch(name)} == set()


def test_every_token_is_used() -> None:
    used = " ".join(path.read_text() for path in STYLES.glob("*.css"))
    assert {token.name for token in tokens() if f"var({token.name})" not in used} == set()
