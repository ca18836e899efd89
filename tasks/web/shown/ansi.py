"""Output of programs as a terminal would leave it, with its colours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from django.utils.safestring import SafeString, mark_safe

from tasks.marks import text_html
from tasks.web.shown.text import cut

# Terminal escapes: CSI (colours, cursor), OSC and the other strings (titles, links), and the short ones.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])|\x1b(?:[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
)
_MOVES = re.compile(r"([\n\r])")
_PARAMETERS = re.compile(r"[0-9;:]{0,60}")

# What terminals usually mean by the sixteen colours; how they look here is up to tokens.css.
_PALETTE = (
    *((0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229)),
    *((127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255), (255, 255, 255)),
)
_ON = {1: "is_bold", 2: "is_dim", 3: "is_italic", 4: "is_underlined", 7: "is_inverse", 9: "is_struck", 21: "is_underlined"}
_OFF = {22: ("is_bold", "is_dim"), 23: ("is_italic",), 24: ("is_underlined",), 27: ("is_inverse",), 29: ("is_struck",)}


class Style(NamedTuple):
    """How text looks; colours are one of sixteen, None is the default. Hidden and blinking text is shown as any other."""

    ink: int | None = None
    ground: int | None = None
    is_bold: bool = False
    is_dim: bool = False
    is_italic: bool = False
    is_underlined: bool = False
    is_inverse: bool = False
    is_struck: bool = False


PLAIN = Style()


class Terminal:
    """One stream of output. The style in force at the end of one text goes on in the next."""

    def __init__(self) -> None:
        self._style = PLAIN

    def html(self, text: str) -> SafeString:
        """Text that begins on a new line, and ends one. Nothing moves but by line breaks and carriage returns."""
        text = text.replace("\r\n", "\n").removesuffix("\n")
        if self._style == PLAIN and not re.search("[\x1b\x9b\r]", text):
            return text_html(text)
        runs = groupby(self._written(text), key=lambda part: part[0])
        return mark_safe("".join(_span(style, "".join(part[1] for part in parts)) for style, parts in runs))  # noqa: S308 (escaped)

    def _written(self, text: str) -> Iterator[tuple[Style, str]]:
        line = _Line()
        end = 0
        for escape in [*_ESCAPE.finditer(text), None]:
            for piece in _MOVES.split(text[end : escape.start() if escape else None]):
                if piece == "\n":
                    yield from line.parts
                    yield self._style, "\n"
                    line = _Line()
                elif piece == "\r":
                    line.column = 0
                elif piece:
                    line.write(self._style, piece)
            if escape is None:
                break
            end = escape.end()
            if escape["final"] == "m":
                self._style = styled(self._style, escape["parameters"])
            elif escape["final"] == "K":
                line.erase(escape["parameters"])
        yield from line.parts


class _Line:
    """One line while it is written. After a carriage return it is kept in cells, since any of them may be written again."""

    def __init__(self) -> None:
        self.parts: list[tuple[Style, str]] = []
        self.column: int | None = None  # None: at the end, nothing has been written twice
        self._has_cells = False

    def write(self, style: Style, text: str) -> None:
        if self.column is None:
            self.parts.append((style, text))
            return
        self._split()
        self.parts[self.column : self.column + len(text)] = [(style, character) for character in text]
        self.column += len(text)

    def erase(self, what: str) -> None:
        if self.column is None:
            if what == "2":
                self.parts = [(PLAIN, " " * sum(len(text) for _, text in self.parts))]
            return
        self._split()
        if what in ("", "0"):
            del self.parts[self.column :]
        elif what in ("1", "2"):
            if what == "2":
                del self.parts[self.column :]
            self.parts[: self.column] = [(PLAIN, " ")] * min(self.column, len(self.parts))

    def _split(self) -> None:
        if not self._has_cells:
            self.parts = [(style, character) for style, text in self.parts for character in text]
            self._has_cells = True


def log_html(text: str) -> SafeString:
    """A whole text of a program's output."""
    return Terminal().html(cut(text.removesuffix("\n")))


def _span(style: Style, text: str) -> str:
    names = _names(style)
    return f'<span class="{names}">{text_html(text)}</span>' if names and not text.isspace() else text_html(text)


@lru_cache(1024)
def _names(style: Style) -> str:
    """The classes of log.css. Whatever lies on a coloured ground is written in the colour of paper: that can be read."""
    ground = style.ground if not style.is_inverse else "ink" if style.ink is None else style.ink
    names = []
    if ground is not None:
        names.append(f"ground-{ground}")
    elif style.ink is not None:
        names.append(f"ink-{style.ink}")
    elif style.is_dim:
        names.append("dim")
    looks = (("bold", style.is_bold), ("italic", style.is_italic), ("underlined", style.is_underlined), ("struck", style.is_struck))
    return " ".join([*names, *(name for name, is_on in looks if is_on)])


@lru_cache(1024)
def styled(style: Style, parameters: str) -> Style:
    """The style after a "select graphic rendition" with these parameters; what makes no sense changes nothing."""
    if not _PARAMETERS.fullmatch(parameters):
        return style
    codes: list[int] = []
    for part in parameters.split(";"):
        head, *rest = part.split(":")
        if head in ("38", "48") and len(rest) > 4:  # 38:2:[colour space]:r:g:b
            del rest[1]
        if head == "4" and rest:
            head, rest = ("24" if rest[0] == "0" else "4"), []
        codes += [int(code or 0) for code in (head, *rest)]
    while codes:
        style = _changed(style, codes)
    return style


def _changed(style: Style, codes: list[int]) -> Style:
    """The style after the first of the codes (with what belongs to it), which is taken out of them."""
    match codes.pop(0):
        case 0:
            return PLAIN
        case code if code in _ON:
            return style._replace(**{_ON[code]: True})
        case code if code in _OFF:
            return style._replace(**dict.fromkeys(_OFF[code], False))
        case 38:
            return style._replace(ink=_colour(codes, style.ink))
        case 48:
            return style._replace(ground=_colour(codes, style.ground))
        case 39:
            return style._replace(ink=None)
        case 49:
            return style._replace(ground=None)
        case code if 30 <= code <= 37 or 90 <= code <= 97:
            return style._replace(ink=code - 30 if code < 90 else code - 82)
        case code if 40 <= code <= 47 or 100 <= code <= 107:
            return style._replace(ground=code - 40 if code < 100 else code - 92)
    return style


def _colour(codes: list[int], old: int | None) -> int | None:
    kind = codes.pop(0) if codes else 0
    if kind == 5 and codes:
        return _of_256(codes.pop(0), old)
    if kind == 2 and len(codes) >= 3:
        red, green, blue = (codes.pop(0) for _ in range(3))
        return nearest(min(red, 255), min(green, 255), min(blue, 255))
    codes.clear()  # what follows cannot be told from the colour's own figures
    return old


def _of_256(code: int, old: int | None) -> int | None:
    if code < 16:
        return code
    if code < 232:
        levels = (0, 95, 135, 175, 215, 255)
        return nearest(levels[(code - 16) // 36], levels[(code - 16) // 6 % 6], levels[(code - 16) % 6])
    return nearest(*[8 + (code - 232) * 10] * 3) if code < 256 else old


@lru_cache(4096)
def nearest(red: int, green: int, blue: int) -> int:
    """Which of the sixteen colours comes nearest to one of sixteen million."""

    def distance(other: Sequence[int]) -> int:
        return sum((a - b) ** 2 for a, b in zip(other, (red, green, blue), strict=True))

    candidates: Iterable[int] = range(16)
    return min(candidates, key=lambda number: distance(_PALETTE[number]))
