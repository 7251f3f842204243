"""The outcomes table's rules, row by row, and the as-of join against a plain loop."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.errors import TableError, UsageError
from analyzer.outcomes import Outcomes, link, read_outcomes
from analyzer.records import CallScore, Talk
from tests.builders import NOON, score

HEADER = "customer_id,kind,occurred_at,amount,observed_until"
UNTIL = "2026-09-01T00:00:00+00:00"


def table(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "outcomes.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def outcomes(tmp_path: Path, *rows: str, header: str = HEADER) -> Outcomes:
    return read_outcomes(table(tmp_path, *rows, header=header))


def day(number: float) -> str:
    return (NOON + timedelta(days=number)).isoformat()


def call(call_id: str = "c1", customer: str | None = "k1", at: float = 0, **fields: Any) -> CallScore:
    fields = {"talk": Talk(duration_s=600.0), "started_at": NOON + timedelta(days=at)} | fields
    return score(call_id, customer_id=customer, **fields)


GOOD = f"k1,churn,2026-04-01T10:00:00+02:00,,{UNTIL}"


@pytest.mark.parametrize(
    ("header", "rows", "place", "what"),
    [
        (HEADER + ",colour", [GOOD + ",red"], "line 1", "unknown column 'colour'"),
        (HEADER.replace("occurred_at", "ocurred_at"), [GOOD], "line 1", "Did you mean 'occurred_at'?"),
        (HEADER + ",amount", [GOOD + ","], "line 1", "stands twice"),
        ("customer_id,kind,occurred_at", ["k1,churn,"], "line 1", "'observed_until' is missing"),
        (HEADER.replace(",", ";"), [GOOD], "line 1", "not separated by commas"),
        (HEADER, [], "outcomes.csv", "no rows"),
        (HEADER, [GOOD, "k2,churn"], "line 3", "2 cells where the header has 5"),
        (HEADER, [GOOD, '"k2,churn,,,'], "line 3", "not CSV"),
        (HEADER, [GOOD, f",churn,,,{UNTIL}"], "line 3, column customer_id", "customer_id is empty"),
        (HEADER, [GOOD, f"k2,,,,{UNTIL}"], "line 3, column kind", "kind is empty"),
        (HEADER, [GOOD, f"k2,Churn,,,{UNTIL}"], "column kind", "differ only in case"),
        (HEADER, [GOOD, f"k2,churn,yesterday,,{UNTIL}"], "line 3, column occurred_at", "'yesterday' is not a date and time"),
        (HEADER, [GOOD, f"k2,churn,2026-13-01T00:00:00Z,,{UNTIL}"], "line 3, column occurred_at", "is not a date and time"),
        (HEADER, [GOOD, f"k2,churn,2026-04-01T10:00:00,,{UNTIL}"], "line 3, column occurred_at", "has no time zone"),
        (HEADER, [GOOD, f"k2,churn,2026-04-01,,{UNTIL}"], "line 3, column occurred_at", "has no time zone"),
        (HEADER, [GOOD, "k2,churn,,,9999-12-31T00:00:00Z"], "line 3, column observed_until", "between the years"),
        (HEADER, [GOOD, "k2,churn,,,"], "line 3, column observed_until", "observed_until is empty"),
        (HEADER, [GOOD, f"k2,spend,2026-04-01T10:00:00Z,ten,{UNTIL}"], "line 3, column amount", "'ten' is not an amount"),
        (HEADER, [GOOD, f"k2,spend,2026-04-01T10:00:00Z,nan,{UNTIL}"], "line 3, column amount", "'nan' is not an amount"),
        (HEADER, [GOOD, f"k2,spend,2026-04-01T10:00:00Z,-inf,{UNTIL}"], "line 3, column amount", "'-inf' is not an amount"),
        (HEADER, [GOOD, f"k2,spend,,12.5,{UNTIL}"], "line 3, column amount", "an amount without occurred_at"),
        (HEADER, [GOOD, f"k2,churn,2026-10-01T10:00:00Z,,{UNTIL}"], "line 3, column occurred_at", "after the row's own observed_until"),
        (HEADER, [GOOD, "k1,churn,2026-04-02T10:00:00Z,,2026-08-01T00:00:00Z"], "line 3, column observed_until", "differs from line 2"),
        (HEADER, [GOOD, f"k1,churn,,,{UNTIL}"], "line 3, column occurred_at", "contradicts"),
        (HEADER + ",observed_from", [GOOD + ",2026-12-01T00:00:00Z"], "line 2, column observed_from", "after observed_until"),
        (HEADER + ",observed_from", [GOOD + ",2026-05-01T00:00:00Z"], "line 2, column occurred_at", "before the row's own observed_from"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(tmp_path: Path, header: str, rows: list[str], place: str, what: str) -> None:
    with pytest.raises(TableError) as caught:
        outcomes(tmp_path, *rows, header=header)
    assert place in caught.value.where
    assert what in str(caught.value)
    assert caught.value.do


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such outcomes file"):
        read_outcomes(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(TableError, match="is empty"):
        read_outcomes(tmp_path / "empty.csv")
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\nk1,churn,,,{UNTIL}\nM\u00fcller,churn,,,{UNTIL}\n".encode("latin-1"))
    with pytest.raises(TableError, match=r"line 3: not UTF-8"):
        read_outcomes(tmp_path / "latin.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(TableError, match="not readable as Parquet"):
        read_outcomes(tmp_path / "broken.parquet")


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    rows = [GOOD, "", f'"k\n2",churn,,,{UNTIL}', f"k3,churn,soon,,{UNTIL}"]
    with pytest.raises(TableError, match="line 6, column occurred_at"):
        outcomes(tmp_path, *rows)


def test_repeats_are_dropped_and_counted_also_when_written_in_another_zone(tmp_path: Path) -> None:
    found = outcomes(tmp_path, GOOD, GOOD, f"k1,churn,2026-04-01T08:00:00Z,,{UNTIL}", f"k1,churn,2026-04-02T08:00:00Z,,{UNTIL}")
    assert (found.rows, found.duplicates, len(found.events)) == (4, 2, 2)
    assert found.kinds == ("churn",)


def test_parquet_reads_like_csv(tmp_path: Path) -> None:
    rows = [GOOD, f"k1,spend,2026-04-01T10:00:00Z,12.5,{UNTIL}", f"k2,spend,,,{UNTIL}", f"k2,churn,,,{UNTIL}"]
    from_csv = outcomes(tmp_path, *rows)
    frame = pd.read_csv(tmp_path / "outcomes.csv")
    for name in ("occurred_at", "observed_until"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    frame.to_parquet(tmp_path / "outcomes.any")
    from_parquet = read_outcomes(tmp_path / "outcomes.any")
    pd.testing.assert_frame_equal(from_csv.events, from_parquet.events)
    pd.testing.assert_frame_equal(from_csv.follow_up, from_parquet.follow_up)


def test_parquet_with_naive_times_is_refused(tmp_path: Path) -> None:
    times = pd.to_datetime(["2026-04-01"])
    pd.DataFrame({"customer_id": ["k"], "kind": ["churn"], "occurred_at": times, "observed_until": times}).to_parquet(tmp_path / "o.parquet")
    with pytest.raises(TableError, match="column occurred_at: its times have no time zone"):
        read_outcomes(tmp_path / "o.parquet")


def test_observation_that_stops_at_the_event_is_refused(tmp_path: Path) -> None:
    stopped = [f"k{n},churn,{day(20 + n)},,{day(20 + n)}" for n in range(4)]
    with pytest.raises(TableError, match="observed_until follows the outcome: for 4 of 5 customers with a churn"):
        outcomes(tmp_path, *stopped, f"k8,churn,{day(40)},,{UNTIL}", f"k9,churn,,,{UNTIL}")


def test_events_on_the_last_day_of_a_common_end_are_no_such_thing(tmp_path: Path) -> None:
    late = [f"k{n},churn,2026-08-31T12:00:00Z,,{UNTIL}" for n in range(4)]
    assert len(outcomes(tmp_path, *late, f"k9,churn,,,{UNTIL}").events) == 4


ENDED = 600 / 86400  # a call of ten minutes, in days


@pytest.mark.parametrize(
    ("at", "occurred", "days"),
    [
        (ENDED / 2, False, None),  # during the call
        (ENDED, False, None),  # at the very moment it ends
        (ENDED + 1e-4, True, 1e-4),
        (ENDED + 30, True, 30.0),  # the window's last moment belongs to it
        (ENDED + 30.001, False, None),
        (-1.0, False, None),
    ],
)
def test_what_counts_as_after_the_call(tmp_path: Path, at: float, occurred: bool, days: float | None) -> None:
    found = outcomes(tmp_path, f"k1,spend,{day(at)},5,{UNTIL}")
    window = link([call()], found, window_days=30)[0].outcomes["spend"]
    assert window.occurred is occurred
    assert window.first_after_days == (None if days is None else pytest.approx(days, abs=1e-6))
    assert window.amount == (5.0 if occurred else None)


@pytest.mark.parametrize(
    ("until", "missing"),
    [(30 + ENDED, None), (30.0, "window_not_over"), (29.0, "window_not_over")],
)
def test_a_window_that_is_not_over_keeps_nothing_of_its_early_events(tmp_path: Path, until: float, missing: str | None) -> None:
    found = outcomes(tmp_path, f"k1,spend,{day(5)},5,{day(until)}")
    linked = link([call()], found, window_days=30)
    window = linked[0].outcomes["spend"]
    assert window.missing == missing
    assert window.occurred is (None if missing else True)
    assert window.n_events == (0 if missing else 1)
    assert linked.join.kinds["spend"].window_not_over == (1 if missing else 0)


def test_who_has_left_is_no_longer_at_risk(tmp_path: Path) -> None:
    found = outcomes(tmp_path, f"k1,churn,{day(5)},,{UNTIL}")
    linked = link([call("before", at=0), call("after", at=10), call("during", at=5 - ENDED / 2)], found, window_days=30)
    assert [item.outcomes["churn"].occurred for item in linked] == [True, None, None]
    assert linked[1].outcomes["churn"].missing == "not_at_risk"
    assert linked.join.kinds["churn"].during_call == 1
    often = link([call("after", at=10)], found, window_days=30, once=())
    assert often[0].outcomes["churn"].occurred is False


def test_the_past_is_unknown_unless_it_was_watched(tmp_path: Path) -> None:
    header = HEADER + ",observed_from"
    rows = [f"k1,spend,{day(-3)},1,{UNTIL},{day(-40)}", f"k2,spend,,,{UNTIL},{day(-40)}", f"k3,spend,,,{UNTIL},{day(-10)}", f"k4,spend,,,{UNTIL},"]
    calls = [call(f"c{n}", customer=f"k{n}") for n in (1, 2, 3, 4)]
    linked = link(calls, outcomes(tmp_path, *rows, header=header), window_days=30)
    assert [item.outcomes["spend"].before for item in linked] == [True, False, None, None]
    late = link([call("c5", customer="k3", at=-20)], outcomes(tmp_path, *rows, header=header), window_days=30)
    assert late[0].outcomes["spend"].missing == "before_observation"


def test_legs_of_a_contact_share_one_window_after_the_last(tmp_path: Path) -> None:
    legs = [call("second", at=0.01, contact_id="x", leg=2), call("first", at=0, contact_id="x", leg=1, customer=None)]
    found = outcomes(tmp_path, f"k1,repeat_call,{day(0.01)},,{UNTIL}")
    linked = link(legs, found, window_days=7)
    assert [item.call.info.call_id for item in linked] == ["second", "first"]
    assert [item.last_leg for item in linked] == [True, False]
    assert all(item.opens.info.call_id == "first" and item.ended_at == NOON + timedelta(days=0.01, seconds=600) for item in linked)
    assert [item.outcomes["repeat_call"].occurred for item in linked] == [False, False]  # a transfer is no repeat
    assert (linked.join.linked, linked.join.contacts, linked.join.kinds["repeat_call"].during_call) == (2, 1, 1)


def test_every_call_is_counted_once(tmp_path: Path) -> None:
    calls = [
        call("a"),
        call("a"),
        call("b", customer=None),
        call("c", customer="k2", started_at=None),
        call("d", contact_id="x"),
        call("e", contact_id="x", customer="k2"),
        call("f", customer="stranger"),
        call("g", talk=Talk()),
    ]
    join = link(calls, outcomes(tmp_path, GOOD, f"k7,churn,,,{UNTIL}"), window_days=30).join
    left_out = (join.repeated, join.without_customer_id, join.without_started_at, join.two_customers, join.customer_without_outcomes)
    assert left_out == (1, 1, 1, 2, 1)
    assert join.calls == 8 == join.linked + sum(left_out)
    assert (join.linked, join.without_duration, join.customers, join.customers_without_calls) == (2, 1, 2, 1)
    assert join.to_json()["kinds"]["churn"]["contacts"] == 2


def test_a_call_scored_twice_differently_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="call 'a': two different scores"):
        link([call("a"), call("a", closing="singing")], outcomes(tmp_path, GOOD), window_days=30)


def test_a_window_has_a_length(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the window is 0 days"):
        link([call()], outcomes(tmp_path, GOOD), window_days=0)


def test_an_amount_with_an_unknown_part_is_unknown(tmp_path: Path) -> None:
    found = outcomes(tmp_path, f"k1,spend,{day(2)},5,{UNTIL}", f"k1,spend,{day(3)},,{UNTIL}", f"k1,spend,{day(12)},7,{UNTIL}")
    windows = [item.outcomes["spend"] for item in link([call("a"), call("b", at=2.5), call("c", at=4)], found, window_days=10)]
    assert [(window.n_events, window.amount) for window in windows] == [(2, None), (2, None), (1, 7.0)]


moments = st.integers(min_value=0, max_value=60)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(st.tuples(st.integers(0, 3), moments), max_size=8),
    events=st.lists(st.tuples(st.integers(0, 3), moments), min_size=1, max_size=12),
    window=st.integers(1, 30),
)
def test_the_join_says_what_a_plain_loop_says(tmp_path: Path, calls: list[tuple[int, int]], events: list[tuple[int, int]], window: int) -> None:
    found = outcomes(tmp_path, *(f"k{who},spend,{day(at)},{n + 1},{day(70 + who)}" for n, (who, at) in enumerate(events)))
    scores = [call(f"c{n}", customer=f"k{who}", at=at) for n, (who, at) in enumerate(calls)]
    linked = link(scores, found, window_days=window)
    places = {int(item.call.info.call_id[1:]): item.outcomes["spend"] for item in linked}
    for n, (who, at) in enumerate(calls):
        inside = [k + 1 for k, (other, when) in enumerate(events) if other == who and at + ENDED < when <= at + ENDED + window]
        followed = any(other == who for other, _ in events)
        if not followed:
            assert n not in places
        elif at + ENDED + window > 70 + who:
            assert places[n].missing == "window_not_over"
        else:
            assert (places[n].n_events, places[n].amount or 0.0) == (len(inside), pytest.approx(float(sum(inside))))
    kind = linked.join.kinds["spend"]
    assert kind.events == kind.of_customers_without_calls + kind.before_first_call + kind.in_window + kind.elsewhere
    assert kind.contacts == kind.observed + kind.no_row + kind.before_observation + kind.not_at_risk + kind.window_not_over


def test_times_are_compared_across_zones(tmp_path: Path) -> None:
    found = outcomes(tmp_path, f"k1,spend,2026-03-02T14:30:00+02:00,1,{UNTIL}")
    item = link([call(started_at=datetime(2026, 3, 2, 12, 0, tzinfo=UTC))], found, window_days=1)[0]
    assert item.outcomes["spend"].first_after_days == pytest.approx(20 / 1440)
