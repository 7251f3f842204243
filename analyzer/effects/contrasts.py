"""Estimates every contrast of every outcome in one run, or says why the data cannot carry it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analyzer.config import OutcomeSettings
from analyzer.effects.answers import answer, naive
from analyzer.effects.episodes import CONTRASTS, Episodes, Mask, check_adjust, gather
from analyzer.effects.records import Arm, Effect, Interval, Placebo
from analyzer.effects.risk import Design, NotEnoughError
from analyzer.effects.words import estimand, sentence
from analyzer.errors import UsageError
from analyzer.outcomes import LinkedCall
from analyzer.records import DIMENSIONS, LABELS

#: Fewer agents or customers than this in an arm: no interval for them has been shown to hold.
MIN_CLUSTERS = 5
#: Fewer agents than this: the interval is given with a warning.
FEW_AGENTS = 12
#: Events (or non-events, whichever are fewer) per model column; Vittinghoff & McCulloch (2007) found 5 to 9 tolerable.
EVENTS_PER_COLUMN = 5


def estimate(
    linked: Sequence[LinkedCall],
    *,
    adjust: Sequence[str] | None = None,
    dimensions: Sequence[str] = DIMENSIONS,
    settings: OutcomeSettings | None = None,
) -> list[Effect]:
    """One `Effect` per dimension and kind of outcome: the standardised risk difference between its worst and best label.

    See `standardised_risks` for the estimator and `analyzer.effects.answers.answer` for the interval. `adjust` names covariates known before the call
    (`queue`, `reason`, `direction`, `opening`, `month`, or a further column of the calls); `None` takes the settings'. Covariates
    enter as main effects of the logit, numbers linearly, categories as indicators. Beside each: the naive difference, the same contrast
    on events before the call, an E-value. `q_value` is Benjamini & Hochberg's over all p-values of this call.

    Raises:
        UsageError: a covariate that the call brings about, an id, an unknown name; calls linked with different windows.
    """
    settings = settings or OutcomeSettings()
    adjust = tuple(settings.adjust if adjust is None else adjust)
    if unknown := [name for name in dimensions if name not in DIMENSIONS]:
        raise UsageError(f"unknown dimension {unknown[0]!r}", where="dimensions", do=f"The dimensions are {', '.join(DIMENSIONS)}.")
    if len(windows := {item.window_days for item in linked}) > 1:
        raise UsageError(f"calls linked with windows of {sorted(windows)} days", where="linked", do="Link all calls with one window.")
    if not linked:
        return []
    check_adjust(linked, adjust)
    kinds = sorted({kind for item in linked for kind in item.outcomes})
    effects = [_effect(linked, dimension, kind, adjust, settings) for dimension in dimensions for kind in kinds]
    return _with_q_values(effects, settings)


def _effect(linked: Sequence[LinkedCall], dimension: str, kind: str, adjust: tuple[str, ...], settings: OutcomeSettings) -> Effect:
    episodes = gather(linked, dimension, kind, adjust)
    labels = CONTRASTS[dimension]
    arms = (_arm(episodes, dimension, labels[0]), _arm(episodes, dimension, labels[1]))
    found, placebo, reason = None, Placebo(reason="there is no estimate to compare it with"), None
    used = np.ones(len(episodes.labels), dtype=np.bool_)
    try:
        used = _usable(episodes, arms, dimension, settings)
        found = answer(_design(episodes, used), _codes(dimension), settings.level)
        arms = (replace(arms[0], risk=found.risks[0]), replace(arms[1], risk=found.risks[1]))
        placebo = _placebo(episodes, used, dimension, adjust, settings)
    except NotEnoughError as error:
        reason = str(error)
    rows = [item.outcomes[kind] for item, ok in zip(episodes.calls, used, strict=True) if ok]
    clusters = {"customer": len(np.unique(episodes.customer[used])), "agent": len(np.unique(episodes.agent[used]))}
    effect = Effect(
        dimension=dimension,
        outcome=kind,
        contrast=f"{labels[0]} - {labels[1]}",
        measure="risk_difference",
        window_days=linked[0].window_days,
        estimate=found.difference.estimate if found else None,
        low=found.difference.low if found else None,
        high=found.difference.high if found else None,
        level=settings.level,
        p_value=found.p_value if found else None,
        q_value=None,
        se=found.se if found else None,
        naive=naive(((arms[0].n_calls, arms[0].n_events), (arms[1].n_calls, arms[1].n_events)), settings.level),
        adjusted_for=adjust,
        clusters=clusters,
        placebo=placebo,
        e_value=found.e_value if found else None,
        n_calls=int(used.sum()),
        n_customers=clusters["customer"],
        n_events=int(episodes.occurred[used].sum()),
        unique_events=len({row for window in rows for row in window.event_rows}),
        arms=arms,
        excluded=episodes.excluded if used.all() else episodes.excluded | {"label_with_one_outcome_only": int((~used).sum())},
        not_enough=reason,
    )
    return replace(effect, estimand=estimand(effect), sentence=sentence(effect, settings), warnings=_warnings(effect))


def _codes(dimension: str) -> tuple[int, int]:
    first, second = (LABELS[dimension].index(label) for label in CONTRASTS[dimension])
    return first, second


def _arm(episodes: Episodes, dimension: str, label: str) -> Arm:
    here = episodes.labels == LABELS[dimension].index(label)
    return Arm(
        label=label,
        n_calls=int(here.sum()),
        n_customers=len(np.unique(episodes.customer[here])),
        n_agents=len(np.unique(episodes.agent[here])),
        n_events=int(episodes.occurred[here].sum()),
    )


def _usable(episodes: Episodes, arms: tuple[Arm, Arm], dimension: str, settings: OutcomeSettings) -> Mask:
    """Rows the model can use: a label outside the contrast that has no event, or nothing else, teaches nothing and is left out."""
    for arm in arms:
        without = arm.n_calls - arm.n_events
        if arm.n_calls == 0:
            raise NotEnoughError(f"no {arm.label} call has a known outcome")
        if min(arm.n_events, without) < settings.min_events:
            raise NotEnoughError(
                f"of {arm.n_calls} {arm.label} calls, {arm.n_events} were followed by it and {without} were not; "
                f"both must be at least {settings.min_events}"
            )
        if min(arm.n_agents, arm.n_customers) < MIN_CLUSTERS:
            raise NotEnoughError(
                f"the {arm.label} calls come from {arm.n_agents} agents and {arm.n_customers} customers; both must be at least {MIN_CLUSTERS}"
            )
    used = np.ones(len(episodes.labels), dtype=np.bool_)
    for code, label in enumerate(LABELS[dimension]):
        here = episodes.labels == code
        if label not in (arms[0].label, arms[1].label) and here.any() and episodes.occurred[here].min() == episodes.occurred[here].max():
            used &= ~here
    columns = len(np.unique(episodes.labels[used])) - 1 + episodes.covariates.shape[1]
    fewer = int(min(episodes.occurred[used].sum(), (1 - episodes.occurred[used]).sum()))
    if episodes.covariates.shape[1] and fewer < EVENTS_PER_COLUMN * columns:
        raise NotEnoughError(f"{fewer} events or non-events are too few for a model of {columns} columns; adjust for fewer")
    for name, level in episodes.categories:
        seen = episodes.occurred[used & level]
        if len(seen) and seen.min() == seen.max():
            raise NotEnoughError(f"the outcome is the same for all {len(seen)} calls with {name}; adjust for fewer or coarser covariates")
    return used


def _design(episodes: Episodes, rows: Mask) -> Design:
    return Design(
        labels=episodes.labels[rows],
        covariates=episodes.covariates[rows],
        occurred=episodes.occurred[rows],
        customer=episodes.customer[rows],
        agent=episodes.agent[rows],
    )


def _placebo(episodes: Episodes, used: Mask, dimension: str, adjust: tuple[str, ...], settings: OutcomeSettings) -> Placebo:
    """The same contrast on events in the window before the call, over the same episodes where that past was wholly observed.

    Of the covariates only the month is kept: the others are dated at the call, after the placebo's own outcome.
    """
    rows = used & ~np.isnan(episodes.before)
    if not rows.any():
        return Placebo(
            reason="unknown: no past of this kind was observed (observed_from), or, like churn, it would have kept the customer from calling"
        )
    past = episodes.placebo(rows)
    first, second = (_arm(past, dimension, label) for label in CONTRASTS[dimension])
    found, reason = None, None
    try:
        usable = _usable(past, (first, second), dimension, settings)
        found = answer(_design(past, usable), _codes(dimension), settings.level)
    except NotEnoughError as error:
        reason = f"not enough data: {error}"
    return Placebo(
        answer=found.difference if found else Interval(),
        p_value=found.p_value if found else None,
        n_calls=len(past.labels),
        n_events=int(past.occurred.sum()),
        adjusted_for=tuple(name for name in adjust if name == "month"),
        reason=reason,
    )


def _warnings(effect: Effect) -> tuple[str, ...]:
    out = []
    if effect.not_enough is None and effect.clusters["agent"] < FEW_AGENTS:
        out.append(f"Only {effect.clusters['agent']} agents: the interval is wide and its coverage approximate.")
    if effect.placebo.p_value is not None and effect.placebo.p_value < 1 - effect.level:
        difference = effect.placebo.answer.estimate or 0.0
        side = "more" if difference > 0 else "fewer"
        out.append(
            f"The two sides differed before the call already ({100 * abs(difference):.1f} {side} of 100): "
            "part of the difference is who called, not how the call went."
        )
    if effect.not_enough is None and effect.placebo.answer.estimate is None:
        out.append(f"Placebo {effect.placebo.reason}.")
    short = effect.excluded.get("window_not_over", 0)
    if short > effect.n_calls:
        out.append(f"{short} calls are too recent for a window of {effect.window_days} days and did not enter, against {effect.n_calls} that did.")
    for reason, count in effect.excluded.items():
        if reason.startswith(("missing_", "rare_", "without_agent", "label_")):
            out.append(f"{count} calls were left out: {reason.replace('_', ' ')}.")
    if effect.excluded.get("abstained"):
        out.append(f"{effect.excluded['abstained']} calls carry no answer on {effect.dimension} and did not enter.")
    if effect.not_enough is None and effect.unique_events < effect.n_events:
        out.append(f"Windows overlap: {effect.n_events} calls were followed by {effect.unique_events} distinct events.")
    return tuple(out)


def _with_q_values(effects: list[Effect], settings: OutcomeSettings) -> list[Effect]:
    from scipy.stats import false_discovery_control

    tested = [number for number, effect in enumerate(effects) if effect.p_value is not None]
    if not tested:
        return effects
    adjusted = false_discovery_control([effects[number].p_value for number in tested], method="bh")
    out = list(effects)
    for number, q_value in zip(tested, adjusted, strict=True):
        effect = effects[number]
        warned = effect.warnings
        if (effect.p_value or 0.0) < 1 - settings.level <= q_value:
            warned = (*warned, f"Among the {len(tested)} contrasts tested in this run, one like this can come from chance (q = {q_value:.2f}).")
        out[number] = replace(effect, q_value=float(q_value), warnings=warned)
    return out
