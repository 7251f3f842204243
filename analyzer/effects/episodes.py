"""From linked calls to a model's rows: which episodes enter, under which label, with which covariates, and which do not and why."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analyzer.effects.clusters import Codes, Floats
from analyzer.errors import UsageError
from analyzer.outcomes import LinkedCall
from analyzer.records import DIMENSIONS, LABELS, CallScore, Scalar

Mask: TypeAlias = NDArray[np.bool_]
#: The label pair each dimension is judged by; the difference is first less second.
CONTRASTS = {"courtesy": ("discourteous", "courteous"), "resolution": ("unresolved", "resolved"), "closing": ("grumbling", "singing")}
#: A category of fewer calls than this is pooled with other rare ones.
RARE = 10
_BEFORE = ("queue", "reason", "direction", "opening", "month")
_AFTER = {
    **dict.fromkeys(DIMENSIONS, "the call itself brings it about"),
    "disposition": "it is set after the call",
    "ended_by": "it is known after the call",
}
_IDS = ("call_id", "agent_id", "customer_id", "contact_id", "leg", "started_at", "model", "asr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """One dimension and kind: the episodes with a label, a known outcome and all covariates, and counts of the others by reason."""

    calls: tuple[LinkedCall, ...]
    labels: Codes
    occurred: Floats
    before: Floats
    customer: Codes
    agent: Codes
    covariates: Floats
    categories: tuple[tuple[str, Mask], ...]
    months: Floats
    excluded: dict[str, int]

    def placebo(self, rows: Mask) -> Episodes:
        """The given rows with what happened *before* the call as their outcome, and of the covariates the month alone."""
        return replace(
            self,
            calls=tuple(call for call, ok in zip(self.calls, rows, strict=True) if ok),
            labels=self.labels[rows],
            occurred=self.before[rows],
            before=self.before[rows],
            customer=self.customer[rows],
            agent=self.agent[rows],
            covariates=self.months[rows],
            categories=tuple((name, level[rows]) for name, level in self.categories if name.startswith("month = ")),
            months=self.months[rows],
        )


def check_adjust(linked: Sequence[LinkedCall], adjust: Sequence[str]) -> None:
    """Refuse covariates that are not dated before the call, ids, and names that no call carries.

    Raises:
        UsageError: naming the covariate and what to do.
    """
    carried = {name for item in linked for name in item.call.info.covariates}
    for name in adjust:
        where = f"adjust, {name}"
        if name in _AFTER:
            raise UsageError(
                f"adjusting for {name} is refused: {_AFTER[name]}",
                where=where,
                do="Adjust only for what was known before the call: what the agent did acts through it, and holding it fixed hides that.",
            )
        if name in _IDS:
            raise UsageError(f"{name} is not a covariate", where=where, do="Customers and agents already enter as clusters.")
        if adjust.count(name) > 1:
            raise UsageError(f"{name} is named twice", where=where, do="Name it once.")
        if name not in (*_BEFORE, *carried):
            close = difflib.get_close_matches(name, [*_BEFORE, *carried], n=1)
            do = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join([*_BEFORE, *sorted(carried)])}."
            raise UsageError(f"no call carries the covariate {name!r}", where=where, do=do)


def gather(linked: Sequence[LinkedCall], dimension: str, kind: str, adjust: Sequence[str]) -> Episodes:
    """The episodes of one dimension and kind. For resolution and closing the unit is the contact: the last leg's label and agent, and
    what was known as the first leg began; for courtesy it is the leg.

    Excluded, by the first reason that holds: `earlier_leg`, `abstained`, why the window's outcome is unknown (`no_row`,
    `before_observation`, `not_at_risk`, `window_not_over`), `without_agent_id`, `missing_NAME` and `rare_NAME` of a covariate.
    """
    excluded: Counter[str] = Counter()
    kept: list[LinkedCall] = []
    for item in linked:
        window = item.outcomes.get(kind)
        if dimension != "courtesy" and not item.last_leg:
            excluded["earlier_leg"] += 1
        elif item.call.judgement(dimension).label is None:
            excluded["abstained"] += 1
        elif window is None or window.occurred is None:
            excluded[(window.missing if window else None) or "no_row"] += 1
        elif item.call.info.agent_id is None:
            excluded["without_agent_id"] += 1
        else:
            kept.append(item)
    columns: dict[str, list[Scalar]] = {}
    for name in adjust:
        values = [_value(item.call if dimension == "courtesy" else item.opens, name) for item in kept]
        keep = [value is not None for value in values]
        excluded[f"missing_{name}"] += keep.count(False)
        rare = _rare(values)
        if 0 < sum(value in rare for value in values) < RARE:
            excluded[f"rare_{name}"] += sum(value in rare for value in values)
            keep = [ok and value not in rare for ok, value in zip(keep, values, strict=True)]
        elif rare:
            values = ["other" if value in rare else value for value in values]
        columns[name] = values
        kept = [item for item, ok in zip(kept, keep, strict=True) if ok]
        columns = {key: [value for value, ok in zip(cells, keep, strict=True) if ok] for key, cells in columns.items()}
    return _arrays(kept, dimension, kind, columns, {reason: count for reason, count in excluded.items() if count})


def _arrays(kept: list[LinkedCall], dimension: str, kind: str, columns: dict[str, list[Scalar]], excluded: dict[str, int]) -> Episodes:
    order = {label: code for code, label in enumerate(LABELS[dimension])}
    parts = {name: _columns(name, cells) for name, cells in columns.items()}
    empty = np.empty((len(kept), 0))
    before = [item.outcomes[kind].before for item in kept]
    return Episodes(
        calls=tuple(kept),
        labels=np.array([order[str(item.call.judgement(dimension).label)] for item in kept], dtype=np.int64),
        occurred=np.array([float(bool(item.outcomes[kind].occurred)) for item in kept]),
        before=np.array([math.nan if value is None else float(value) for value in before]),
        customer=_codes([item.customer_id for item in kept]),
        agent=_codes([str(item.call.info.agent_id) for item in kept]),
        covariates=np.column_stack([empty, *(matrix for matrix, _ in parts.values())]),
        categories=tuple(level for _, levels in parts.values() for level in levels),
        months=parts["month"][0] if "month" in parts else empty,
        excluded=excluded,
    )


def _value(call: CallScore, name: str) -> Scalar:
    info = call.info
    if name == "opening":
        return call.opening.label
    if name == "month":
        return f"{info.started_at.astimezone(UTC):%Y-%m}" if info.started_at else None
    value: Scalar = getattr(info, name) if name in _BEFORE else info.covariates.get(name)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, bool) else value


def _rare(values: Sequence[Scalar]) -> set[Scalar]:
    return {value for value, count in Counter(values).items() if isinstance(value, str) and count < RARE}


def _codes(names: Sequence[str]) -> Codes:
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _columns(name: str, cells: Sequence[Scalar]) -> tuple[Floats, list[tuple[str, Mask]]]:
    """Model columns of one covariate: standardised for numbers, an indicator per category but the commonest for text."""
    texts = sum(isinstance(cell, str) for cell in cells)
    if 0 < texts < len(cells):
        raise UsageError(f"{name} is a number on some calls and text on others", where=f"adjust, {name}", do="Write it alike on all calls.")
    if not texts:
        numbers = np.array(cells, dtype=float)
        spread = numbers.std() if len(numbers) else 0.0
        return ((numbers - numbers.mean()) / spread)[:, None] if spread > 0 else np.empty((len(cells), 0)), []
    levels = [str(level) for level, _ in Counter(cells).most_common()]
    masks = [(f"{name} = {level}", np.array([cell == level for cell in cells])) for level in levels]
    return np.column_stack([np.empty((len(cells), 0)), *(mask.astype(float) for _, mask in masks[1:])]), masks
