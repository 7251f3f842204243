"""Agreement with human raters: labelled calls read strictly, and how well scores agree with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        raise TableError(
            f"labels in {path.suffix or 'a file without extension'} are not read",
            where=str(path),
            do="Give JSON Lines (.jsonl): one labelled call a line.",
        )
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
        raise TableError(
            "'ratings' or 'disputed' is not a list of the expected kind", where=where, do=f"disputed lists some of {', '.join(DIMENSIONS)}."
        )
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its percentile-bootstrap interval over conversations; bounds are `None` where it could not be resampled."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is compared with a rater's label: probabilities in the order of the dimension's labels, and whether the score abstained."""

    probabilities: Mapping[str, float]
    abstained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How scores of one dimension agree with raters, over `n` calls with a label that is not disputed.

    `figures` holds `accuracy`, `macro_f1`, `kappa` (Cohen), `weighted_kappa` (quadratic; labels with an order only), `ac1` (Gwet), `brier`
    (sum over labels, 0 to 2) and `ece` (expected calibration error in ten bins of the top probability); `per_label` precision, recall, F1,
    AUC one-vs-rest and support, a figure being `None` where it is not defined; `confusion` counts by rater's label, then score's.
    Abstained calls count with their most probable label in all of these; `answered_accuracy` is over the others. `ceiling` is Cohen's kappa
    between the first two raters.
    """

    dimension: str
    n: int
    abstained_share: float
    answered_accuracy: float | None
    figures: Mapping[str, Interval]
    per_label: Mapping[str, Mapping[str, float | None]]
    confusion: Mapping[str, Mapping[str, int]]
    ceiling: float | None


def evaluate(
    calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]], *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Agreement]:
    """Agreement per dimension; `predictions` runs beside `calls` and maps dimension to prediction. Dimensions without a usable label are left out.

    Raises:
        TableError: no dimension has both a label and a prediction.
    """
    if len(calls) != len(predictions):
        raise ValueError(f"{len(calls)} calls but {len(predictions)} predictions")
    out: dict[str, Agreement] = {}
    for dimension in DIMENSIONS:
        pairs = [
            (call, made[dimension])
            for call, made in zip(calls, predictions, strict=True)
            if dimension in call.labels and dimension not in call.disputed and dimension in made
        ]
        if pairs:
            out[dimension] = _agreement(dimension, pairs, np.random.default_rng(seed), resamples, level)
    if not out:
        raise TableError("no label can be compared with a score", where="labels", do="Label at least one dimension that is not disputed.")
    return out


def gwet_ac1(rater: NDArray[np.int64], other: NDArray[np.int64], labels: int) -> float:
    """Gwet's AC1, chance-corrected agreement that stays steady under skewed classes.

    (p - e) / (1 - e) with e = sum_k q_k (1 - q_k) / (K - 1), q_k the mean share of label k over both raters
    (Gwet 2008, "Computing inter-rater reliability and its variance in the presence of high agreement", eq. 6 to 8).
    """
    share = (np.bincount(rater, minlength=labels) + np.bincount(other, minlength=labels)) / (2 * len(rater))
    chance = float((share * (1 - share)).sum() / (labels - 1))
    return float(((rater == other).mean() - chance) / (1 - chance))


def expected_calibration_error(probabilities: NDArray[np.float64], truth: NDArray[np.int64], bins: int = _BINS) -> float:
    """Mean gap between the top probability and its hit rate over equally wide bins, weighted by their calls (Naeini et al. 2015)."""
    top = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == truth
    place = np.minimum((top * bins).astype(int), bins - 1)
    gaps = [abs(top[place == b].mean() - hit[place == b].mean()) * (place == b).mean() for b in range(bins) if (place == b).any()]
    return float(sum(gaps))


def _agreement(dimension: str, pairs: Sequence[tuple[LabelledCall, Prediction]], rng: np.random.Generator, resamples: int, level: float) -> Agreement:
    labels = LABELS[dimension]
    truth = np.array([labels.index(call.labels[dimension]) for call, _ in pairs], dtype=np.int64)
    made = np.array([[one.probabilities[label] for label in labels] for _, one in pairs], dtype=np.float64)
    answered = np.array([not one.abstained for _, one in pairs])
    best = made.argmax(axis=1)
    right = best == truth
    figures = _figures(dimension, truth, made)
    draws: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(resamples):
        rows = rng.integers(0, len(truth), len(truth))
        for name, value in _figures(dimension, truth[rows], made[rows]).items():
            if np.isfinite(value):
                draws[name].append(value)
    return Agreement(
        dimension=dimension,
        n=len(pairs),
        abstained_share=float(1 - answered.mean()),
        answered_accuracy=float(right[answered].mean()) if answered.any() else None,
        figures={name: _interval(value, draws[name], level) for name, value in figures.items() if np.isfinite(value)},
        per_label=_per_label(labels, truth, made),
        confusion={label: {other: int(((truth == i) & (best == j)).sum()) for j, other in enumerate(labels)} for i, label in enumerate(labels)},
        ceiling=_ceiling(dimension, [call for call, _ in pairs]),
    )


def _interval(value: float, draws: Sequence[float], level: float) -> Interval:
    if len(draws) < 2:
        return Interval(value=value, low=None, high=None)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def _confusion(truth: NDArray[np.int64], best: NDArray[np.int64], labels: int) -> NDArray[np.float64]:
    return np.bincount(truth * labels + best, minlength=labels * labels).reshape(labels, labels).astype(np.float64)


def _figures(dimension: str, truth: NDArray[np.int64], made: NDArray[np.float64]) -> dict[str, float]:
    """The headline figures; not-a-number where one is not defined (one class only, say)."""
    labels = LABELS[dimension]
    best = made.argmax(axis=1)
    table = _confusion(truth, best, len(labels))
    there = (table.sum(0) + table.sum(1)) > 0
    f1 = 2 * table.diagonal()[there] / (table.sum(0) + table.sum(1))[there]
    order = [labels.index(label) for label in ORDERED[dimension]]
    ranked = table[np.ix_(order, order)]
    return {
        "accuracy": float((best == truth).mean()),
        "macro_f1": float(f1.mean()),
        "kappa": _kappa(table, np.ones_like(table) - np.eye(len(labels))),
        "weighted_kappa": _kappa(ranked, np.subtract.outer(np.arange(len(order)), np.arange(len(order))) ** 2.0),
        "ac1": gwet_ac1(truth, best, len(labels)),
        "brier": float(((made - np.eye(len(labels))[truth]) ** 2).sum(axis=1).mean()),
        "ece": expected_calibration_error(made, truth),
    }


def _kappa(table: NDArray[np.float64], cost: NDArray[np.float64]) -> float:
    """Cohen's kappa with disagreement costs (Cohen 1968), from a table of counts; the resampling needs it faster than a library's from labels."""
    total = table.sum()
    expected = np.outer(table.sum(1), table.sum(0)) / total if total else table
    chance = float((cost * expected).sum())
    return 1.0 - float((cost * table).sum()) / chance if chance > 0 else float("nan")


def _per_label(labels: tuple[str, ...], truth: NDArray[np.int64], made: NDArray[np.float64]) -> dict[str, dict[str, float | None]]:
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    numbers = list(range(len(labels)))
    precision, recall, f1, support = precision_recall_fscore_support(truth, made.argmax(axis=1), labels=numbers, zero_division=np.nan)
    out: dict[str, dict[str, float | None]] = {}
    for number, label in enumerate(labels):
        both = 0 < int(support[number]) < len(truth)
        out[label] = {
            "precision": _defined(precision[number]),
            "recall": _defined(recall[number]),
            "f1": _defined(f1[number]),
            "auc": float(roc_auc_score(truth == number, made[:, number])) if both else None,
            "support": float(support[number]),
        }
    return out


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _ceiling(dimension: str, calls: Sequence[LabelledCall]) -> float | None:
    labels = LABELS[dimension]
    pairs = [
        (call.ratings[0][dimension], call.ratings[1][dimension])
        for call in calls
        if len(call.ratings) > 1 and all(dimension in r for r in call.ratings[:2])
    ]
    if not pairs:
        return None
    first, second = (np.array([labels.index(pair[side]) for pair in pairs], dtype=np.int64) for side in (0, 1))
    kappa = _kappa(_confusion(first, second, len(labels)), np.ones((len(labels), len(labels))) - np.eye(len(labels)))
    return _defined(kappa)
