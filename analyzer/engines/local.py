"""This machine: in the calling process, or in N worker processes that load the models once each."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from analyzer.engines import Item, Lost, Result
from analyzer.errors import UsageError

_work: Callable[[Any], Any] | None = None


def run(setup: Callable[[], Callable[[Item], Result]], items: Iterable[Item], jobs: int) -> Iterator[tuple[Item, Result | Lost]]:
    """Run all items; with `jobs` over 1 in that many processes, in no certain order.

    A worker that dies (crash, out of memory) takes the items in flight with it: each of them is tried once more, alone in
    a process of its own; one that dies again comes back as `Lost`. Exceptions of the work itself are the caller's bugs and pass through.
    """
    if jobs == 1:
        work = setup()
        for item in items:
            yield item, work(item)
        return
    waiting = iter(items)
    while True:
        suspects: list[Item] = []
        yield from _pool(setup, waiting, jobs, suspects)
        if not suspects:
            return
        for item in suspects:
            yield item, _alone(setup, item)


def _pool(setup: Callable[[], Callable[[Item], Result]], items: Iterator[Item], jobs: int, suspects: list[Item]) -> Iterator[tuple[Item, Result]]:
    """One pool until the items run out, or a worker dies: then `suspects` gets the items that were in flight."""
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(setup,)) as pool:
        # Twice as many as workers: nobody waits for the next item, and a million items are never held at once.
        try:
            pool.submit(_nothing).result()
        except BrokenProcessPool:
            do = "In a script, put what starts it under `if __name__ == '__main__':`; else check the memory that is free."
            raise UsageError("the worker processes cannot start", where=f"jobs={jobs}", do=do) from None
        flying: dict[Future[Result], Item] = {}
        for item in itertools.islice(items, 2 * jobs):
            _submit(pool, item, flying, suspects)
        try:
            while flying:
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    item = flying.pop(future)
                    try:
                        result: Result = future.result()
                    except BrokenProcessPool:
                        suspects.append(item)
                        continue
                    yield item, result
                    if not suspects and (more := next(items, None)) is not None:
                        _submit(pool, more, flying, suspects)
        except BaseException:  # Ctrl-C, or a reader that stopped: finish what is in hand, start nothing more
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _submit(pool: ProcessPoolExecutor, item: Item, flying: dict[Future[Any], Item], suspects: list[Item]) -> None:
    try:
        flying[pool.submit(_do, item)] = item
    except BrokenProcessPool:  # broken, but its own futures have not come back yet
        suspects.append(item)


def _alone(setup: Callable[[], Callable[[Item], Result]], item: Item) -> Result | Lost:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(setup,)) as pool:
        try:
            result: Result = pool.submit(_do, item).result()
            return result
        except BrokenProcessPool:
            return Lost(how="its worker process died twice, the second time alone with this call")


def _start(setup: Callable[[], Callable[[Any], Any]]) -> None:
    global _work  # noqa: PLW0603 - the one place a worker process keeps its loaded models
    _work = setup()


def _nothing() -> None:
    """Comes back once a worker has started."""


def _do(item: Any) -> Any:
    assert _work is not None
    return _work(item)
