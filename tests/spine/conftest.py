"""Real products; a module's ENVIRONMENT is added to that of the one it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.installed import share
from tests.models.server import ModelServer
from tests.spine import broken
from tests.spine.person import Person
from tests.spine.product import Product


@pytest.fixture(scope="session")
def products() -> Iterator[Callable[..., Product]]:
    """Running products by what their environment has besides; a start costs seconds, so modules share them."""
    made: dict[frozenset[tuple[str, str]], Product] = {}
    with ExitStack() as stack:

        def find(environment: dict[str, str]) -> Product:
            key = frozenset(environment.items())
            if key not in made:
                made[key] = Product(**environment)
                stack.callback(made[key].close)
            if not made[key].is_up:
                made[key].start()
            return made[key]

        yield find


@pytest.fixture(scope="module")
def product(request: pytest.FixtureRequest, products: Callable[..., Product]) -> Product:
    return products(getattr(request.module, "ENVIRONMENT", {}))


@pytest.fixture
def make_product() -> Iterator[Callable[..., Product]]:
    """Products of the test's own, not started yet."""
    with ExitStack() as stack:

        def make(**environment: str) -> Product:
            product = Product(**environment)
            stack.callback(product.close)
            return product

        yield make


@pytest.fixture
def make_broken(make_product: Callable[..., Product], tmp_path: Path) -> Callable[..., Product]:
    """A running product with a fence taken out."""

    def make(changes: list[broken.Change], **environment: str) -> Product:
        product = make_product(**environment)
        product.source = broken.copy(tmp_path / "checkout", changes)
        product.start()
        return product

    return make


# Of `make test`, one for each format; the others are installed by the long tests that want them.
AGENTS = ("claude", "codex", "opencode:google/gemini-2.5-pro")


@pytest.fixture(scope="session")
def model() -> Iterator[ModelServer]:
    """The scripted model that the agents of `person`'s product ask."""
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="session")
def person(model: ModelServer) -> Iterator[Person]:
    """A user of a product with agents, whose model is the scripted one. Silence is longer than an agent's start."""
    product = Product(CHECKPOINT_S="1", AGENT_SILENCE_S="60", AGENT_RETRY_S="1", MAX_ACTIVE_RUNS="12", **model.environment)
    try:
        product.environment["ALLOW_PRIVATE_HOSTS"] += f",127.0.0.1:{model.port}"
        share(product.data, *(agent.partition(":")[0] for agent in AGENTS))
        product.start()
        person = Person(product)
        yield person
        person.close()
    finally:
        product.close()
