"""Markdown of agents as HTML: nothing runs, nothing is fetched, nothing hides, nothing takes long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.web.shown.markdown import MOST_TOKENS, gist, markdown_html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**a** *b* `c` ~~d~~", "<p><strong>a</strong> <em>b</em> <code>c</code> <s>d</s></p>\n"),
        ("# one\n## two\n#### four\n## two", "<h3>one</h3>\n<h4>two</h4>\n<h5>four</h5>\n<h4>two</h4>\n"),
        ("### three\n# one", "<h3>three</h3>\n<h3>one</h3>\n"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
        ("<div onclick=x>\n\na", "<p>&lt;div onclick=x&gt;</p>\n<p>a</p>\n"),
        ("```py onload=x\n<b>\n```", "<pre><code>&lt;b&gt;\n</code></pre>\n"),
        ("- [x] a\n- [ ] b", '<ul>\n<li class="box">☑ a</li>\n<li class="box">☐ b</li>\n</ul>\n'),
        (
            "[a](https://x.org/?a=1&b=2 'title')",
            '<p><a href="https://x.org/?a=1&amp;b=2" rel="nofollow noopener noreferrer" target="_blank">a</a></p>\n',
        ),
        ("<me@x.org>", '<p><a href="mailto:me@x.org" rel="nofollow noopener noreferrer" target="_blank">me@x.org</a></p>\n'),
        ("[a](src/x.py:3)", '<p><span title="src/x.py:3">a</span></p>\n'),
        (
            "![a](https://x.org/i.png)",
            '<p><a href="https://x.org/i.png" rel="nofollow noopener noreferrer" target="_blank">Image: a</a></p>\n',
        ),
        ("![](data:image/png;base64,AAAA)", "<p><span>Image: without a name</span></p>\n"),
        (
            "[![a](https://x.org/i.png)](https://x.org)",
            '<p><a href="https://x.org" rel="nofollow noopener noreferrer" target="_blank"><span>Image: a</span></a></p>\n',
        ),
    ],
)
def test_what_markdown_becomes(text: str, html: str) -> None:
    assert markdown_html(text) == html


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "//x.org", "file:///x", "java&#10;script:x"],
)
def test_only_links_to_the_web_and_to_mailboxes_are_links(url: str) -> None:
    assert "<a" not in markdown_html(f"[a]({url})")
    assert "<a" not in markdown_html(f"[a]\n\n[a]: {url}")
    assert "<a" not in markdown_html(f"<{url}>")


def test_a_tables_cells_are_aligned_without_a_style() -> None:
    html = markdown_html("|a|b|\n|-:|:-:|\n|1|2|")
    assert 'style="' not in html
    assert '<th data-align="right">a</th>' in html
    assert '<td data-align="center">2</td>' in html
    assert html.startswith('<div class="scroll"')


def test_what_cannot_be_seen_is_marked_in_text_and_code() -> None:
    html = markdown_html("a\u202eb `c\u202ed`\n\n    e\u202ef\n\n[x](https://x.org/\u202e)")
    assert "\u202e" not in html
    assert html.count('class="mark"') == 3


def test_a_wide_block_of_code_can_be_scrolled_by_the_keyboard() -> None:
    assert "<pre><code>" in markdown_html("```\nnarrow\n```")
    assert '<pre tabindex="0"><code>' in markdown_html(f"```\n{'x' * 200}\n```")


@pytest.mark.parametrize("piece", ["[", "](", "![", "[a](", "`", "``a`", "*", "*a_ ", "**a ", ">", "- ", "|", "<", "<a", "&", "~~", "\\"])
def test_much_of_anything_ends(piece: str) -> None:
    """No deadline: what grows with the square of the length would be minutes here."""
    text = (piece * 20_000)[:20_000]
    assert len(markdown_html(text)) < 40 * len(text)


def test_nesting_is_bounded() -> None:
    assert markdown_html("\n".join(">" * depth + " a" for depth in range(1, 150))).count("<blockquote>") < 30


def test_what_is_too_much_markdown_is_shown_as_it_was_written() -> None:
    table = "|" + "a|" * 100 + "\n|" + "-|" * 100 + "\n" + "|a\n" * MOST_TOKENS
    assert markdown_html(table[:20_000]).startswith('<p class="as-written">|a|a|')


@given(st.text(st.sampled_from("[]()!<>*_`~#-|: \n\\&\"'abhttps:/.javscript=\u202e0"), max_size=200))
def test_whatever_is_written_only_known_markup_comes_out(text: str) -> None:
    html = markdown_html(text)
    for tag in re.findall(r"<[^>]*>", html):
        assert re.fullmatch(
            r"</?(p|h[3456]|ul|ol|li|pre|code|strong|em|s|table|thead|tbody|tr|th|td|blockquote|span|a|div)>|<(hr|br) />"
            r'|<a href="(https?|mailto):[^"]*" rel="nofollow noopener noreferrer" target="_blank">'
            r'|<span title="[^"]*">|<span class="mark" title="[a-z -]*">'
            r'|<p class="as-written">|<pre tabindex="0">|<li class="box">|<ol start="\d+">|<t[hd] data-align="(center|right)">'
            r'|<div class="scroll" role="group" aria-label="Table" tabindex="0">',
            tag,
            re.IGNORECASE,
        ), tag
    assert "\u202e" not in html


@pytest.mark.parametrize(("text", "line"), [("\n\n**Looking** at it\nmore", "Looking** at it"), ("# Plan", "Plan"), ("", ""), ("  \n", "")])
def test_the_gist_of_a_thought(text: str, line: str) -> None:
    assert gist(text) == line
