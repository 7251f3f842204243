"""Engines: every item comes back, in processes too, also when one kills its worker."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from analyzer.engines import Lost
from analyzer.engines.local import run


def doubler() -> Callable[[int], int]:
    def work(item: int) -> int:
        if item == 13:
            os._exit(9)
        return 2 * item

    return work


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_item_comes_back_with_its_result(jobs: int) -> None:
    items = list(range(12))
    assert sorted(run(doubler, items, jobs)) == [(n, 2 * n) for n in items]


def test_an_item_that_kills_its_worker_is_lost_alone() -> None:
    results = dict(run(doubler, [*range(8, 18)], 2))
    assert isinstance(results.pop(13), Lost)
    assert results == {n: 2 * n for n in range(8, 18) if n != 13}
