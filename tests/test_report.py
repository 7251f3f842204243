"""The report: one inert, self-contained page whose numbers can be checked against the calls."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.effects import Arm, Effect, Interval
from analyzer.effects.records import EValue, Placebo
from analyzer.errors import UsageError
from analyzer.outcomes.join import JoinReport, KindReport
from analyzer.records import CallInfo, CallScore, Evidence, Failure, Flag, Transcript, Turn
from analyzer.report import Provenance, ReportInput, render
from analyzer.report.calls import clock, to_hear
from analyzer.report.shares import distribution, groups, moods, share, shrink
from analyzer.report.words import measured, percent, visible
from tests import builders

NOW = datetime(2026, 9, 1, 6, 30, tzinfo=UTC)
VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style><script>x</script>",
    "{{ 7 * 7 }}{% raw %}{# gone #}",
    "$\\frac{1}{0}$ $_{",
    "javascript:alert(1)",
    "two\nlines\r\nthree",
    "]]><!-- -->&lt;b&gt;",
]


class Page(HTMLParser):
    """What a browser would make of the page: elements, their attributes, the text, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.rows = 0
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def count(self, tag: str, **attributes: str) -> int:
        return sum(name == tag and all(found.get(key) == value for key, value in attributes.items()) for name, found in self.elements)


def page(**fields: Any) -> Page:
    return Page(render(ReportInput(**({"title": "Calls", "generated_at": NOW} | fields))))


def call(number: int, **fields: Any) -> CallScore:
    """A varied call: labels go round, every eleventh abstains, agents a0 to a3, a week between every ten calls."""
    said = builders.transcript(("agent", f"I will see to it, number {number}."), ("customer", "Third time I have called."), seconds_each=70.0)
    courtesy = ("discourteous", "neutral", "courteous")[number % 3]
    judged = builders.judgement("courtesy", courtesy, 0.5 + number % 40 / 100, evidence=(Evidence(turn=1, start_char=0, end_char=10),))
    if number % 11 == 0:
        judged = dataclasses.replace(judged, abstained=True, reason="one_side_silent")
    given: dict[str, Any] = {
        "courtesy": judged,
        "closing": ("grumbling", "singing", "neutral")[number // 2 % 3],
        "agent_id": f"a{number % 4}",
        "queue": ("billing", "orders")[number % 2],
        "started_at": builders.NOON + timedelta(days=number / 10 * 7),
        "transcript": said,
        "redacted": {"NAME": 1},
    }
    return builders.score(f"c-{number:04d}", **(given | fields))


def effect(**fields: Any) -> Effect:
    given: dict[str, Any] = {
        "dimension": "closing",
        "outcome": "churn",
        "contrast": "grumbling - singing",
        "measure": "risk_difference",
        "window_days": 90,
        "estimate": 0.14,
        "low": 0.09,
        "high": 0.19,
        "level": 0.95,
        "p_value": 0.001,
        "q_value": 0.002,
        "se": 0.025,
        "naive": Interval(estimate=0.17, low=0.11, high=0.23),
        "adjusted_for": ("queue",),
        "clusters": {"customer": 60, "agent": 4},
        "placebo": Placebo(answer=Interval(estimate=0.01, low=-0.04, high=0.06)),
        "e_value": EValue(estimate=3.1, limit=2.2),
        "n_calls": 400,
        "n_customers": 60,
        "n_events": 50,
        "unique_events": 45,
        "arms": (
            Arm(label="grumbling", n_calls=100, n_customers=40, n_agents=4, n_events=23, risk=Interval(estimate=0.23, low=0.2, high=0.26)),
            Arm(label="singing", n_calls=100, n_customers=40, n_agents=4, n_events=9, risk=Interval(estimate=0.09, low=0.06, high=0.12)),
        ),
        "excluded": {},
        "not_enough": None,
        "estimand": "",
        "sentence": "Of 100 calls that ended grumbling, 23 were followed by churn.",
        "warnings": (),
    }
    return Effect(**(given | fields))


def without_answer(**fields: Any) -> Effect:
    nothing: dict[str, Any] = dict.fromkeys(("estimate", "low", "high", "p_value", "q_value", "se", "e_value"))
    return effect(
        **(nothing | {"naive": Interval(), "placebo": Placebo(), "not_enough": "4 events; 10 are needed", "sentence": "No number."} | fields)
    )


def join() -> JoinReport:
    kind = KindReport(**{field.name: 1234 for field in dataclasses.fields(KindReport)})
    counts = {field.name: 5678 for field in dataclasses.fields(JoinReport) if field.name != "kinds"}
    return JoinReport(**(counts | {"window_days": 90}), kinds={"churn": kind})  # type: ignore[arg-type]


def everything(number: int = 130, **fields: Any) -> ReportInput:
    given: dict[str, Any] = {
        "title": "Calls",
        "generated_at": NOW,
        "scores": [call(i) for i in range(number)],
        "failures": [Failure(source="bad.wav", reason="audio", message="bad.wav: no sound in it. Record it again.", call_id="x-9")],
        "effects": [effect(), without_answer(outcome="referral")],
        "join": join(),
        "about": "All of this data is made up.",
        "provenance": Provenance(settings_digest="9f86d0", notes={"window_days": 90}),
    }
    return ReportInput(**(given | fields))


@pytest.fixture(scope="module")
def whole() -> str:
    return render(everything())


def test_same_input_in_any_order_gives_the_same_page(whole: str) -> None:
    report = everything()
    assert render(dataclasses.replace(report, scores=list(reversed(report.scores)))) == whole


def test_page_is_self_contained_and_inert(whole: str) -> None:
    assert_inert(whole)
    found = Page(whole)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert found.count("meta", **{"http-equiv": "Content-Security-Policy", "content": policy}) == 1
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"].removeprefix("#") for _, a in found.elements if a.get("href")} <= set(ids)  # type: ignore[union-attr]


def assert_inert(html: str) -> None:
    assert "http://" not in html
    assert "https://" not in html
    for tag, attributes in Page(html).elements:
        assert tag not in {"script", "iframe", "object", "embed", "link", "img", "base", "form", "foreignobject", "animate", "set"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "action", "formaction", "data", "xlink:href", "ping"}
            assert "url(" not in (value or "")
            if name == "href":
                assert (value or "").startswith("#")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_accessible_structure(whole: str) -> None:
    found = Page(whole)
    tables = found.count("table")
    assert tables == found.count("caption") > 8
    assert all("scope" in attributes for tag, attributes in found.elements if tag == "th")
    drawings = [attributes for tag, attributes in found.elements if tag == "svg" and "aria-hidden" not in attributes]
    ids = {attributes.get("id") for tag, attributes in found.elements if tag in ("title", "desc")}
    assert len(drawings) == 4  # forest and trend, each for wide and narrow
    for attributes in drawings:
        assert attributes["role"] == "img"
        assert set((attributes["aria-labelledby"] or "").split()) <= ids
    assert [tag for tag, _ in found.elements if tag == "h1"] == ["h1"]


@pytest.mark.parametrize(
    "expected",
    [
        "All of this data is made up.",
        "130 calls scored, from 2 March 2026 to 31 May 2026",
        "1 call could not be scored",
        "For 12 calls at least one question has no answer",
        "Of 100 calls that ended grumbling, 23 were followed by churn.",
        "+14.0 (+9.0 to +19.0)",
        "+17.0 (+11.0 to +23.0)",
        "+1.0 (−4.0 to +6.0)",
        "referral, closing: grumbling − singing. 4 events; 10 are needed",
        "What this does not prove",
        "5,678",
        "1,234",
        "Not for appraisal.",
        "suspected lapse",
        "one side silent",
        "“Third time” customer, 01:10".replace("“", "").replace("”", ""),
        "bad.wav: no sound in it. Record it again.",
        "the recording could not be decoded or holds no sound",
        "9f86d0",
        "test@sha256:0 (130 calls)",
        "NAME 130",
        "All 130 calls",
    ],
)
def test_says(whole: str, expected: str) -> None:
    assert expected in Page(whole).text


def test_discourteous_is_never_shown_as_a_fact(whole: str) -> None:
    assert "discourteous" not in Page(whole).text.lower()


def test_made_up_data_is_said_before_any_number(whole: str) -> None:
    assert whole.index("All of this data is made up.") < whole.index('id="overview"')


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_shown_and_does_nothing(hostile: str) -> None:
    info = CallInfo(call_id=hostile, agent_id=hostile, queue=hostile, started_at=builders.NOON)
    said = Transcript(info=info, turns=(Turn(speaker="agent", text=hostile),))
    lapse = builders.judgement("courtesy", "discourteous", evidence=(Evidence(turn=0, start_char=0, end_char=len(hostile)),))
    silent = builders.judgement("closing", "neutral", abstained=True, reason=hostile)
    one = builders.score(courtesy=lapse, closing=silent, transcript=said, flags=(Flag(kind=hostile, rule=hostile, turn=0),), redacted={hostile: 1})
    one = dataclasses.replace(one, info=info, model=hostile, asr=hostile)
    report = everything(
        title=hostile,
        about=hostile,
        scores=[one, *(call(i, queue=hostile) for i in range(12))],
        failures=[Failure(source=hostile, reason=hostile, message=hostile, call_id="other")],
        effects=[effect(outcome=hostile, sentence=hostile, warnings=(hostile,), adjusted_for=(hostile,)), without_answer(not_enough=hostile)],
        join=dataclasses.replace(join(), kinds={hostile: join().kinds["churn"]}),
        provenance=Provenance(settings_digest=hostile, notes={hostile: hostile}),
    )
    html = render(report)
    assert_inert(html)
    assert Page(html).text.count(" ".join(hostile.split())) >= 15


def test_reordering_and_control_characters_are_written_out() -> None:
    html = render(everything(scores=[call(1, agent_id="abc\u202egpj.exe\x00\ud800")], title="\u2066t", effects=[effect(outcome="a\u202eb\x01")]))
    assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)
    assert "abc[U+202E]gpj.exe[U+0000][U+D800]" in html
    html.encode()


@given(st.text())
@settings(max_examples=200)
def test_visible_text_can_always_be_written_and_is_stable(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert visible(shown) == shown
    assert (shown == text) == all(part in shown for part in text)


@pytest.mark.parametrize(("number", "listed"), [(199, 199), (200, 200), (201, 200), (450, 200)])
def test_at_most_200_calls_are_listed_and_the_rest_is_counted(number: int, listed: int) -> None:
    html = render(ReportInput(title="Calls", generated_at=NOW, scores=[call(i, started_at=None) for i in range(number)]))
    table = html[html.index('<table class="calls"') :]
    assert table[: table.index("</table>")].count('role="rowheader"') == listed
    text = Page(html).text
    rest = number - listed
    assert (f"200 of {number} calls" in text) == (rest > 0)
    assert (f"the other {rest:,} call" in text) == (rest > 0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["No call was scored.", "were not linked", "No call names its agent.", "Nothing failed."]),
        ({"failures": [Failure(source="a.wav", reason="audio", message="m")]}, ["No call was scored. 1 call could not be", "a.wav"]),
        ({"scores": [builders.score(started_at=None)]}, ["1 call scored (1 without a date)", "no date", "no words kept", "None failed."]),
        ({"scores": [builders.score()], "effects": [without_answer()]}, ["4 events; 10 are needed"]),
        (
            {"scores": [builders.score(**{n: builders.judgement(n, "neutral", abstained=True) for n in ("courtesy", "closing")})]},  # type: ignore[arg-type]
            ["no reason given 1", "no answer"],
        ),
    ],
)
def test_little_or_nothing_to_show(fields: dict[str, Any], expected: list[str]) -> None:
    text = page(**fields).text
    for words in expected:
        assert words in text


def test_a_report_time_without_zone_is_refused() -> None:
    with pytest.raises(UsageError, match="time zone"):
        render(ReportInput(title="x", generated_at=datetime(2026, 1, 1)))


@pytest.mark.parametrize(("count", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (15, 148, 0.0624, 0.1605), (0, 0, 0, 1)])
def test_wilson_matches_published_values(count: int, total: int, low: float, high: float) -> None:
    # 15 of 148: Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    found = share("neutral", count, total)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@given(st.lists(st.tuples(st.sampled_from(["discourteous", "neutral", "courteous"]), st.booleans()), max_size=40))
@settings(max_examples=40, deadline=None)
def test_shares_add_up(calls: list[tuple[str, bool]]) -> None:
    scores = [builders.score(courtesy=builders.judgement("courtesy", label, abstained=gone, reason="r" if gone else None)) for label, gone in calls]
    found = distribution(scores, "courtesy")
    assert sum(item.count for item in found.shares) == found.judged
    assert found.judged + found.abstained.count == len(scores)
    assert sum(number for _, number in found.reasons) == found.abstained.count
    if found.judged:
        assert sum(item.estimate or 0 for item in found.shares) == pytest.approx(1)
        assert all(item.low - 1e-9 <= (item.estimate or 0) <= item.high + 1e-9 for item in found.shares)


def test_moods_count_each_call_once() -> None:
    rows = moods([call(i) for i in range(30)])
    assert [row.total for row in rows] == [0, 30, 0]
    assert [item.count for item in rows[1].closings] == [10, 10, 10]


def test_agents_are_alphabetical_and_small_ones_have_no_number() -> None:
    scores = [builders.score(f"c{i}", agent_id=name) for name, n in (("zoe", 12), ("Bob", 9), ("amy", 10)) for i in range(n)]
    found = groups([*scores, builders.score("none")], lambda score: score.info.agent_id)
    assert [group.name for group in found] == ["amy", "Bob", "zoe"]
    assert [group.shares[0].estimate is None for group in found] == [False, True, False]


def test_policy_failures_do_not_count_against_an_agent() -> None:
    def refused(cause: str) -> list[CallScore]:
        return [
            builders.score(f"{cause}{i}", agent_id=cause, resolution=builders.judgement("resolution", "unresolved", cause=cause)) for i in range(20)
        ]  # type: ignore[arg-type]

    found = groups([*refused("agent"), *refused("policy")], lambda score: score.info.agent_id)
    assert [group.shares[2].count for group in found] == [20, 0]


def test_shrinking_pulls_toward_the_mean_the_more_the_fewer_calls() -> None:
    small, large, *_ = shrink([5, 50, *[2] * 20], [10, 100, *[20] * 20])
    assert 0.1 < small[0] < large[0] < 0.5
    assert small[2] - small[1] > large[2] - large[1]


def test_shrunken_intervals_cover_the_truth() -> None:
    import numpy as np

    rng = np.random.default_rng(8)
    held = []
    for _ in range(60):
        rates, totals = rng.beta(8, 12, 20), rng.integers(10, 80, 20)
        found = np.array(shrink(rng.binomial(totals, rates).tolist(), totals.tolist()))
        held.append((found[:, 1] <= rates) & (rates <= found[:, 2]))
    assert 0.92 <= np.mean(held) <= 0.98


def test_calls_to_hear_do_not_depend_on_order_and_the_random_ones_ignore_the_scores() -> None:
    scores = [call(i) for i in range(60)]
    found = to_hear(scores)
    again = to_hear(scores[::-1])
    assert {kind: [s.info.call_id for s in v] for kind, v in found.items()} == {kind: [s.info.call_id for s in v] for kind, v in again.items()}
    assert [len(found[kind]) for kind in ("worst", "unsure", "random")] == [4, 3, 3]
    assert not {s.info.call_id for s in found["worst"]} & {s.info.call_id for s in found["unsure"]}
    other = to_hear([call(i, courtesy=builders.judgement("courtesy", "courteous")) for i in range(60)])
    assert [s.info.call_id for s in other["random"]] == [s.info.call_id for s in found["random"]]


def test_every_call_is_drawn_equally_often() -> None:
    # The lot depends on the id alone: over many disjoint sets of ten calls, each place must come first about a tenth of the time.
    firsts = [int(to_hear([builders.score(f"{n}-{i}") for i in range(10)])["random"][0].info.call_id.split("-")[1]) for n in range(300)]
    assert all(15 <= firsts.count(place) <= 48 for place in range(10))


@pytest.mark.parametrize(
    ("times", "zone", "shown"),
    [
        ([datetime(2026, 3, 2, 12, tzinfo=timezone(timedelta(hours=2)))], "UTC+02:00", "2026-03-02 12:00"),
        ([datetime(2026, 3, 2, 12, tzinfo=timezone(timedelta(hours=2))), builders.NOON], "UTC", "2026-03-02 10:00"),
        ([builders.NOON], "UTC", "2026-03-02 12:00"),
        ([None], "UTC", "no date"),
    ],
)
def test_times_are_shown_in_one_zone(times: list[datetime | None], zone: str, shown: str) -> None:
    found = clock([builders.score(started_at=when) for when in times])
    assert (found.zone, found.show(times[0])) == (zone, shown)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.27), "27 %"),
        (percent(0.056, 0.038, 0.082), "5.6 % (3.8 to 8.2)"),
        (percent(0.0, 0.0, 0.3), "0 % (0 to 30)"),
        (measured("risk_difference", 0.14, -0.0501, 0.3), "+14.0 (−5.0 to +30.0)"),
        (measured("hazard_ratio", 1.5, 1.1, 2.0), "1.50 (1.10 to 2.00)"),
        (measured("amount_difference", -12.3, -20, -0.001), "−12.30 (−20.00 to 0.00)"),
    ],
)
def test_numbers_in_words(shown: str, expected: str) -> None:
    assert shown == expected
