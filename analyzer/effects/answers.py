"""From two standardised risks to an answer: difference, limits, p-value, E-value; and the naive one beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analyzer.effects.clusters import variance
from analyzer.effects.records import EValue, Interval
from analyzer.effects.risk import Design, NotEnoughError, standardised_risks


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A contrast's numbers, risks in the order of its labels."""

    difference: Interval
    risks: tuple[Interval, Interval]
    se: float
    p_value: float
    e_value: EValue


def answer(design: Design, labels: tuple[int, int], level: float) -> Answer:
    """Limits and p-value by t on min(G) - 1 degrees of freedom, G the smaller of the counts of customers and agents.

    The risks' limits are those of their logits, so they stay between 0 and 1.

    Raises:
        NotEnoughError: no fit, or no variation between clusters.
    """
    from scipy.stats import t

    found = standardised_risks(design, *labels)
    freedom = min(len(np.unique(design.customer)), len(np.unique(design.agent))) - 1
    reach = float(t.ppf((1 + level) / 2, freedom))
    a, b = (float(value) for value in found.values)
    if min(a, b) <= 0 or max(a, b) >= 1:
        raise NotEnoughError("the model cannot tell a risk from 0 or 1")
    # Influences on: first risk, second risk, their difference, the log of their ratio.
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0], [1 / a, -1 / b]])
    se_a, se_b, se, se_ratio = (
        math.sqrt(variance(found.influence @ weight, found.jackknifed @ weight, design.customer, design.agent)) for weight in weights
    )
    if not se > 0:
        raise NotEnoughError("customers and agents do not vary")
    difference = a - b
    low, high = max(difference - reach * se, -1.0), min(difference + reach * se, 1.0)
    nearer = 0.0 if low <= 0 <= high else max(abs(math.log(a / b)) - reach * se_ratio, 0.0)
    return Answer(
        difference=Interval(estimate=difference, low=low, high=high),
        risks=(_risk(a, reach * se_a), _risk(b, reach * se_b)),
        se=se,
        p_value=float(2 * t.sf(abs(difference) / se, freedom)),
        e_value=EValue(estimate=e_value(math.log(a / b)), limit=e_value(nearer)),
    )


def e_value(log_ratio: float) -> float:
    """VanderWeele & Ding (2017): RR + sqrt(RR (RR - 1)) for a risk ratio turned to be at least 1."""
    ratio = math.exp(abs(log_ratio))
    return ratio + math.sqrt(ratio * (ratio - 1))


def naive(counts: tuple[tuple[int, int], tuple[int, int]], level: float) -> Interval:
    """Difference of the plain shares (calls, events per arm) with the interval for independent calls (Wald)."""
    from scipy.stats import norm

    if not all(calls for calls, _ in counts):
        return Interval()
    first, second = (events / calls for calls, events in counts)
    variance = first * (1 - first) / counts[0][0] + second * (1 - second) / counts[1][0]
    reach = float(norm.ppf((1 + level) / 2)) * math.sqrt(variance)
    return Interval(estimate=first - second, low=max(first - second - reach, -1.0), high=min(first - second + reach, 1.0))


def _risk(value: float, reach: float) -> Interval:
    logit, step = math.log(value / (1 - value)), reach / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-(logit + sign * step))) for sign in (-1, 1))
    return Interval(estimate=value, low=low, high=high)
