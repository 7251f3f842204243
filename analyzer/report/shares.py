"""Shares with their uncertainty: of all calls by label, from opening to closing, and per agent or queue, shrunken."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from analyzer.records import LABELS, OPENING_LABELS, CallScore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Below this many judged calls a group's share is not shown.
MIN_CALLS: Final = 10
#: How labels are called before people. A lapse is a suspicion until somebody has listened.
WORDS: Final[Mapping[str, str]] = {"discourteous": "suspected lapse"}
#: Where a label stands from worse to better; carried by shape and colour in the report.
RANKS: Final[Mapping[str, str]] = {
    "discourteous": "worse",
    "unresolved": "worse",
    "grumbling": "worse",
    "courteous": "better",
    "resolved": "better",
    "singing": "better",
    "unclear": "unknown",
}
_QUESTIONS: Final[Mapping[str, str]] = {
    "courtesy": "How did the agent treat the customer?",
    "resolution": "Did the customer get what they called for?",
    "opening": "How did the customer sound as the call began?",
    "closing": "How did the customer sound as the call ended?",
}


def word(label: str) -> str:
    """The label as it is shown to people."""
    return WORDS.get(label, label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`count` of `total` calls; `estimate`, `low`, `high` are proportions with a 95 % interval, `None` when there are too few calls."""

    label: str
    rank: str
    count: int
    total: int
    estimate: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The answers to one question over all calls; `abstained` holds the reasons of calls without an answer, most frequent first."""

    dimension: str
    question: str
    shares: tuple[Share, ...]
    judged: int
    abstained: Share
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoodRow:
    """Of the calls that opened in one mood, how they closed."""

    opening: str
    rank: str
    total: int
    closings: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One agent's or queue's shrunken shares, in the order of `GROUP_COLUMNS`."""

    name: str
    calls: int
    shares: tuple[Share, ...]


def share(label: str, count: int, total: int) -> Share:
    """A plain share with its 95 % Wilson interval, which is (0, 1) of nothing."""
    from analyzer.agreement import wilson

    found = wilson(count, total) if total else None
    return Share(
        label=word(label),
        rank=RANKS.get(label, "middle"),
        count=count,
        total=total,
        estimate=count / total if total else None,
        low=0.0 if found is None or found.low is None else found.low,
        high=1.0 if found is None or found.high is None else found.high,
    )


def distribution(scores: Sequence[CallScore], dimension: str) -> Distribution:
    """How often each label was given, of the calls that carried an answer; those that did not are counted apart."""
    judgements = [score.judgement(dimension) for score in scores]
    labels = OPENING_LABELS if dimension == "opening" else LABELS[dimension]
    counts = Counter(item.label for item in judgements if item.label is not None)
    judged = sum(counts.values())
    reasons = Counter(item.reason or "no reason given" for item in judgements if item.abstained)
    return Distribution(
        dimension=dimension,
        question=_QUESTIONS[dimension],
        shares=tuple(share(label, counts[label], judged) for label in labels),
        judged=judged,
        abstained=share("no answer", len(judgements) - judged, len(judgements)),
        reasons=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
    )


def moods(scores: Sequence[CallScore]) -> tuple[MoodRow, ...]:
    """Closing mood by opening mood, over the calls where both are known."""
    pairs = Counter((score.opening.label, score.closing.label) for score in scores if score.opening.label and score.closing.label)
    rows = []
    for opening in OPENING_LABELS:
        total = sum(pairs[opening, closing] for closing in LABELS["closing"])
        closings = tuple(share(closing, pairs[opening, closing], total) for closing in LABELS["closing"])
        rows.append(MoodRow(opening=opening, rank=RANKS.get(opening, "middle"), total=total, closings=closings))
    return tuple(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The calls of one month or week and, per question, the shares of its worst and best label (`None`: too few judged calls)."""

    label: str
    calls: int
    shares: Mapping[str, tuple[Share | None, Share | None]]


def periods(scores: Sequence[CallScore], day_of: Callable[[CallScore], date | None]) -> tuple[Period, ...]:
    """Scores by month where they span at least 100 days, by week from 21 days, else nothing; calls without a date are left out."""
    dated = [(day, score) for score in scores if (day := day_of(score)) is not None]
    if not dated or (span := max(day for day, _ in dated) - min(day for day, _ in dated)) < timedelta(days=21):
        return ()
    monthly = span >= timedelta(days=100)
    buckets: dict[date, list[CallScore]] = defaultdict(list)
    for day, score in dated:
        buckets[day.replace(day=1) if monthly else day - timedelta(days=day.weekday())].append(score)
    out = []
    for start in sorted(buckets):
        shares: dict[str, tuple[Share | None, Share | None]] = {}
        for dimension in LABELS:
            by_rank = {item.rank: item if item.total >= MIN_CALLS else None for item in distribution(buckets[start], dimension).shares}
            shares[dimension] = by_rank["worse"], by_rank["better"]
        out.append(Period(label=f"{start:%b %Y}" if monthly else f"{start.day} {start:%b}", calls=len(buckets[start]), shares=shares))
    return tuple(out)


def _is(dimension: str, label: str) -> Callable[[CallScore], bool | None]:
    def answer(score: CallScore) -> bool | None:
        found = score.judgement(dimension).label
        return None if found is None else found == label

    return answer


def _agents_own_failure(score: CallScore) -> bool | None:
    # A refusal by policy or a failing system is nothing an agent is to answer for.
    if score.resolution.label is None:
        return None
    return score.resolution.label in ("unresolved", "partial") and score.resolution.cause == "agent"


#: What is shown of an agent or queue: heading, rank of the label, and whether a call counts (`None`: it carries no answer).
GROUP_COLUMNS: Final[tuple[tuple[str, str, Callable[[CallScore], bool | None]], ...]] = (
    ("courteous", "better", _is("courtesy", "courteous")),
    ("suspected lapse", "worse", _is("courtesy", "discourteous")),
    ("not solved, cause: agent", "worse", _agents_own_failure),
    ("customer closed grumbling", "worse", _is("closing", "grumbling")),
    ("customer closed singing", "better", _is("closing", "singing")),
)


def groups(scores: Sequence[CallScore], key: Callable[[CallScore], str | None]) -> tuple[Group, ...]:
    """Shrunken shares of each agent or queue, by name; calls for which `key` gives `None` are left out.

    Groups with fewer than `MIN_CALLS` judged calls help to find the common distribution but get no estimate.
    """
    members: dict[str, list[CallScore]] = defaultdict(list)
    for score in scores:
        if (name := key(score)) is not None:
            members[name].append(score)
    names = sorted(members, key=lambda name: (name.casefold(), name))
    columns: list[list[Share]] = []
    for heading, rank, counts in GROUP_COLUMNS:
        answers = [[found for found in map(counts, members[name]) if found is not None] for name in names]
        estimates = shrink([sum(item) for item in answers], [len(item) for item in answers]) if names else []
        columns.append(
            [
                Share(
                    label=heading,
                    rank=rank,
                    count=sum(item),
                    total=len(item),
                    estimate=estimate if len(item) >= MIN_CALLS else None,
                    low=low,
                    high=high,
                )
                for item, (estimate, low, high) in zip(answers, estimates, strict=True)
            ]
        )
    return tuple(Group(name=name, calls=len(members[name]), shares=tuple(column[place] for column in columns)) for place, name in enumerate(names))


def shrink(counts: Sequence[int], totals: Sequence[int]) -> list[tuple[float, float, float]]:
    """Beta-binomial estimates of each group's rate, drawn toward the common mean: (estimate, low, high) with 95 % intervals.

    The common Beta(a, b) is learned from all groups; its uncertainty is integrated over a grid, with the flat prior on
    a / (a + b) and (a + b)^-1/2 of Gelman et al., Bayesian Data Analysis, 3rd ed., section 5.3 (a plug-in estimate gives intervals
    that are too short when groups are few). Intervals are quantiles of the Beta with the mean and variance of the mixture.
    """
    import numpy as np
    from scipy.special import betaincinv

    k, n = np.asarray(counts, dtype=np.float64)[:, None], np.asarray(totals, dtype=np.float64)[:, None]
    a, b, weight = _hyperparameters(k, n)
    means = (a + k) / (a + b + n)
    variances = means * (1 - means) / (a + b + n + 1)
    mean = means @ weight
    variance = (variances + means**2) @ weight - mean**2
    size = mean * (1 - mean) / variance - 1
    low, high = (betaincinv(mean * size, (1 - mean) * size, q) for q in (0.025, 0.975))
    return [(float(e), float(lo), float(hi)) for e, lo, hi in zip(mean, low, high, strict=True)]


def _hyperparameters(k: NDArray[np.float64], n: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Grid points a, b and their posterior weights, shape (points,); the grid is narrowed twice to where the weight lies."""
    import numpy as np
    from scipy.special import betaln

    box = np.array([[0.0, 1.0], [0.0, 1.0]])
    steps = 40
    for _ in range(3):
        width = (box[:, 1] - box[:, 0]) / steps
        centres = box[:, :1] + width[:, None] * (np.arange(steps) + 0.5)
        mean, spread = (axis.ravel() for axis in np.meshgrid(*centres))
        a, b = mean / spread**2, (1 - mean) / spread**2
        log_weight = (betaln(a + k, b + n - k) - betaln(a, b)).sum(axis=0)
        weight = np.exp(log_weight - log_weight.max())
        held = weight > 1e-4
        points = np.stack([mean[held], spread[held]])
        box = np.clip(np.stack([points.min(axis=1) - width, points.max(axis=1) + width], axis=1), 0.0, 1.0)
    return a, b, weight / weight.sum()
