"""Links each call to what its customer did afterwards, and counts everything that could not be linked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import TableError, UsageError
from analyzer.outcomes.table import Outcomes
from analyzer.records import CallScore

#: Why a window's outcome is unknown. `no_row`: the customer has no row of this kind. `before_observation`: the call ended before
#: `observed_from`. `not_at_risk`: an event that happens once had already happened when the call ended. `window_not_over`: the
#: window reaches beyond `observed_until`.
MISSING: Final = ("no_row", "before_observation", "not_at_risk", "window_not_over")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US: Final = 86_400_000_000
_Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOutcome:
    """One kind of outcome in the window after one call.

    `occurred` is `None` where the window was not wholly observed, and `missing` says why; nothing is then kept of it.
    `event_rows` are the positions of the window's events among the table's events of this kind, by which windows that overlap
    can be seen to hold the same event; `amount` is their sum, `None` where there is none or a part is unknown: over overlapping
    windows amounts do not add up. `before` says whether there was an event in the `window_days` before the call began, `None`
    where that past was not wholly observed or such an event would have kept the call from being here.
    """

    occurred: bool | None
    missing: str | None = None
    n_events: int = 0
    amount: float | None = None
    first_after_days: float | None = None
    before: bool | None = None
    event_rows: range = range(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedCall:
    """A scored call with its customer's outcomes, by kind.

    The legs of one contact share its outcomes: the window opens when the last leg ends, the past ends when the first began.
    `opens` is the first leg's score; `last_leg` marks the leg whose resolution and closing are the contact's.
    """

    call: CallScore
    customer_id: str
    ended_at: datetime
    window_days: int
    opens: CallScore
    last_leg: bool
    outcomes: Mapping[str, WindowOutcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindReport:
    """What the join found for one kind: each contact is counted once above the line, each event once below it.

    `during_call` counts events between begin and end of a contact of their customer (both included) apart: such an event may also lie
    in an earlier call's window. `in_window` counts distinct events after a call within a wholly observed window.
    """

    contacts: int
    observed: int
    no_row: int
    before_observation: int
    not_at_risk: int
    window_not_over: int
    events: int
    of_customers_without_calls: int
    before_first_call: int
    in_window: int
    elsewhere: int
    during_call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinReport:
    """How many calls, customers and events were linked, and what became of the others.

    `calls` is the sum of `linked` and the five counts after `contacts`. `without_duration` are linked calls whose length is unknown:
    they count as over when they began.
    """

    calls: int
    linked: int
    contacts: int
    repeated: int
    without_customer_id: int
    without_started_at: int
    two_customers: int
    customer_without_outcomes: int
    without_duration: int
    customers: int
    customers_without_calls: int
    rows: int
    duplicate_rows: int
    window_days: int
    kinds: Mapping[str, KindReport]

    def to_json(self) -> dict[str, Any]:
        """The counts by name, nested by kind."""
        own = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "kinds"}
        return own | {"kinds": {kind: dataclasses.asdict(report) for kind, report in self.kinds.items()}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked(Sequence[LinkedCall]):
    """The linked calls, in the order the calls were given, and the join's report."""

    calls: tuple[LinkedCall, ...]
    join: JoinReport

    @overload
    def __getitem__(self, index: int) -> LinkedCall: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[LinkedCall, ...]: ...
    def __getitem__(self, index: int | slice) -> LinkedCall | tuple[LinkedCall, ...]:
        return self.calls[index]

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[LinkedCall]:
        return iter(self.calls)


def link(calls: Iterable[CallScore], outcomes: Outcomes, *, window_days: int, once: Sequence[str] = ("churn",)) -> Linked:
    """Join each call, as an episode of its own, to its customer's events in (end of call, end of call + window]. Rules:

    - A call ends at `started_at` + its duration (of the recording, else the end of its last turn, else at once). Events up to
      that very moment are not *after* the call; those since it began are counted as `during_call`.
    - Calls of one `contact_id` are legs of one contact: one window, after its last leg ended, never a repeat. Legs are ordered by `leg` where
      all have one, else by time. A contact whose legs name two customers, or with a leg without `started_at`, is left out.
    - A kind's outcome is known only where the whole window lies within `observed_from` … `observed_until`; early events of windows that
      are not over are not used, since windows without an event drop out of the same span.
    - Kinds in `once` end the customer's being at risk: calls after such an event are left out for that kind, and have no past of it.
    - Every call of a customer counts, whatever followed: none is chosen by its outcome.

    Raises:
        TableError: two different scores of one `call_id`.
        UsageError: a window shorter than a day or longer than ten years.
    """
    if not 1 <= window_days <= 3650:
        raise UsageError(f"the window is {window_days} days", where="window_days", do="Choose from 1 to 3650.")
    given = list(calls)
    distinct = _without_repeats(given)
    contacts, dropped = _contacts(distinct)
    names = sorted(outcomes.follow_up["customer_id"].unique())
    codes = {name: code for code, name in enumerate(names)}
    known = [contact for contact in contacts if contact.customer_id in codes]
    who = np.array([codes[contact.customer_id] for contact in known], dtype=np.int64)
    begin = np.array([_micros(contact.began_at) for contact in known], dtype=np.int64)
    end = np.array([_micros(contact.ended_at) for contact in known], dtype=np.int64)
    found: dict[str, list[WindowOutcome]] = {}
    reports: dict[str, KindReport] = {}
    for kind in outcomes.kinds:
        spans = _Spans(customer=who, begin=begin, end=end, window=window_days * _DAY_US)
        found[kind], reports[kind] = _join_kind(spans, _History.of(outcomes, kind, codes), kind in once)
    windows = ({kind: found[kind][number] for kind in found} for number in range(len(known)))
    linked = [item for contact, window in zip(known, windows, strict=True) for item in _linked(contact, window, window_days)]
    order = {call.info.call_id: number for number, call in enumerate(distinct)}
    linked.sort(key=lambda item: order[item.call.info.call_id])
    report = JoinReport(
        calls=len(given),
        linked=len(linked),
        contacts=len(known),
        repeated=len(given) - len(distinct),
        **dropped,
        customer_without_outcomes=sum(len(contact.legs) for contact in contacts) - len(linked),
        without_duration=sum(_duration_s(item.call) is None for item in linked),
        customers=len(names),
        customers_without_calls=len(names) - len(np.unique(who)),
        rows=outcomes.rows,
        duplicate_rows=outcomes.duplicates,
        window_days=window_days,
        kinds=reports,
    )
    return Linked(calls=tuple(linked), join=report)


def _linked(contact: _Contact, outcomes: Mapping[str, WindowOutcome], window_days: int) -> list[LinkedCall]:
    return [
        LinkedCall(
            call=leg,
            customer_id=contact.customer_id,
            ended_at=contact.ended_at,
            window_days=window_days,
            opens=contact.legs[0],
            last_leg=leg is contact.legs[-1],
            outcomes=outcomes,
        )
        for leg in contact.legs
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contact:
    customer_id: str
    legs: tuple[CallScore, ...]
    began_at: datetime
    ended_at: datetime


def _without_repeats(calls: Sequence[CallScore]) -> list[CallScore]:
    seen: dict[str, CallScore] = {}
    for call in calls:
        if (other := seen.setdefault(call.info.call_id, call)) is not call and other != call:
            raise TableError("two different scores", where=f"call {call.info.call_id!r}", do="Give each call one score and an id of its own.")
    return list(seen.values())


def _contacts(calls: Sequence[CallScore]) -> tuple[list[_Contact], dict[str, int]]:
    """Whole contacts in order of their first leg's place, and how many calls were left out for which reason."""
    groups: dict[tuple[str, str], list[CallScore]] = {}
    for call in calls:
        key = ("call", call.info.call_id) if call.info.contact_id is None else ("contact", call.info.contact_id)
        groups.setdefault(key, []).append(call)
    dropped = {"without_customer_id": 0, "without_started_at": 0, "two_customers": 0}
    contacts: list[_Contact] = []
    for legs in groups.values():
        customers = {leg.info.customer_id for leg in legs} - {None}
        times = [leg.info.started_at for leg in legs if leg.info.started_at is not None]
        if not customers:
            dropped["without_customer_id"] += len(legs)
        elif len(customers) > 1:
            dropped["two_customers"] += len(legs)
        elif len(times) < len(legs):
            dropped["without_started_at"] += len(legs)
        else:
            numbered = all(leg.info.leg is not None for leg in legs)
            legs.sort(key=lambda leg: (leg.info.leg if numbered else 0, leg.info.started_at))
            ends = [
                time + timedelta(seconds=_duration_s(leg) or 0.0)
                for time, leg in zip((leg.info.started_at for leg in legs), legs, strict=True)
                if time
            ]
            contacts.append(_Contact(customer_id=str(customers.pop()), legs=tuple(legs), began_at=min(times), ended_at=max(ends)))
    return contacts, dropped


def _duration_s(call: CallScore) -> float | None:
    if call.talk.duration_s is not None or call.transcript is None:
        return call.talk.duration_s
    return call.transcript.duration_s or max((turn.end_s for turn in call.transcript.turns if turn.end_s is not None), default=None)


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spans:
    """Contacts as arrays: customer code, begin and end in microseconds since 1970; window length in microseconds."""

    customer: _Ints
    begin: _Ints
    end: _Ints
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _History:
    """One kind's events, sorted by customer and time, and the observed span per customer code (`until` -1: no row; `since` max: unknown)."""

    customer: _Ints
    at: _Ints
    amount: NDArray[np.float64]
    until: _Ints
    since: _Ints
    followed: NDArray[np.bool_]

    @classmethod
    def of(cls, outcomes: Outcomes, kind: str, codes: Mapping[str, int]) -> _History:
        events = outcomes.events[outcomes.events["kind"] == kind]
        customer: _Ints = np.asarray(events["customer_id"].map(codes), dtype=np.int64)
        at = _column_micros(events["occurred_at"])
        order = np.lexsort((at, customer))
        rows = outcomes.follow_up[outcomes.follow_up["kind"] == kind]
        place = rows["customer_id"].map(codes).to_numpy(dtype=np.int64)
        until, since = np.full(len(codes), -1, dtype=np.int64), np.full(len(codes), np.iinfo(np.int64).max, dtype=np.int64)
        followed = np.zeros(len(codes), dtype=np.bool_)
        until[place], followed[place] = _column_micros(rows["observed_until"]), True
        given = rows["observed_from"].notna().to_numpy()
        since[place[given]] = _column_micros(rows["observed_from"][given])
        amount = events["amount"].to_numpy(dtype=float)[order]
        return cls(customer=customer[order], at=at[order], amount=amount, until=until, since=since, followed=followed)

    def position(self, customer: _Ints, time: _Ints, side: str) -> _Ints:
        """Where in the sorted events a customer's events after `time` (`right`) or from `time` on (`left`) begin."""
        moments = np.unique(self.at)
        width = len(moments) + 1
        events = self.customer * width + np.searchsorted(moments, self.at)
        wanted = customer * width + np.searchsorted(moments, time, side=side)  # type: ignore[call-overload]
        return np.asarray(np.searchsorted(events, wanted), dtype=np.int64)


def _column_micros(times: Any) -> _Ints:
    return np.asarray(times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64), dtype=np.int64)


def _join_kind(spans: _Spans, past: _History, only_once: bool) -> tuple[list[WindowOutcome], KindReport]:
    who, end = spans.customer, spans.end
    first_of = np.searchsorted(past.customer, who).astype(np.int64)
    after, closes = past.position(who, end, "right"), past.position(who, end + spans.window, "right")
    no_row = ~past.followed[who]
    known_since = past.since[who] != np.iinfo(np.int64).max
    early = ~no_row & known_since & (past.since[who] > end)
    gone = ~no_row & ~early & (after > first_of) if only_once else np.zeros(len(who), dtype=np.bool_)
    short = ~no_row & ~early & ~gone & (end + spans.window > past.until[who])
    observed = ~(no_row | early | gone | short)
    opened = past.position(who, spans.begin - spans.window, "left")
    began = past.position(who, spans.begin, "left")
    seen_before = known_since & (past.since[who] <= spans.begin - spans.window) & (not only_once)
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(past.amount))])
    unknown = np.concatenate([[0], np.cumsum(np.isnan(past.amount))])
    # A window without a past or an event is the commonest case by far: one shared record each keeps a million calls small.
    missing = {name: WindowOutcome(occurred=None, missing=name) for name in MISSING}
    quiet = {before: WindowOutcome(occurred=False, before=before) for before in (None, False, True)}
    out: list[WindowOutcome] = []
    reasons = np.select([no_row, early, gone, short], range(len(MISSING)), default=-1)
    for i, reason in enumerate(reasons):
        if reason >= 0:
            out.append(missing[MISSING[reason]])
            continue
        low, high = int(after[i]), int(closes[i])
        before = bool(began[i] > opened[i]) if seen_before[i] else None
        if low == high:
            out.append(quiet[before])
            continue
        out.append(
            WindowOutcome(
                occurred=True,
                n_events=high - low,
                amount=None if unknown[high] > unknown[low] else float(sums[high] - sums[low]),
                first_after_days=(int(past.at[low]) - int(end[i])) / _DAY_US,
                before=before,
                event_rows=range(low, high),
            )
        )
    lost = {name: int((reasons == number).sum()) for number, name in enumerate(MISSING)}
    return out, _count_events(spans, past, (after, closes, began), observed, lost)


def _count_events(
    spans: _Spans, past: _History, bounds: tuple[_Ints, _Ints, _Ints], observed: NDArray[np.bool_], lost: Mapping[str, int]
) -> KindReport:
    after, closes, began = bounds
    total = len(past.at)
    in_window, during = _covered(after[observed], closes[observed], total), _covered(began, after, total)
    first_begin = np.full(len(past.until), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first_begin, spans.customer, spans.begin)
    called = first_begin[past.customer] != np.iinfo(np.int64).max
    early = called & (past.at < first_begin[past.customer])
    return KindReport(
        contacts=len(spans.end),
        observed=int(observed.sum()),
        **lost,
        events=total,
        of_customers_without_calls=int((~called).sum()),
        before_first_call=int(early.sum()),
        in_window=int(in_window.sum()),
        elsewhere=int((called & ~early & ~in_window).sum()),
        during_call=int(during.sum()),
    )


def _covered(low: _Ints, high: _Ints, size: int) -> NDArray[np.bool_]:
    """Which of `size` positions lie in at least one half-open interval."""
    steps = np.zeros(size + 1, dtype=np.int64)
    np.add.at(steps, low, 1)
    np.add.at(steps, high, -1)
    covered: NDArray[np.bool_] = np.cumsum(steps)[:size] > 0
    return covered
