"""Agreement with human raters: labelled calls read strictly, and how well scores agree with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import TableError, TranscriptError
from analyzer.records import CAUSES, DIMENSIONS, LABELS, Transcript
from analyzer.wire import loads, transcript_from_json

#: Dimensions whose labels have an order; `unclear` stands outside the order of the resolution.
ORDERED: Final[Mapping[str, tuple[str, ...]]] = {**LABELS, "resolution": ("unresolved", "partial", "resolved")}
_BINS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledCall:
    """A call with what its raters said.

    `labels` holds one label per rated dimension, `evidence` the turns that carry it, `ratings` each rater's labels where several
    are given, `disputed` the dimensions to leave out of figures.
    """

    transcript: Transcript
    labels: Mapping[str, str]
    cause: str | None = None
    evidence: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ratings: tuple[Mapping[str, str], ...] = ()
    disputed: frozenset[str] = frozenset()


def read_labels(path: Path) -> tuple[LabelledCall, ...]:
    """Labelled calls from JSON Lines, one call a line: a transcript with its labels.

    Labels stand either together, `"labels": {"courtesy": "neutral", …, "cause": "policy"}` with `"evidence": {"courtesy": [3]}`, or as the codebook
    writes them, `"courtesy": {"label": "neutral", "turns": [3]}`. A dimension may be absent; a call without any label is an error. Optional:
    `ratings` (a list of labels objects, one per rater), `disputed` (names of dimensions).

    Raises:
        TableError: the file cannot be read, is not JSON Lines, or a line has a wrong field, label or turn number, or a call id twice.
    """
    if path.suffix.lower() not in (".jsonl", ".json", ".ndjson"):
        raise TableError(f"labels in {path.suffix or 'a file without extension'} are not read", where=str(path), do="Give JSON Lines (.jsonl): one labelled call a line.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"cannot be read: {error}", where=str(path), do="Give a file of JSON Lines in UTF-8.") from None
    calls: dict[str, LabelledCall] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            call = _labelled(loads(line, where=where), where)
        except TranscriptError as error:
            raise TableError(error.what, where=error.where, do=error.do) from None
        name = call.transcript.info.call_id
        if name in calls:
            raise TableError(f"call {name!r} stands twice", where=where, do="Keep one line per call.")
        calls[name] = call
    if not calls:
        raise TableError("there are no labelled calls", where=str(path), do="Write one labelled call a line.")
    return tuple(calls.values())


def _labelled(obj: object, where: str) -> LabelledCall:
    transcript = transcript_from_json(obj, where=where)
    assert isinstance(obj, dict)  # transcript_from_json saw to it
    record: dict[str, Any] = obj
    own = {name: record[name] for name in DIMENSIONS if isinstance(record.get(name), dict)}
    given = record.get("labels", {name: part.get("label") for name, part in own.items()})
    labels, cause = _labels(given, where)
    if not labels:
        raise TableError("no dimension is labelled", where=where, do=f"Give at least one of {', '.join(DIMENSIONS)}.")
    evidence = record.get("evidence", {name: part.get("turns", []) for name, part in own.items()})
    if cause is None and "resolution" in own:
        cause = _one_of(own["resolution"].get("cause"), CAUSES, "cause", where)
    ratings = record.get("ratings", [])
    disputed = record.get("disputed", [])
    if not isinstance(ratings, list) or not isinstance(disputed, list) or not set(disputed) <= set(DIMENSIONS):
        raise TableError("'ratings' or 'disputed' is not a list of the expected kind", where=where, do=f"disputed lists some of {', '.join(DIMENSIONS)}.")
    return LabelledCall(
        transcript=transcript,
        labels=labels,
        cause=cause,
        evidence=_evidence(evidence, len(transcript.turns), where),
        ratings=tuple(_labels(rating, where)[0] for rating in ratings),
        disputed=frozenset(disputed),
    )


def _labels(given: object, where: str) -> tuple[dict[str, str], str | None]:
    if not isinstance(given, dict):
        raise TableError("'labels' must be an object", where=where, do='Write it like {"courtesy": "neutral", "closing": "singing"}.')
    if unknown := [name for name in given if name not in (*DIMENSIONS, "cause")]:
        raise TableError(f"unknown dimension {unknown[0]!r}", where=where, do=f"The dimensions are {', '.join(DIMENSIONS)}, and cause.")
    labels = {name: label for name in DIMENSIONS if (label := _one_of(given.get(name), LABELS[name], name, where)) is not None}
    return labels, _one_of(given.get("cause"), CAUSES, "cause", where)


def _one_of(value: object, choices: tuple[str, ...], name: str, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in choices:
        raise TableError(f"unknown {name} label {value!r}", where=where, do=f"It is one of {', '.join(choices)}.")
    return value


def _evidence(given: object, turns: int, where: str) -> dict[str, tuple[int, ...]]:
    if not isinstance(given, dict):
        raise TableError("'evidence' must be an object", where=where, do='Write it like {"courtesy": [3, 7]}.')
    out: dict[str, tuple[int, ...]] = {}
    for name, numbers in given.items():
        if name not in DIMENSIONS:
            continue  # corpora mark evidence of further questions
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < turns for n in numbers):
            raise TableError(f"evidence of {name} names a turn that is not there", where=where, do=f"Count turns from 0; this call has {turns}.")
        out[name] = tuple(numbers)
    return out
