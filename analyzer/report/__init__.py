"""Pictures and words for people: scores, failures and effects as one self-contained HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from analyzer.errors import UsageError
from analyzer.records import DIMENSIONS, CallScore, Failure, Scalar
from analyzer.report import calls, figures, shares, words

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from analyzer.effects import Effect, Interval
    from analyzer.outcomes import JoinReport

__all__ = ["Provenance", "ReportInput", "render"]

_DIFFERENCES: Final = ("risk_difference", "incidence_difference")
#: A link stands out when its Benjamini-Hochberg q-value lies below this.
_STANDS_OUT: Final = 0.05
_JOIN_WORDS: Final[Mapping[str, str]] = {
    "calls": "calls given",
    "linked": "calls linked to a customer's outcomes",
    "contacts": "contacts these make (legs of a transfer are one)",
    "repeated": "left out: the same call again",
    "without_customer_id": "left out: no customer named",
    "without_started_at": "left out: no date",
    "two_customers": "left out: one contact, two customers",
    "customer_without_outcomes": "left out: customer not in the outcomes table",
    "without_duration": "linked, but length unknown: taken as over when they began",
    "customers": "customers linked",
    "customers_without_calls": "customers in the outcomes table without a call",
    "rows": "rows of the outcomes table",
    "duplicate_rows": "rows that repeat another",
}
_KIND_WORDS: Final[Mapping[str, str]] = {
    "contacts": "contacts",
    "observed": "window wholly observed",
    "no_row": "left out: customer has no row of this kind",
    "before_observation": "left out: before observation began",
    "not_at_risk": "left out: it had already happened for good",
    "window_not_over": "left out: window not over yet",
    "events": "events in the table",
    "in_window": "events in a window after a call",
    "during_call": "events during a call",
    "before_first_call": "events before the customer's first call",
    "of_customers_without_calls": "events of customers without calls",
    "elsewhere": "events elsewhere",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made the report, beyond what the scores say themselves (models and speech engines are read from them).

    `notes` are further settings by name, in the order they are to be shown.
    """

    settings_digest: str | None = None
    notes: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInput:
    """All that a report shows. `about` is printed at the top, before anything else; `generated_at` is timezone-aware."""

    title: str
    generated_at: datetime
    scores: Sequence[CallScore] = ()
    failures: Sequence[Failure] = ()
    effects: Sequence[Effect] = ()
    join: JoinReport | None = None
    about: str | None = None
    provenance: Provenance = field(default_factory=Provenance)


def render(report: ReportInput) -> str:
    """One HTML page without script or foreign asset; the same input gives the same text.

    Raises:
        UsageError: `generated_at` has no time zone.
    """
    if report.generated_at.tzinfo is None:
        raise UsageError("the time of the report has no time zone", where="generated_at", do="Give it one, as in datetime.now(UTC).")
    page = _environment().get_template("report.html.j2")
    return page.render(report=report, generated=report.generated_at.astimezone(UTC), **_scores(report), **_outcomes(report), **_making(report))


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def show(value: object) -> object:
        return words.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("analyzer"), autoescape=True, undefined=StrictUndefined, finalize=show, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": words.count,
        "day": words.day,
        "percent": words.percent,
        "share": lambda item: words.percent(item.estimate, item.low, item.high),
        "spell": words.spell,
        "word": shares.word,
    }
    return environment


def _scores(report: ReportInput) -> dict[str, Any]:
    scores = sorted(report.scores, key=lambda score: score.info.call_id)
    times = calls.clock(scores)

    def day_of(score: CallScore) -> date | None:
        return None if (shown := times.local(score.info.started_at)) is None else shown.date()

    days = sorted(day for score in scores if (day := day_of(score)) is not None)
    periods = shares.periods(scores, day_of)
    listed = calls.worst_first(scores)[: calls.MAX_LISTED]
    queues = shares.groups(scores, lambda score: score.info.queue)
    return {
        "abstained_all": sum(all(score.judgement(name).abstained for name in DIMENSIONS) for score in scores),
        "abstained_some": sum(any(score.judgement(name).abstained for name in DIMENSIONS) for score in scores),
        "first_day": days[0] if days else None,
        "last_day": days[-1] if days else None,
        "undated": len(scores) - len(days),
        "zone": times.zone,
        "distributions": {name: shares.distribution(scores, name) for name in ("courtesy", "resolution", "opening", "closing")},
        "moods": shares.moods(scores),
        "periods": periods,
        "trend": _trend(periods),
        "group_columns": [heading for heading, _, _ in shares.GROUP_COLUMNS],
        "agents": shares.groups(scores, lambda score: score.info.agent_id),
        "no_agent": sum(score.info.agent_id is None for score in scores),
        "queues": queues if len(queues) > 1 else (),
        "no_queue": sum(score.info.queue is None for score in scores),
        "min_calls": shares.MIN_CALLS,
        "flags": _flags(scores),
        "offers": sorted(Counter(offer.answer for score in scores for offer in score.offers).items()),
        "hear": {kind: [calls.row(score, times) for score in found] for kind, found in calls.to_hear(scores).items()},
        "listed": [calls.row(score, times) for score in listed],
        "unlisted": len(scores) - len(listed),
    }


def _trend(periods: Sequence[shares.Period]) -> Mapping[str, Markup] | None:
    if len(periods) < 2:
        return None
    panels = []
    for name in DIMENSIONS:
        worst, best = ([period.shares[name][side] for period in periods] for side in (0, 1))
        panels.append(figures.Panel(title=f"{name.capitalize()}, % of judged calls", worst=worst, best=best))
    return _drawn("trend", lambda wide, name: figures.trend([period.label for period in periods], panels, wide=wide, name=name))


def _drawn(name: str, draw: Callable[[bool, str], str]) -> Mapping[str, Markup]:
    """The drawing for wide and for narrow screens, of which the page shows one; the drawings escape their own text."""
    from markupsafe import Markup

    return {width: Markup(draw(width == "wide", f"{name}-{width}")) for width in ("wide", "narrow")}  # noqa: S704


def _flags(scores: Sequence[CallScore]) -> list[tuple[str, int]]:
    """In how many calls each kind of flag was raised, most frequent first."""
    found = Counter(kind for score in scores for kind in {flag.kind for flag in score.flags})
    return sorted(((words.flag(kind), number) for kind, number in found.items()), key=lambda item: (-item[1], item[0]))


def _outcomes(report: ReportInput) -> dict[str, Any]:
    # The clearest first: a reader who stops early has read what stands out.
    answered = sorted((effect for effect in report.effects if effect.estimate is not None), key=lambda effect: effect.q_value or 0.0)
    rows = [row for effect in answered if (row := _forest_row(effect)) is not None]
    return {
        "answered": answered,
        "unanswered": [effect for effect in report.effects if effect.estimate is None],
        "standing": [effect for effect in answered if effect.q_value is not None and effect.q_value < _STANDS_OUT],
        "stands_out": _STANDS_OUT,
        "levels": sorted({effect.level for effect in answered}),
        "forest": _drawn("forest", lambda wide, name: figures.forest(rows, wide=wide, name=name)) if rows else None,
        "join_counts": [(text, getattr(report.join, name)) for name, text in _JOIN_WORDS.items()] if report.join else [],
        "kind_words": _KIND_WORDS,
        "measured": _measured,
        "contrast": _contrast,
        "warned": sum(bool(effect.warnings) for effect in answered),
    }


def _span(answer: Interval | Effect) -> figures.Span | None:
    if answer.estimate is None or answer.low is None or answer.high is None:
        return None
    return figures.Span(estimate=100 * answer.estimate, low=100 * answer.low, high=100 * answer.high)


def _forest_row(effect: Effect) -> figures.ForestRow | None:
    if effect.measure not in _DIFFERENCES or (adjusted := _span(effect)) is None:
        return None
    return figures.ForestRow(
        outcome=words.spell(effect.outcome),
        contrast=_contrast(effect),
        adjusted=adjusted,
        naive=_span(effect.naive),
        placebo=_span(effect.placebo.answer),
    )


def _contrast(effect: Effect) -> str:
    """The two sides in people's words: the labels are those of the arms."""
    return " − ".join(shares.word(arm.label) for arm in effect.arms)


def _measured(effect: Effect, answer: Interval | Effect) -> str | None:
    """An estimate of this effect's measure with its interval, or `None` where there is none."""
    if answer.estimate is None or answer.low is None or answer.high is None:
        return None
    return words.measured(effect.measure, answer.estimate, answer.low, answer.high)


def _making(report: ReportInput) -> dict[str, Any]:
    redacted: Counter[str] = Counter()
    for score in report.scores:
        redacted.update(score.redacted)

    def most_first(found: Counter[str]) -> list[tuple[str, int]]:
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))

    return {
        "models": most_first(Counter(score.model for score in report.scores)),
        "engines": most_first(Counter(score.asr for score in report.scores)),
        "redacted": most_first(redacted),
        "failures": sorted(report.failures, key=lambda failure: (failure.source, failure.call_id or "", failure.reason))[: calls.MAX_LISTED],
        "unlisted_failures": max(0, len(report.failures) - calls.MAX_LISTED),
        "failure_reasons": most_first(Counter(failure.reason for failure in report.failures)),
        "reasons_in_words": words.REASONS,
    }
