"""Figures of agreement between two sets of answers, on plain arrays, and intervals: of shares, and bootstrapped of anything."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)
NAN: Final = float("nan")
#: Per cent of calls answered, the surest first.
ANSWERED: Final = (100, 90, 80, 70, 50)
_BINS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its interval, as the function that makes it says; bounds are `None` where there is none, as of a single conversation."""

    value: float
    low: float | None
    high: float | None


def bootstrap(
    measure: Callable[[Ints], Mapping[Key, float]], units: Sequence[str], *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[Key, Interval]:
    """The figures of `measure`, each with its percentile interval (Efron & Tibshirani 1993, ch. 13); those not defined (NaN) are left out.

    `measure` takes row numbers, with repetition, and returns the figures of those rows. `units` names each row's conversation: rows of one
    conversation are drawn together. Resamples in which a figure is not defined do not count for it. A single conversation has no bounds.
    """
    if not units:
        return {}
    rng = np.random.default_rng(seed)
    _, which = np.unique(np.asarray(units), return_inverse=True)
    rows = np.argsort(which, kind="stable")
    blocks = np.split(rows, np.flatnonzero(np.diff(which[rows])) + 1)
    figures = {name: value for name, value in measure(np.arange(len(units))).items() if np.isfinite(value)}
    draws: dict[Key, list[float]] = {name: [] for name in figures}
    for _ in range(resamples if len(blocks) > 1 else 0):
        drawn = rng.integers(0, len(blocks), len(blocks))
        sample = rows[drawn] if len(blocks) == len(rows) else np.concatenate([blocks[n] for n in drawn])
        for name, value in measure(sample).items():
            if name in draws and np.isfinite(value):
                draws[name].append(value)
    tails = [(1 - level) / 2, (1 + level) / 2]
    limits = {name: np.quantile(values, tails) if len(values) > 1 else (None, None) for name, values in draws.items()}
    return {name: Interval(value=float(value), low=_number(limits[name][0]), high=_number(limits[name][1])) for name, value in figures.items()}


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def wilson(count: int, total: int) -> Interval:
    """The share `count / total`, total at least 1, with its 95 % score interval (Wilson 1927)."""
    from scipy.stats import binomtest

    bounds = binomtest(count, total).proportion_ci(method="wilson")
    return Interval(value=count / total, low=float(bounds.low), high=float(bounds.high))


def confusion(truth: Ints, other: Ints, labels: int) -> Floats:
    """Counts, a row per label of `truth`, a column per label of `other`."""
    return np.bincount(truth * labels + other, minlength=labels * labels).reshape(labels, labels).astype(np.float64)


def cohen_kappa(table: Floats, *, quadratic: bool = False) -> float:
    """Cohen's kappa from a table of counts; `quadratic` weighs a disagreement by its squared distance (Cohen 1960, 1968).

    The resampling needs it faster than a library's from labels. NaN where all stand in one label.
    """
    place = np.arange(len(table))
    distance = np.abs(np.subtract.outer(place, place)).astype(np.float64)
    cost = distance**2 if quadratic else np.minimum(distance, 1.0)
    total = table.sum()
    expected = np.outer(table.sum(1), table.sum(0)) / total if total else table
    chance = float((cost * expected).sum())
    return 1.0 - float((cost * table).sum()) / chance if chance > 0 else NAN


def gwet_ac1(rater: Ints, other: Ints, labels: int) -> float:
    """Gwet's AC1, chance-corrected agreement that stays steady under skewed classes.

    (p - e) / (1 - e) with e = sum_k q_k (1 - q_k) / (K - 1), q_k the mean share of label k over both raters
    (Gwet 2008, "Computing inter-rater reliability and its variance in the presence of high agreement", eq. 6 to 8).
    """
    share = (np.bincount(rater, minlength=labels) + np.bincount(other, minlength=labels)) / (2 * len(rater))
    chance = float((share * (1 - share)).sum() / (labels - 1))
    return float(((rater == other).mean() - chance) / (1 - chance))


def macro_f1(table: Floats) -> float:
    """Mean F1 over the labels that either side gave."""
    sums = table.sum(0) + table.sum(1)
    there = sums > 0
    return float((2 * table.diagonal()[there] / sums[there]).mean())


def precision_recall_f1(table: Floats, label: int) -> dict[str, float]:
    """Of one label, the rows of the table being the truth; NaN where the label was not given, not meant, neither."""
    right, given, meant = table[label, label], table[:, label].sum(), table[label].sum()
    return {
        "precision": right / given if given else NAN,
        "recall": right / meant if meant else NAN,
        "f1": 2 * right / (given + meant) if given + meant else NAN,
    }


def auc(positive: NDArray[np.bool_], score: Floats) -> float:
    """Area under the ROC curve: the share of pairs in which the positive one scores higher, ties half (Mann & Whitney 1947); NaN without pairs."""
    from scipy.stats import rankdata

    held = int(positive.sum())
    others = len(positive) - held
    if not held or not others:
        return NAN
    return float((rankdata(score)[positive].sum() - held * (held + 1) / 2) / (held * others))


def expected_calibration_error(probabilities: Floats, truth: Ints, bins: int = _BINS) -> float:
    """Mean gap between the top probability and its hit rate over equally wide bins, weighted by their calls (Naeini et al. 2015)."""
    top = probabilities.max(axis=1)
    hit = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    place = np.minimum((top * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, weights=top, minlength=bins) - np.bincount(place, weights=hit, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def mean_of_top(values: Floats, score: Floats, count: int) -> float:
    """Mean of `values` over the `count` rows of the highest score; rows that tie for the last places count in equal part."""
    least = np.partition(score, len(score) - count)[len(score) - count]
    above, tied = score > least, score == least
    return float((values[above].sum() + (count - above.sum()) * values[tied].mean()) / count)


def precision_at_recall(relevant: NDArray[np.bool_], score: Floats, recall: float) -> float:
    """Precision where rows are taken by falling score, all of one score together, until `recall` is reached; NaN where none is relevant."""
    if not relevant.any():
        return NAN
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(relevant[order])
    last_of_score = np.append(np.diff(score[order]) != 0, True)
    enough = np.flatnonzero(last_of_score & (found >= recall * relevant.sum()))[0]
    return float(found[enough] / (enough + 1))


def accuracy_by_share(right: NDArray[np.bool_], sureness: Floats, answered: NDArray[np.bool_]) -> dict[str, float]:
    """Accuracy over so many per cent of the rows, the surest first, what leaving out a fifth gains, and accuracy over the answered rows."""
    hit = right.astype(np.float64)
    out = {f"accuracy_at_{share}": mean_of_top(hit, sureness, max(1, round(share * len(hit) / 100))) for share in ANSWERED}
    out["gain_at_80"] = out["accuracy_at_80"] - out["accuracy_at_100"]
    out["accuracy_answered"] = float(hit[answered].mean()) if answered.any() else NAN
    return out
