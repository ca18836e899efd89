"""Lines of code as HTML: tokens as <i class=…>, words that changed in <b>, what hides marked, all else escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import pairwise

from tasks.marks import HIDDEN, has_hidden, mark_html
from tasks.review.highlight import Highlighted, Spans
from tasks.review.rows import Text
from tasks.review.words import Marks

MOST_LINE = 2_000  # characters of a line that are shown


class Side:
    """The lines of one text. Without `shows_cr` the carriage returns with which all lines end are not marked."""

    def __init__(self, text: Text, highlighted: Highlighted, *, shows_cr: bool) -> None:
        self._lines = text.lines
        self._spans = highlighted.lines
        self._shows_cr = shows_cr
        self._last_without_end = 0 if text.ends else len(text.lines)
        whole = "".join([f"{line}\n" for line in text.lines])
        self._hides = has_hidden(whole if shows_cr else whole.replace("\r\n", "\n"))

    def html(self, number: int, marks: Marks = ()) -> str:
        """Line `number`, from 1."""
        line = self._lines[number - 1]
        if not self._shows_cr and number != self._last_without_end:
            line = line.removesuffix("\r")
        if len(line) > MOST_LINE:
            return f"{_composed(line[:MOST_LINE], (), ())}<span class=cut>… {len(line) - MOST_LINE:,} more characters</span>"
        spans = self._spans[number - 1] if number <= len(self._spans) else ()
        if marks or (self._hides and has_hidden(line)):
            html = _composed(line, spans, marks)
        elif spans:
            html = "".join(_tokens(line, spans))
        else:
            html = escape(line, quote=False)
        if number == self._last_without_end:
            return f"{html}<span class=eof>No newline at end of file</span>"
        return html


def _tokens(line: str, spans: Spans) -> Iterator[str]:
    at = 0
    for length, name in spans:
        text = escape(line[at : at + length], quote=False)
        yield f"<i class={name}>{text}</i>" if name else text
        at += length
    yield escape(line[at:], quote=False)


def _composed(line: str, spans: Spans, marks: Marks) -> str:
    """The same where marks or hidden characters lie across tokens. What hides is told from the line, not from its pieces."""
    names: list[tuple[int, str]] = []  # where each token ends
    for length, name in spans:
        names.append(((names[-1][0] if names else 0) + length, name))
    hidden = {match.start(): match.end() for match in HIDDEN.finditer(line)}
    ends = len(line)
    opened, closed = {start for start, _ in marks}, {min(end, ends) for _, end in marks}
    cuts = {0, ends, *hidden, *hidden.values(), *opened, *closed, *(end for end, _ in names)}
    out, token = [], 0
    for start, end in pairwise(sorted(cut for cut in cuts if cut <= ends)):
        if start in opened:
            out.append("<b>")
        while token < len(names) and names[token][0] <= start:
            token += 1
        name = names[token][1] if token < len(names) else ""
        text = mark_html(line[start]) if start in hidden else escape(line[start:end], quote=False)
        out.append(f"<i class={name}>{text}</i>" if name else text)
        if end in closed:
            out.append("</b>")
    return "".join(out)
