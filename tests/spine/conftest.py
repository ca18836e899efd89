"""One real product a module; a module's ENVIRONMENT is added to the product's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
def fresh() -> Iterator[Product]:
    """A product of the test's own, not started yet."""
    product = Product()
    try:
        yield product
    finally:
        product.close()
