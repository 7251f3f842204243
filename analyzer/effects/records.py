"""What an estimate says, with everything needed to doubt it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analyzer.records import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate between its limits; all three are `None` together where there is no answer."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The three numbers with at most 4 decimals."""
        return {"estimate": plain(self.estimate), "low": plain(self.low), "high": plain(self.high)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One side of a contrast: its calls as they were, and `risk`, the share followed by the outcome (standardised when adjusted)."""

    label: str
    n_calls: int
    n_customers: int
    n_agents: int
    n_events: int
    risk: Interval = field(default_factory=Interval)

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        own = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "risk"}
        return own | {"risk": self.risk.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placebo:
    """The same contrast for events *before* the call, which the call cannot have brought about.

    A difference there says that the two sides were different customers to begin with. `reason` says why there is none.
    """

    answer: Interval = field(default_factory=Interval)
    p_value: float | None = None
    n_calls: int = 0
    n_events: int = 0
    adjusted_for: tuple[str, ...] = ()
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Flat; numbers with at most 4 decimals."""
        counts = {"n_calls": self.n_calls, "n_events": self.n_events, "adjusted_for": list(self.adjusted_for), "reason": self.reason}
        return self.answer.to_json() | {"p_value": plain(self.p_value)} | counts


@dataclass(frozen=True, slots=True, kw_only=True)
class EValue:
    """How strongly, as a risk ratio, an unmeasured cause would have to go with both sides to explain the estimate (or its nearer limit) away."""

    estimate: float
    limit: float

    def to_json(self) -> dict[str, float]:
        """Both with at most 4 decimals."""
        return {"estimate": plain(self.estimate), "limit": plain(self.limit)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One contrast of one dimension for one outcome; differences of proportions, so 0.14 is 14 of 100.

    `estimate`, `low`, `high`, `se`, `p_value` are `None` together, and `not_enough` then says why. `naive` is the plain difference of
    the two shares with the textbook interval for independent calls, for comparison only. `n_*` count what entered the model, all
    labels of the dimension; `unique_events` counts events, where windows that overlap may hold the same one (0 without an answer's data).
    `excluded` counts the episodes that did not enter, by reason: with `n_calls` they add up to all.
    """

    dimension: str
    outcome: str
    contrast: str
    measure: str
    window_days: int
    estimate: float | None
    low: float | None
    high: float | None
    level: float
    p_value: float | None
    q_value: float | None
    se: float | None
    naive: Interval
    adjusted_for: tuple[str, ...]
    clusters: Mapping[str, int]
    placebo: Placebo
    e_value: EValue | None
    n_calls: int
    n_customers: int
    n_events: int
    unique_events: int
    arms: tuple[Arm, Arm]
    excluded: Mapping[str, int]
    not_enough: str | None
    estimand: str = ""
    sentence: str = ""
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One object of `effects` in DESIGN.md's words; numbers with at most 4 decimals."""
        out: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name == "arms":
                value = [arm.to_json() for arm in self.arms]
            elif isinstance(value, Interval | Placebo | EValue):
                value = value.to_json()
            elif isinstance(value, tuple):
                value = list(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            out[item.name] = plain(value)
        return out
