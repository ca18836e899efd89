"""Servers of the Model Context Protocol, given to the real agents by their adapters, as a repository's rows ask for it."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.adapters.base import McpServer, ModelAccess, TurnRequest
from agents.packages import PACKAGES
from agents.registry import adapter
from tests.agents import _mcp
from tests.installed import share
from tests.models.server import ModelServer
from tests.spine.person import Person
from tests.spine.product import GIT, Product

WEB = McpServer("docs", url="https://docs.example/mcp")
COMMAND = McpServer("db-1", command=["uv", "run", 'a "b"'], env={"LEVEL": "1"})
SEARCHED = {"codex", "qwen"}  # their models hear of such tools only when they search for one
_words = itertools.count(1)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_launch_names_the_servers_it_is_given_and_no_others(name: str) -> None:
    access = ModelAccess(adapter(name).providers[0], "http://127.0.0.1:3128/x", "token")

    def told(*servers: McpServer) -> str:
        launch = adapter(name).launch(TurnRequest("do it", mcp_servers=servers), access)
        return json.dumps([list(launch.argv), dict(launch.files), launch.acp])

    assert "docs" not in told()
    assert WEB.url in told(WEB)
    assert "db-1" not in told(WEB)
    assert "LEVEL" in told(COMMAND)
    assert WEB.url in told(WEB, COMMAND)
    assert "db-1" in told(WEB, COMMAND)


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def web() -> Iterator[_mcp.HttpServer]:
    with _mcp.HttpServer() as server:
        yield server


@pytest.fixture(scope="module")
def person(model: ModelServer, web: _mcp.HttpServer) -> Iterator[Person]:
    """A user whose repository has a server that is a command, one at a URL that the network allows, and one that it does not."""
    product = Product(AGENT_SILENCE_S="90", **model.environment)
    try:
        product.environment["ALLOW_PRIVATE_HOSTS"] += f",127.0.0.1:{model.port},{web.host}:{web.port}"
        (product.repo / "weather.py").write_text(Path(_mcp.__file__).read_text())
        for words in (["add", "."], ["commit", "-q", "-m", "Tell the weather"]):
            subprocess.run([*GIT, *words], cwd=product.repo, check=True)
        share(product.data, *PACKAGES)
        product.start()
        person = Person(product)
        person.do(
            "from tasks import mcp_servers\n"
            "from tasks.models import Repo\n"
            "repo = Repo.objects.select_related('owner').get()\n"
            f"repo.network_hosts = [*repo.network_hosts, '{web.host}:{web.port}']\n"
            "repo.save()\n"
            "by = repo.owner\n"
            "env = 'SEEN=/workspace/seen.jsonl\\nQUOTED=\"a \\'b\\' = c\"'\n"
            "mcp_servers.set_mcp_server(by=by, repo=repo, name='command-1', command='python3 weather.py', env=env)\n"
            f"mcp_servers.set_mcp_server(by=by, repo=repo, name='web_1', url='{web.url}')\n"
            "mcp_servers.set_mcp_server(by=by, repo=repo, name='closed', url='https://closed.example/mcp')\n"
        )
        yield person
        person.close()
    finally:
        product.close()


@pytest.mark.long
@pytest.mark.parametrize("name", PACKAGES)
def test_the_agent_asks_the_servers_and_offers_their_tools_to_its_model(
    person: Person, model: ModelServer, web: _mcp.HttpServer, name: str
) -> None:
    product, word = person.product, f"mcp-{next(_words)}-work"
    web.methods.clear()
    run = person.start(f"[[run ls]] [[say The end of {word}.]]", name)[name]
    row = product.ended(run, 120)
    assert row["status"] == "succeeded", row["error"]  # though one of the servers cannot be reached

    env, *asked = [json.loads(line) for line in product.files(run)["seen.jsonl"].splitlines()]
    assert {"method": "tools/list"} in asked
    assert env["env"]["QUOTED"] == "a 'b' = c"
    assert env["env"]["HTTPS_PROXY"].startswith("http://127.0.0.1:")  # without it, it could reach nothing
    assert "tools/list" in web.methods

    offered = json.dumps([seen.body for seen in model.asked(word)])
    assert name in SEARCHED or offered.count("sunshine") >= 2, "its model does not hear of the tools"
