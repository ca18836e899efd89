"""What others wrote is harmless for a terminal; sources and streams are read as they are meant."""

from __future__ import annotations

import pytest

from asynccode.client.clean import clean, line, said
from asynccode.client.conversation import Conversation
from asynccode.client.credentials import server_of
from asynccode.client.failures import Usage
from asynccode.client.following import messages
from asynccode.client.working import web_address


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä ✓ 日本\n\tnext", "plain ä ✓ 日本\n\tnext"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP+q544e\x1b\\\x1bc\x1b(0x", "x"),
        ("\x9b31m \x1b", "\\x9b31m \\x1b"),
        ("\x1b]52;c;never ended", "\\x1b]52;c;never ended"),
        ("real\rfake\r\n", "real\nfake\n"),
        ("a\u202eb\u200bc\ufeff\U000e0041", "aU+202EbU+200BcU+FEFFU+E0041"),
        ("👩\u200d💻 pay\u200dpal", "👩\u200d💻 payU+200Dpal"),
        ("no\u00a0break \ud800", "no break U+D800"),
    ],
)
def test_commands_are_dropped_and_what_hides_is_marked(text: str, shown: str) -> None:
    assert said(text) == shown


def test_a_name_stays_on_one_line_and_a_difference_shows_all() -> None:
    assert line("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert clean("+\x1b[31mred\r") == "+\\x1b[31mred\\x0d"


def test_events_of_any_shape_are_lines() -> None:
    talk = Conversation()

    def shown(kind: str, data: object) -> list[str]:
        return [text.plain for text in talk.lines({"kind": kind, "turn": 1, "data": data})]

    assert shown("message", {"id": "m", "chunk": "Hel"}) == []
    assert shown("message", {"id": "m", "chunk": "lo"}) == []
    assert talk.tail == "Hello"
    assert shown("message", {"id": "m", "text": "Hello!"}) == ["Hello!"]
    assert talk.tail == ""
    shown("message", {"id": "n", "chunk": "cut off"})
    assert shown("status", {"status": "interrupted"}) == ["cut off", "── interrupted"]
    assert shown("tool_call", {"title": "Run\nls\x1b[2J", "tool": "execute"}) == ["▸ Run ls"]
    assert shown("tool_result", {"output": "x\n" * 50})[-1] == "  … there is more on the run's page"
    assert shown("plan", {"entries": [{"content": "One", "status": "completed"}, "odd"]}) == ["  ✓ One"]
    assert shown("error", {"text": {"odd": [1]}, "advice": None}) == ['✗ {"odd": [1]}']
    for odd in (None, [], "text", {"text": None, "id": [], "entries": 3, "input_tokens": "many", "cost_usd": "x"}):
        for kind in ("message", "thought", "tool_call", "tool_result", "plan", "usage", "status", "log", "error", "new one"):
            shown(kind, odd)


def test_a_stream_that_is_cut_gives_whole_messages_only() -> None:
    lines = [": hello", "", "id: 1", 'data: {"a":', "data: 1}", "", ": still here", "", "event: end", "data: {}", "", "data: cut"]
    assert list(messages(lines)) == [("", '{"a":\n1}'), ("end", "{}")]


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("git@github.com:acme/shop.git", "https://github.com/acme/shop.git"),
        ("ssh://git@github.com:22/acme/shop", "https://github.com/acme/shop"),
        ("https://alice:token@github.com/acme/shop", "https://github.com/acme/shop"),
        ("/srv/shop", "/srv/shop"),
    ],
)
def test_where_a_checkout_came_from_as_the_server_knows_it(origin: str, address: str) -> None:
    assert web_address(origin) == address


def test_servers() -> None:
    assert server_of("code.example.org/") == "https://code.example.org"
    assert server_of("http://LOCALHOST:8000/below/") == "http://localhost:8000/below"
    for bad in ("", "ftp://x", "https://user:secret@x", "https://x?y", "https://x:99999"):
        with pytest.raises(Usage):
            server_of(bad)
