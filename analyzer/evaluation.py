"""How well scores agree with human raters: per dimension, by group of calls, and in finding the worst calls; and how common labels are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import comb
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer.agreement import (
    NAN,
    Floats,
    Interval,
    Ints,
    accuracy_by_share,
    auc,
    bootstrap,
    cohen_kappa,
    confusion,
    expected_calibration_error,
    gwet_ac1,
    macro_f1,
    mean_of_top,
    precision_at_recall,
    precision_recall_f1,
    wilson,
)
from analyzer.errors import TableError
from analyzer.labels import LabelledCall
from analyzer.records import DIMENSIONS, LABELS

#: Dimensions whose labels have an order; `unclear` stands outside the order of the resolution.
ORDERED: Final[Mapping[str, tuple[str, ...]]] = {**LABELS, "resolution": ("unresolved", "partial", "resolved")}
#: Labels whose shares stand in the settings' `[prevalence]`, by dimension.
SETTLED: Final[Mapping[str, tuple[str, ...]]] = {"courtesy": ("discourteous", "courteous"), "closing": ("grumbling", "singing")}
#: Share of calls that people can listen to, where they start with the worst.
LISTENED: Final = 0.2
#: Groups of fewer calls are counted, not judged.
SMALLEST_GROUP: Final = 10
_TOP_EVIDENCE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is compared with a rater's label: probabilities in the order of the dimension's labels, and whether the score abstained.

    `evidence` holds the turns that carry the answer, heaviest first; `None` where none were asked for.
    """

    probabilities: Mapping[str, float]
    abstained: bool = False
    evidence: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How scores of one dimension agree with raters, over `n` calls with a label that is not disputed.

    `figures` holds `accuracy`, `macro_f1`, `kappa` (Cohen), `weighted_kappa` (quadratic; labels with an order only), `ac1` (Gwet), `auc` (mean of
    the labels' one-vs-rest), `brier` (sum over labels, 0 to 2), `ece` (expected calibration error in ten bins of the top probability), and
    `evidence_hit`: the share of calls in which one of the score's top two evidence turns is among the raters', with `evidence_chance`, the same for
    two turns drawn among those of the speakers whom the raters' evidence names. Figures that are not defined are left out.
    `selective` holds `accuracy_at_100` … `accuracy_at_50`, the accuracy when so many per cent of the calls are answered, the surest first and
    abstentions last, `gain_at_80` over answering all, and `accuracy_answered` of the calls the score does not abstain on.
    `by_label` holds precision, recall, F1 and AUC per label, `support` how often raters gave it; `confusion` the calls by rater's label, then
    score's, and `wrong_calls` their ids where the two differ. Abstained calls count with their most probable label in all but `accuracy_answered`.
    `raters` is the human ceiling over the `rated_twice` calls with two ratings, disputed ones among them: `kappa` and `ac1` between the
    first two raters, and `score_kappa` and `score_ac1`, the mean of the score's with either on the same calls.
    """

    dimension: str
    n: int
    abstained_share: float
    figures: Mapping[str, Interval]
    selective: Mapping[str, Interval]
    by_label: Mapping[str, Mapping[str, Interval]]
    support: Mapping[str, int]
    confusion: Mapping[str, Mapping[str, int]]
    wrong_calls: Mapping[str, Mapping[str, tuple[str, ...]]]
    rated_twice: int
    raters: Mapping[str, Interval]

    @property
    def ceiling(self) -> float | None:
        """Cohen's kappa between the first two raters."""
        return self.raters["kappa"].value if "kappa" in self.raters else None

    @property
    def per_label(self) -> dict[str, dict[str, float | None]]:
        """Precision, recall, F1, AUC and support per label without intervals, `None` where a figure is not defined."""
        return {
            label: {name: held[name].value if name in held else None for name in ("precision", "recall", "f1", "auc")}
            | {"support": float(self.support[label])}
            for label, held in self.by_label.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """How well the scores find the calls worth hearing, over `n` calls of which `bad` have `at_least` so many of the worst labels.

    A call's badness for raters is how many of its labels are the worst of their dimension (discourteous, unresolved, grumbling); for the score it is
    the expected number, the sum of those labels' probabilities. Whoever listens to the worst fifth by score hears `precision` bad calls in one heard,
    `recall` of all bad ones, and `lift` times as many as in calls drawn at random; `most_recall` is what the best ranking reaches there.
    `precision_at_recall_50` is the precision by when half the bad calls are heard; `prevalence` is the share of bad calls.
    """

    at_least: int
    n: int
    bad: int
    listened: int
    figures: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAgreement:
    """Agreement in the calls that hold `group` in `column`: `error_rate`, `macro_f1`, and `error_gap`, the error rate less that of all other calls.

    A group of fewer than `SMALLEST_GROUP` calls is counted and has no figures.
    """

    dimension: str
    column: str
    group: str
    n: int
    figures: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelShare:
    """How common raters find a label: `count` of the `n` calls rated on its dimension, as a share with its 95 % Wilson interval.

    `disputed` calls more, whose raters differ without a majority, are left out. It is a centre's share only if the rated calls were drawn at random.
    """

    dimension: str
    label: str
    n: int
    count: int
    disputed: int
    share: Interval


def evaluate(
    calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]], *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Agreement]:
    """Agreement per dimension; `predictions` runs beside `calls` and maps dimension to prediction. Dimensions without a usable label are left out.

    Raises:
        TableError: no dimension has both a label and a prediction.
    """
    draw = partial(bootstrap, resamples=resamples, level=level, seed=seed)
    out: dict[str, Agreement] = {}
    for dimension in DIMENSIONS:
        pairs = [(call, one) for call, one in _predicted(calls, predictions, dimension) if _usable(call, dimension)]
        twice = [pair for pair in _predicted(calls, predictions, dimension) if _first_two(pair[0], dimension)]
        if pairs:
            out[dimension] = _agreement(_Answers.of(dimension, pairs), _between_raters(dimension, twice, draw), draw)
    if not out:
        raise TableError("no label can be compared with a score", where="labels", do="Label at least one dimension that is not disputed.")
    return out


def retrieve(
    calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]], *, at_least: int = 1, resamples: int = 1000, seed: int = 0
) -> Retrieval | None:
    """How well the scores find the bad calls, over the calls that are rated without dispute on every dimension that is rated at all.

    `None` where there is no such call, or none of them is bad.
    """
    rated = [name for name in DIMENSIONS if any(name in call.labels for call in calls)]
    pairs = [(call, made) for call, made in zip(calls, predictions, strict=True) if all(_usable(call, name) and name in made for name in rated)]
    worst = {name: LABELS[name][0] for name in rated}
    said = np.array([sum(call.labels[name] == label for name, label in worst.items()) for call, _ in pairs], dtype=np.int64)
    expected = np.array([sum(made[name].probabilities[label] for name, label in worst.items()) for _, made in pairs], dtype=np.float64)
    bad = said >= at_least
    if not bad.any():
        return None

    def measure(rows: Ints) -> dict[str, float]:
        held, score = bad[rows], expected[rows]
        heard = max(1, round(LISTENED * len(rows)))
        precision = mean_of_top(held.astype(np.float64), score, heard)
        count = int(held.sum())
        return {
            "precision": precision,
            "recall": precision * heard / count if count else NAN,
            "most_recall": min(1.0, heard / count) if count else NAN,
            "lift": precision * len(rows) / count if count else NAN,
            "precision_at_recall_50": precision_at_recall(held, score, 0.5),
            "prevalence": count / len(rows),
        }

    figures = bootstrap(measure, [call.conversation for call, _ in pairs], resamples=resamples, seed=seed)
    return Retrieval(at_least=at_least, n=len(pairs), bad=int(bad.sum()), listened=max(1, round(LISTENED * len(pairs))), figures=figures)


def by_group(
    calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]], column: str, *, resamples: int = 1000, seed: int = 0
) -> tuple[GroupAgreement, ...]:
    """Agreement per dimension and per value of a further column of the calls (`queue`, `agent_id`, a covariate); calls without one are "(none)".

    Raises:
        TableError: no call has that column.
    """
    values = column_values(calls, column)
    out: list[GroupAgreement] = []
    for dimension in DIMENSIONS:
        if not (pairs := [(call, one) for call, one in _predicted(calls, predictions, dimension) if _usable(call, dimension)]):
            continue
        answers = _Answers.of(dimension, pairs)
        groups = np.array([values[name] for name in answers.ids])
        names, counts = np.unique(groups, return_counts=True)
        judged = [str(name) for name, count in zip(names, counts, strict=True) if count >= SMALLEST_GROUP]
        figures = bootstrap(partial(_group_figures, answers, groups, judged), answers.units, resamples=resamples, seed=seed)
        for name, count in zip(names, counts, strict=True):
            own = {figure: value for (group, figure), value in figures.items() if group == name}
            out.append(GroupAgreement(dimension=dimension, column=column, group=str(name), n=int(count), figures=own))
    return tuple(out)


def column_values(calls: Sequence[LabelledCall], column: str) -> dict[str, str]:
    """What each call, by its id, holds in a further column; "(none)" where it holds nothing there.

    Raises:
        TableError: no call has that column.
    """
    held = {call.transcript.info.call_id: call.transcript.info.to_json() for call in calls}
    values = {name: "" if row.get(column) is None else str(row[column]) for name, row in held.items()}
    if not any(values.values()):
        known = dict.fromkeys(name for row in held.values() for name in row if name != "call_id")
        do = f"The calls have {', '.join(known)}." if known else "Give the calls that column."
        raise TableError(f"no call has {column!r}", where="--group", do=do)
    return {name: value or "(none)" for name, value in values.items()}


def label_shares(calls: Sequence[LabelledCall]) -> tuple[LabelShare, ...]:
    """How common the labels of `SETTLED` are among the rated calls, by dimension; dimensions without a usable label are left out."""
    out: list[LabelShare] = []
    for dimension, labels in SETTLED.items():
        said = [call.labels[dimension] for call in calls if _usable(call, dimension)]
        disputed = sum(dimension in call.disputed for call in calls)
        for label in labels if said else ():
            share = wilson(said.count(label), len(said))
            out.append(LabelShare(dimension=dimension, label=label, n=len(said), count=said.count(label), disputed=disputed, share=share))
    return tuple(out)


def _usable(call: LabelledCall, dimension: str) -> bool:
    return dimension in call.labels and dimension not in call.disputed


def _group_figures(answers: _Answers, groups: NDArray[np.str_], judged: Sequence[str], rows: Ints) -> dict[tuple[str, str], float]:
    truth, best, there = answers.truth[rows], answers.best[rows], groups[rows]
    wrong = truth != best
    out: dict[tuple[str, str], float] = {}
    for name in judged:
        own = there == name
        if not own.any():
            continue
        out[name, "error_rate"] = float(wrong[own].mean())
        out[name, "macro_f1"] = macro_f1(confusion(truth[own], best[own], len(answers.labels)))
        out[name, "error_gap"] = float(wrong[own].mean() - wrong[~own].mean()) if not own.all() else NAN
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """One dimension's labels and probabilities, a row per call; `hit` and `chance` (of evidence) are NaN where raters or score name no turns."""

    dimension: str
    ids: list[str]
    units: list[str]
    truth: Ints
    made: Floats
    best: Ints
    answered: NDArray[np.bool_]
    hit: Floats
    chance: Floats

    @property
    def labels(self) -> tuple[str, ...]:
        return LABELS[self.dimension]

    @classmethod
    def of(cls, dimension: str, pairs: Sequence[tuple[LabelledCall, Prediction]]) -> _Answers:
        labels = LABELS[dimension]
        made = np.array([[one.probabilities[label] for label in labels] for _, one in pairs], dtype=np.float64)
        evidence = np.array([_evidence(call, one, dimension) for call, one in pairs], dtype=np.float64)
        return cls(
            dimension=dimension,
            ids=[call.transcript.info.call_id for call, _ in pairs],
            units=[call.conversation for call, _ in pairs],
            truth=np.array([labels.index(call.labels[dimension]) for call, _ in pairs], dtype=np.int64),
            made=made,
            best=made.argmax(axis=1),
            answered=np.array([not one.abstained for _, one in pairs]),
            hit=evidence[:, 0],
            chance=evidence[:, 1],
        )


def _predicted(
    calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]], dimension: str
) -> list[tuple[LabelledCall, Prediction]]:
    return [(call, made[dimension]) for call, made in zip(calls, predictions, strict=True) if dimension in made]


def _evidence(call: LabelledCall, made: Prediction, dimension: str) -> tuple[float, float]:
    """Whether a top turn of the score is among the raters', and how likely that is for two turns of the same speakers drawn at random."""
    named = set(call.evidence.get(dimension, ()))
    if not named or made.evidence is None:
        return NAN, NAN
    speakers = {call.transcript.turns[number].speaker for number in named}
    among = sum(turn.speaker in speakers for turn in call.transcript.turns)
    missed = comb(among - len(named), _TOP_EVIDENCE) / comb(among, _TOP_EVIDENCE) if among >= _TOP_EVIDENCE else 0.0
    return float(bool(named & set(made.evidence[:_TOP_EVIDENCE]))), 1.0 - missed


def _agreement(answers: _Answers, raters: tuple[int, dict[str, Interval]], draw: Any) -> Agreement:
    labels = answers.labels
    parts: dict[str, dict[str, Interval]] = defaultdict(dict)
    for (part, name), value in draw(partial(_figures, answers), answers.units).items():
        parts[part][name] = value
    table = confusion(answers.truth, answers.best, len(labels)).astype(int)
    cells: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name, truth, best in zip(answers.ids, answers.truth.tolist(), answers.best.tolist(), strict=True):
        cells[truth, best].append(name)
    return Agreement(
        dimension=answers.dimension,
        n=len(answers.ids),
        abstained_share=float(1 - answers.answered.mean()),
        figures=parts["figures"],
        selective=parts["selective"],
        by_label={label: parts[f"label {label}"] for label in labels},
        support={label: int(table[number].sum()) for number, label in enumerate(labels)},
        confusion={label: {other: int(table[i, j]) for j, other in enumerate(labels)} for i, label in enumerate(labels)},
        wrong_calls={
            label: {other: tuple(cells[i, j]) for j, other in enumerate(labels) if i != j and (i, j) in cells} for i, label in enumerate(labels)
        },
        rated_twice=raters[0],
        raters=raters[1],
    )


def _figures(answers: _Answers, rows: Ints) -> dict[tuple[str, str], float]:
    """Every figure of the given rows by part and name; NaN where one is not defined (one class only, say)."""
    labels, truth, made, best = answers.labels, answers.truth[rows], answers.made[rows], answers.best[rows]
    table = confusion(truth, best, len(labels))
    order = [labels.index(label) for label in ORDERED[answers.dimension]]
    areas = [auc(truth == number, made[:, number]) for number in range(len(labels))]
    defined = [area for area in areas if np.isfinite(area)]
    headline = {
        "accuracy": float((best == truth).mean()),
        "macro_f1": macro_f1(table),
        "kappa": cohen_kappa(table),
        "weighted_kappa": cohen_kappa(table[np.ix_(order, order)], quadratic=True),
        "ac1": gwet_ac1(truth, best, len(labels)),
        "auc": sum(defined) / len(defined) if defined else NAN,
        "brier": float(((made - np.eye(len(labels))[truth]) ** 2).sum(axis=1).mean()),
        "ece": expected_calibration_error(made, truth),
    }
    out = {("figures", name): value for name, value in {**headline, **_evidence_figures(answers, rows)}.items()}
    # An abstention is less sure than any answer, whatever its probability.
    sureness = made.max(axis=1) - np.where(answers.answered[rows], 0.0, 1.0)
    out |= {("selective", name): value for name, value in accuracy_by_share(best == truth, sureness, answers.answered[rows]).items()}
    for number, label in enumerate(labels):
        own = {**precision_recall_f1(table, number), "auc": areas[number]}
        out |= {(f"label {label}", name): value for name, value in own.items()}
    return out


def _evidence_figures(answers: _Answers, rows: Ints) -> dict[str, float]:
    hit, chance = answers.hit[rows], answers.chance[rows]
    there = np.isfinite(hit)
    return {"evidence_hit": float(hit[there].mean()), "evidence_chance": float(chance[there].mean())} if there.any() else {}


def _first_two(call: LabelledCall, dimension: str) -> bool:
    return len(call.ratings) > 1 and all(dimension in rating for rating in call.ratings[:2])


def _between_raters(dimension: str, twice: Sequence[tuple[LabelledCall, Prediction]], draw: Any) -> tuple[int, dict[str, Interval]]:
    """How many calls two people rated, and how well these two agree with each other and the score with either."""
    labels = LABELS[dimension]
    first, second = (np.array([labels.index(call.ratings[side][dimension]) for call, _ in twice], dtype=np.int64) for side in (0, 1))
    best = np.array([np.argmax([one.probabilities[label] for label in labels]) for _, one in twice], dtype=np.int64)

    def measure(rows: Ints) -> dict[str, float]:
        sides = [(first[rows], second[rows]), (first[rows], best[rows]), (second[rows], best[rows])]
        kappa = [cohen_kappa(confusion(one, other, len(labels))) for one, other in sides]
        ac1 = [gwet_ac1(one, other, len(labels)) for one, other in sides]
        return {"kappa": kappa[0], "ac1": ac1[0], "score_kappa": (kappa[1] + kappa[2]) / 2, "score_ac1": (ac1[1] + ac1[2]) / 2}

    return len(twice), draw(measure, [call.conversation for call, _ in twice])
