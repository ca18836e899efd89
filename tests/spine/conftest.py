"""One real product a module; a module's ENVIRONMENT is added to the product's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.spine import broken
from tests.spine.product import Product


@pytest.fixture(scope="module")
def product(request: pytest.FixtureRequest) -> Iterator[Product]:
    product = Product(**getattr(request.module, "ENVIRONMENT", {}))
    try:
        product.start()
        yield product
    finally:
        product.close()


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
