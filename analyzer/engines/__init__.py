"""Where the work runs: an engine applies one function to many items and says which ones killed their worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """An item whose worker died twice, the second time with nothing else in it."""

    how: str


class Engine(Protocol):
    """Runs `setup()` once in each worker and its function on every item; yields each item with its result, as they finish."""

    def __call__(self, setup: Callable[[], Callable[[Item], Result]], items: Iterable[Item], jobs: int) -> Iterator[tuple[Item, Result | Lost]]:  # noqa: D102
        ...
