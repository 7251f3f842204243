"""Engines: every item comes back, in processes too, also when one kills its worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    script = "from tests.test_engines import doubler\nfrom analyzer.engines.local import run\nprint(list(run(doubler, [1, 2], 2)))\n"
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the worker processes cannot start" in done.stderr
    assert "__main__" in done.stderr.splitlines()[-1]
