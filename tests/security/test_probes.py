"""What an agent might try from inside a sandbox is refused, and each attempt is one that works outside."""

from __future__ import annotations

import asyncio

import pytest

from tests.security.probes import PROBES
from tests.security.run import Result, run_all


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {each.probe.tried: each for each in asyncio.run(run_all())}


@pytest.mark.parametrize("tried", [probe.tried for probe in PROBES])
def test_the_attempt_is_refused_inside_and_works_outside(results, tried):
    result = results[tried]
    assert result.is_shown, result.outside
    assert result.is_refused, result.inside
