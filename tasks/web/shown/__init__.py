"""What others wrote (agents, programs, repositories, users) as HTML. All of it is taken for hostile."""

from tasks.marks import bare, name_html, text_html
from tasks.web.shown.ansi import log_html
from tasks.web.shown.events import Shown, data_of, key_of, show, whole
from tasks.web.shown.history import Standing, standings
from tasks.web.shown.markdown import markdown_html
from tasks.web.shown.text import MOST_SHOWN, count, cut, duration, took

__all__ = [
    "MOST_SHOWN",
    "Shown",
    "Standing",
    "bare",
    "count",
    "cut",
    "data_of",
    "duration",
    "key_of",
    "log_html",
    "markdown_html",
    "name_html",
    "show",
    "standings",
    "text_html",
    "took",
    "whole",
]
