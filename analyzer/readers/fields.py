"""Typed access to foreign JSON: each getter names the place of a field that is of a wrong type."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from analyzer.readers.assemble import Source
from analyzer.wire import quoted


def items(obj: Mapping[str, Any], key: str, source: Source, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of the list `key` (absent: none), each with its place: `segments[3]`."""
    value = obj.get(key)
    if value is None:
        return
    if not isinstance(value, list):
        raise source.wrong(f"{key!r} must be a list", place, do="Export the file again.")
    for index, item in enumerate(value):
        inner = f"{place}, {key}[{index}]" if place else f"{key}[{index}]"
        if not isinstance(item, dict):
            raise source.wrong("expected an object", inner, do="Export the file again.")
        yield inner, item


def text_of(obj: Mapping[str, Any], key: str, source: Source, place: str = "") -> str | None:
    """Text, or `None` where absent."""
    value = obj.get(key)
    if value is None or isinstance(value, str):
        return value
    raise source.wrong(f"{key!r} must be text", place, do="Export the file again.")


def number(obj: Mapping[str, Any], key: str, source: Source, place: str = "", *, low: float = 0.0, high: float = math.inf) -> float | None:
    """A number between `low` and `high`, also where it is written as text (Amazon does), or `None` where absent."""
    value = obj.get(key)
    if value is None:
        return None
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or not low <= found <= high:
        wanted = "a number" if (low, high) == (-math.inf, math.inf) else f"a number from {low:g} to {high:g}"
        raise source.wrong(f"{key!r} must be {wanted}, found {quoted(value)}", place, do="Mend the number, or export the file again.")
    return found


def child(obj: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object `key`, empty where there is none."""
    value = obj.get(key)
    return value if isinstance(value, dict) else {}
