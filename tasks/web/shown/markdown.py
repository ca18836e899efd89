"""Markdown that somebody else wrote as HTML: no markup of their own, nothing fetched from elsewhere, nothing that hides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from tasks.marks import bare, text_html

MOST_TOKENS = 20_000  # a table of few characters can have many cells
WIDE = 44  # characters of a line that scrolls in the narrowest column
_SCHEMES = ("http", "https", "mailto")
_TOP_HEADING = 3  # a message is a part of the page, whose own headings are h1 and h2
_BOXES = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}


def markdown_html(text: str) -> SafeString:
    """CommonMark with tables and struck-out text. What is too much of it is shown as it was written."""
    tokens = _PARSER.parse(text)
    if sum(1 + len(token.children or ()) for token in tokens) > MOST_TOKENS:
        return mark_safe(f'<p class="as-written">{text_html(text)}</p>')  # noqa: S308 (escaped)
    html: str = _PARSER.renderer.render(tokens, _PARSER.options, {})
    return mark_safe(html)  # noqa: S308 (every text and attribute is escaped)


def gist(text: str) -> str:
    """The first line that says something, without its marks. Still to be escaped."""
    lines = (line.strip(" \t#*_>`-") for line in text[:2000].splitlines())
    return next(filter(None, lines), "")[:160]


def _is_safe(url: str) -> bool:
    try:
        return urlsplit(url).scheme.lower() in _SCHEMES
    except ValueError:
        return False


class _Renderer(RendererHTML):
    """Every text goes through text_html. The parser hands over no HTML: it takes that for text too."""

    def text(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return text_html(tokens[idx].content)

    def code_inline(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<code>{text_html(tokens[idx].content)}</code>"

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        content = tokens[idx].content
        focus = ' tabindex="0"' if any(len(line) > WIDE for line in content.split("\n")) else ""  # the keyboard scrolls it
        return f"<pre{focus}><code>{text_html(content)}</code></pre>\n"

    fence = code_block

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return '<div class="scroll" role="group" aria-label="Table" tabindex="0"><table>'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "</table></div>\n"

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A link to it, since nothing from elsewhere is loaded; within a link only its words."""
        token = tokens[idx]
        words = text_html(f"Image: {token.content or 'without a name'}")
        url = str(token.attrs.get("src", ""))
        if token.meta.get("is_linked") or not _is_safe(url):
            return f"<span>{words}</span>"
        return f'<a href="{escape(bare(url))}" rel="nofollow noopener noreferrer" target="_blank">{words}</a>'


def _tame(state: StateCore) -> None:
    """Lower the headings (without a gap between levels), keep the safe links, tick the boxes, and leave no style behind."""
    levels: list[str] = []
    for token in state.tokens:
        if token.type == "heading_open":
            levels = [*(level for level in levels if level < token.tag), token.tag]
        if token.type.startswith("heading_"):
            token.tag = f"h{min(6, _TOP_HEADING - 1 + len(levels))}"
        elif token.type in ("th_open", "td_open"):
            align = str(token.attrs.pop("style", "")).removeprefix("text-align:")
            if align in ("center", "right"):
                token.attrs["data-align"] = align
        elif token.type == "list_item_open":
            token.attrs.pop("class", None)
        elif token.children:
            _tame_inline(token.children)
    for item, inline in zip(state.tokens, state.tokens[2:], strict=False):  # a paragraph begins between them
        if item.type == "list_item_open" and inline.children and (box := _BOXES.get(inline.children[0].content[:4])):
            item.attrs["class"] = "box"
            inline.children[0].content = box + inline.children[0].content[4:]


def _tame_inline(tokens: Sequence[Token]) -> None:
    links: list[Token] = []
    for token in tokens:
        if token.type == "link_open":
            links.append(token)
            url = str(token.attrs.get("href", ""))
            if _is_safe(url):
                token.attrs = {"href": bare(url), "rel": "nofollow noopener noreferrer", "target": "_blank"}
            else:  # a path in the repository, most of the time
                token.tag, token.attrs = "span", {"title": bare(url)}
        elif token.type == "link_close" and links:
            token.tag = links.pop().tag
        elif token.type == "image":
            token.meta["is_linked"] = bool(links)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable(["table", "strikethrough"])
    parser.validateLink = lambda url: True  # type: ignore[method-assign]  # what is not safe becomes no link, in _tame
    parser.core.ruler.push("tame", _tame)
    return parser


_PARSER = _parser()
