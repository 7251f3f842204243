"""Labels are read strictly; figures agree with scikit-learn, statsmodels and hand-worked tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, precision_recall_fscore_support, roc_auc_score

from analyzer.agreement import auc, bootstrap, expected_calibration_error, gwet_ac1, mean_of_top, precision_at_recall
from analyzer.errors import TableError
from analyzer.evaluation import Prediction, by_group, evaluate, retrieve
from analyzer.labels import LabelledCall, read_labels
from analyzer.records import LABELS
from tests.builders import transcript

TURNS = [{"speaker": "agent", "text": "Hello."}, {"speaker": "customer", "text": "Hi."}]
CALL = {"id": "c-1", "turns": TURNS, "labels": {"courtesy": "neutral", "closing": "singing"}}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def test_both_forms_of_labels_are_read_alike(tmp_path: Path) -> None:
    together = {
        "id": "c-1",
        "turns": TURNS,
        "labels": {"courtesy": "neutral", "resolution": "unresolved", "cause": "policy"},
        "evidence": {"courtesy": [0], "resolution": [1]},
        "disputed": ["resolution"],
        "ratings": [{"courtesy": "neutral"}, {"courtesy": "courteous"}],
    }
    codebook = {
        "id": "c-2",
        "turns": TURNS,
        "courtesy": {"label": "neutral", "turns": [0], "confidence": 3},
        "resolution": {"label": "unresolved", "turns": [1], "confidence": 2, "need": "a refund", "cause": "policy"},
    }
    first, second = read_labels(write(tmp_path / "labels.jsonl", together, "", codebook))
    assert first.labels == second.labels == {"courtesy": "neutral", "resolution": "unresolved"}
    assert first.cause == second.cause == "policy"
    assert first.evidence == second.evidence == {"courtesy": (0,), "resolution": (1,)}
    assert first.disputed == {"resolution"}
    assert [rating["courtesy"] for rating in first.ratings] == ["neutral", "courteous"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not JSON"),
        (CALL | {"labels": {"courtesy": "rude"}}, "unknown courtesy label 'rude'"),
        (CALL | {"labels": {"courtsey": "neutral"}}, "unknown dimension 'courtsey'"),
        (CALL | {"labels": {}}, "no dimension is labelled"),
        (CALL | {"labels": ["neutral"]}, "'labels' must be an object"),
        (CALL | {"labels": {"resolution": "partial", "cause": "weather"}}, "unknown cause label 'weather'"),
        (CALL | {"evidence": {"courtesy": [2]}}, "names a turn that is not there"),
        (CALL | {"disputed": ["mood"]}, "'ratings' or 'disputed'"),
        (CALL | {"disputed": [["closing"]]}, "'ratings' or 'disputed'"),
        (CALL | {"pair": 7}, "'pair' must be text"),
        (CALL | {"turns": []}, "there are no turns"),
        ({"id": "c-9", "turns": TURNS}, "no dimension is labelled"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path / "labels.jsonl", CALL, row if isinstance(row, str) else row | {"id": "c-2"})
    with pytest.raises(TableError, match="line 2") as caught:
        read_labels(path)
    assert message in str(caught.value)


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    for path, message in (
        (write(tmp_path / "twice.jsonl", CALL, CALL), "stands twice"),
        (write(tmp_path / "empty.jsonl"), "no labelled calls"),
        (write(tmp_path / "labels.xlsx", CALL), "are not read"),
        (tmp_path / "absent.jsonl", "cannot be read"),
    ):
        with pytest.raises(TableError, match=message):
            read_labels(path)


def test_versions_of_a_call_and_legs_of_a_contact_are_one_conversation(tmp_path: Path) -> None:
    rows = ({"pair": "p-1"}, {"pair": "p-1"}, {"contact_id": "x-1"}, {})
    calls = read_labels(write(tmp_path / "labels.jsonl", *(CALL | row | {"id": f"c-{n}"} for n, row in enumerate(rows))))
    assert [call.pair for call in calls] == ["p-1", "p-1", None, None]
    assert [call.conversation for call in calls] == ["p-1", "p-1", "x-1", "c-3"]


def table(folder: Path, text: str, **files: str) -> Path:
    """A CSV of labels with two transcripts beside it: `a.json`, and `more.jsonl` of the calls c-2 and c-3."""
    (folder / "a.json").write_text(json.dumps({"turns": TURNS, "queue": "billing"}), encoding="utf-8")
    write(folder / "more.jsonl", *({"call_id": name, "turns": TURNS} for name in ("c-2", "c-3")))
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_holds_a_rating_a_row(tmp_path: Path) -> None:
    text = """call_id,rater,courtesy,resolution,cause,closing,courtesy_turns,transcript,pair,region,agent_id
c-1,Ann,neutral,unresolved,policy,singing,0,a.json,p-1,north,a7
c-2,Ann,neutral,,,neutral,,more.jsonl,,south,a8

c-1,Ben,courteous,unresolved,agent,singing,1,,,,
c-1,Cy,courteous,unresolved,agent,grumbling,"0, 1",,,,
"""
    one, two = read_labels(table(tmp_path, text))
    assert one.labels == {"courtesy": "courteous", "resolution": "unresolved", "closing": "singing"}
    assert (one.cause, one.evidence["courtesy"], one.pair, one.disputed) == ("agent", (0, 1), "p-1", frozenset())
    assert [rating["courtesy"] for rating in one.ratings] == ["neutral", "courteous", "courteous"]
    info = one.transcript.info
    assert (info.call_id, info.queue, info.agent_id, info.covariates) == ("c-1", "billing", "a7", {"region": "north"})
    assert (two.labels, two.ratings, two.transcript.info.call_id) == ({"courtesy": "neutral", "closing": "neutral"}, (), "c-2")


def test_raters_without_a_majority_dispute_and_keep_their_order(tmp_path: Path) -> None:
    text = "call_id,rater,closing,transcript\nc-2,Ann,neutral,more.jsonl\nc-2,Ben,singing,\nc-3,Ben,neutral,more.jsonl\nc-3,Ann,grumbling,\n"
    two, three = read_labels(table(tmp_path, text))
    assert two.disputed == three.disputed == {"closing"}
    assert [rating["closing"] for rating in three.ratings] == ["grumbling", "neutral"]  # Ann first, as in the other call


def test_a_folder_of_transcripts_is_searched_by_call_id(tmp_path: Path) -> None:
    (tmp_path / "calls" / "2026").mkdir(parents=True)
    path = table(tmp_path, "call_id,closing\nc-2,neutral\nb,singing\n")
    (tmp_path / "more.jsonl").rename(tmp_path / "calls" / "more.jsonl")
    (tmp_path / "calls" / "2026" / "b.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:02.000\n<v Agent>Hello.\n", encoding="utf-8")
    assert [call.transcript.info.call_id for call in read_labels(path, tmp_path / "calls")] == ["c-2", "b"]
    with pytest.raises(TableError, match="line 2: call 'c-2' has no transcript"):
        read_labels(path)
    with pytest.raises(TableError, match="no transcript of call 'c-2' below"):
        read_labels(path, tmp_path / "calls" / "2026")


HEAD = "call_id,rater,courtesy,resolution,cause,closing,closing_turns,transcript"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("call_id;closing\nc-1;neutral\n", 1, "no column 'call_id'"),
        ("call_id,closing,closing\n", 1, "'closing' stands twice"),
        ("call_id,closing,evidence\n", 1, "'evidence' is named like a part"),
        ("call_id,closing,closing_turn\n", 1, "Did you mean 'closing_turns'"),
        (f"{HEAD}\nc-1,,,,,Neutral,,a.json\n", 2, "unknown closing label 'Neutral'"),
        (f"{HEAD}\nc-1,,,,,neutral,,a.json\nc-2,,,partial,weather,,,more.jsonl\n", 3, "unknown cause label 'weather'"),
        (f"{HEAD}\nc-1,,,,,neutral,,a.json\n,,,,,neutral,,a.json\n", 3, "call_id is empty"),
        (f"{HEAD}\nc-1,,,,,,,a.json\n", 2, "no dimension is labelled"),
        (f"{HEAD}\nc-1,,,,,neutral,,a.json,\n", 2, "9 cells under 8 columns"),
        (f"{HEAD}\nc-1,,,,,neutral,last,a.json\n", 2, "something else than turn numbers"),
        (f"{HEAD}\nc-1,,,,,neutral,0 2,a.json\n", 2, "turn 2, which is not there"),
        (f"{HEAD}\nc-1,Ann,,,,neutral,,a.json\nc-1,Ann,,,,singing,,\n", 3, "rater 'Ann' stands twice"),
        (f"{HEAD}\nc-1,Ann,,,,neutral,,a.json\nc-1,Ben,,,,neutral,,more.jsonl\n", 3, "transcript is 'more.jsonl' here"),
        (f"{HEAD}\nc-1,,,,,neutral,,gone.json\n", 2, "no such file"),
        (f"{HEAD}\nc-9,,,,,neutral,,more.jsonl\n", 2, "none of them 'c-9'"),
        (f"{HEAD}\n", None, "no labelled calls"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    with pytest.raises(TableError) as caught:
        read_labels(table(tmp_path, text))
    assert message in str(caught.value)
    assert line is None or f"line {line}" in str(caught.value)


def pairs(
    truth: list[str], made: list[dict[str, float]], dimension: str = "closing", **fields: Any
) -> tuple[list[LabelledCall], list[dict[str, Prediction]]]:
    calls = [LabelledCall(transcript=transcript(call_id=f"c-{n}"), labels={dimension: label}, **fields) for n, label in enumerate(truth)]
    return calls, [{dimension: Prediction(probabilities=one)} for one in made]


def sure(label: str, dimension: str = "closing", p: float = 0.9) -> dict[str, float]:
    rest = (1 - p) / (len(LABELS[dimension]) - 1)
    return {name: p if name == label else rest for name in LABELS[dimension]}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LABELS["closing"]), st.sampled_from(LABELS["closing"])), min_size=8, max_size=40))
def test_figures_are_those_of_scikit_learn(said: list[tuple[str, str]]) -> None:
    truth, best = [a for a, _ in said], [b for _, b in said]
    calls, made = pairs(truth, [sure(label) for label in best])
    figures = evaluate(calls, made, resamples=5)["closing"].figures
    assert figures["accuracy"].value == pytest.approx(accuracy_score(truth, best))
    assert figures["macro_f1"].value == pytest.approx(f1_score(truth, best, average="macro"))
    if len(set(truth) | set(best)) > 1:
        order = [LABELS["closing"].index(label) for label in truth], [LABELS["closing"].index(label) for label in best]
        assert figures["kappa"].value == pytest.approx(cohen_kappa_score(truth, best))
        assert figures["weighted_kappa"].value == pytest.approx(cohen_kappa_score(*order, weights="quadratic", labels=[0, 1, 2]))


def test_gwets_ac1_stays_high_where_kappa_collapses() -> None:
    # 118 of 125 agree, nearly all on one label. By hand: p = 0.944; q = (0.028, 0.972), e = 2 * 0.028 * 0.972 = 0.054432.
    rater = np.array([0] * 118 + [0] * 3 + [1] * 4)
    other = np.array([0] * 118 + [1] * 3 + [0] * 4)
    assert gwet_ac1(rater, other, 2) == pytest.approx((0.944 - 0.054432) / (1 - 0.054432))
    assert cohen_kappa_score(rater, other) < 0


def test_calibration_error_by_hand() -> None:
    made = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.65, 0.35]])
    truth = np.array([0, 1, 0, 0])
    assert expected_calibration_error(made, truth) == pytest.approx(0.5 * 0.45 + 0.5 * 0.35)


def test_brier_by_hand() -> None:
    calls, made = pairs(["singing"], [{"grumbling": 0.1, "neutral": 0.2, "singing": 0.7}])
    assert evaluate(calls, made, resamples=3)["closing"].figures["brier"].value == pytest.approx(0.01 + 0.04 + 0.09)


def test_disputed_and_unlabelled_are_left_out_and_the_ceiling_is_the_raters_own() -> None:
    ratings = ({"closing": "neutral"}, {"closing": "neutral"})
    calls, made = pairs(["neutral", "singing", "neutral"], [sure("neutral"), sure("singing"), sure("grumbling")], ratings=ratings)
    calls[2] = LabelledCall(transcript=calls[2].transcript, labels=calls[2].labels, disputed=frozenset({"closing"}))
    calls[1] = LabelledCall(transcript=calls[1].transcript, labels=calls[1].labels, ratings=({"closing": "singing"}, {"closing": "singing"}))
    found = evaluate(calls, made, resamples=10)
    assert set(found) == {"closing"}
    assert found["closing"].n == 2
    assert found["closing"].figures["accuracy"].value == 1.0
    assert found["closing"].ceiling == 1.0


def test_abstentions_are_counted_and_leave_the_answered_accuracy() -> None:
    calls, made = pairs(["neutral", "singing"], [sure("neutral"), sure("grumbling")])
    made[1] = {"closing": Prediction(probabilities=sure("grumbling"), abstained=True)}
    found = evaluate(calls, made, resamples=10)["closing"]
    assert (found.abstained_share, found.selective["accuracy_answered"].value, found.figures["accuracy"].value) == (0.5, 1.0, 0.5)
    assert found.selective["accuracy_at_50"].value == 1.0  # the abstention goes last, as sure as it is
    assert found.confusion["singing"] == {"grumbling": 1, "neutral": 0, "singing": 0}


def test_intervals_hold_the_figure_and_narrow_with_more_calls() -> None:
    def width(n: int) -> float:
        calls, made = pairs((["neutral", "singing"] * n)[:n], ([sure("neutral"), sure("singing"), sure("singing")] * n)[:n])
        interval = evaluate(calls, made, resamples=200)["closing"].figures["accuracy"]
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low <= interval.value <= interval.high
        return interval.high - interval.low

    assert width(240) < width(24)


def test_unclear_stands_outside_the_order_of_the_resolution() -> None:
    truth = ["resolved", "partial", "unresolved", "unclear"]
    calls, made = pairs(truth, [sure(label, "resolution") for label in ("resolved", "partial", "unresolved", "resolved")], "resolution")
    assert evaluate(calls, made, resamples=3)["resolution"].figures["weighted_kappa"].value == pytest.approx(1.0)


def test_nothing_to_compare_is_an_error() -> None:
    calls, _ = pairs(["neutral"], [sure("neutral")])
    with pytest.raises(TableError, match="no label can be compared"):
        evaluate(calls, [{}])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LABELS["closing"]), st.integers(0, 10), st.integers(0, 10), st.integers(0, 10)), min_size=6, max_size=40))
def test_figures_of_labels_are_those_of_scikit_learn(said: list[tuple[str, int, int, int]]) -> None:
    names = LABELS["closing"]
    rows = [np.array([a + 0.01, b + 0.02, c + 0.03]) for _, a, b, c in said]
    calls, made = pairs([label for label, *_ in said], [dict(zip(names, (row / row.sum()).tolist(), strict=True)) for row in rows])
    found = evaluate(calls, made, resamples=3)["closing"]
    truth, best = [names.index(label) for label, *_ in said], [int(row.argmax()) for row in rows]
    precision, recall, f1, support = precision_recall_fscore_support(truth, best, labels=[0, 1, 2], zero_division=np.nan)
    for number, label in enumerate(names):
        for name, value in (("precision", precision[number]), ("recall", recall[number]), ("f1", f1[number])):
            held = found.by_label[label].get(name)
            assert (held is None and np.isnan(value)) or (held is not None and held.value == pytest.approx(value))
        assert found.support[label] == found.per_label[label]["support"] == support[number]
        positive = np.array(truth) == number
        if 0 < positive.sum() < len(truth):
            expected = roc_auc_score(positive, [row[number] / row.sum() for row in rows])
            assert found.by_label[label]["auc"].value == pytest.approx(expected)
        else:
            assert "auc" not in found.by_label[label]


def test_every_figure_has_an_interval_that_holds_it() -> None:
    rng = np.random.default_rng(1)
    truth = [LABELS["closing"][n] for n in rng.integers(0, 3, 90)]
    made = [sure(label if rng.random() < 0.7 else LABELS["closing"][rng.integers(0, 3)], p=0.5 + 0.4 * rng.random()) for label in truth]
    ratings = [({"closing": label}, {"closing": label if rng.random() < 0.8 else "neutral"}) for label in truth]
    calls, predictions = pairs(truth, made)
    calls = [LabelledCall(transcript=c.transcript, labels=c.labels, ratings=r) for c, r in zip(calls, ratings, strict=True)]
    found = evaluate(calls, predictions, resamples=300)["closing"]
    groups = {"figures": found.figures, "selective": found.selective, "raters": found.raters, **found.by_label}
    assert {"accuracy", "macro_f1", "kappa", "weighted_kappa", "ac1", "auc", "brier", "ece"} <= set(found.figures)
    assert set(found.raters) == {"kappa", "ac1", "score_kappa", "score_ac1"}
    for part, figures in groups.items():
        for name, one in figures.items():
            assert one.low is not None, (part, name)
            assert one.high is not None, (part, name)
            assert one.low < one.high, (part, name)
            if name != "ece":  # resampling adds scatter, and scatter adds calibration error
                assert one.low <= one.value <= one.high, (part, name)


def test_the_bootstrap_draws_whole_conversations() -> None:
    values = np.array([0.0, 1.0] * 50)

    def width(units: list[str]) -> float:
        one = bootstrap(lambda rows: {"mean": float(values[rows].mean())}, units, resamples=200)["mean"]
        assert one.low is not None
        assert one.high is not None
        return one.high - one.low

    assert width([f"pair {n // 2}" for n in range(100)]) == 0.0  # each pair holds a 0 and a 1
    assert width([f"call {n}" for n in range(100)]) == pytest.approx(2 * 1.96 * 0.05, rel=0.25)


def test_the_surest_calls_come_first_and_ties_share_the_last_places() -> None:
    truth = ["singing"] * 8 + ["neutral"] * 2
    calls, made = pairs(truth, [sure("singing", p=0.9)] * 8 + [sure("singing", p=0.6)] * 2)
    found = evaluate(calls, made, resamples=20)["closing"].selective
    assert [found[f"accuracy_at_{share}"].value for share in (100, 90, 80, 70, 50)] == pytest.approx([0.8, 8 / 9, 1.0, 1.0, 1.0])
    assert found["gain_at_80"].value == pytest.approx(0.2)
    assert mean_of_top(np.array([1.0, 0.0, 0.0]), np.array([0.5, 0.5, 0.1]), 1) == 0.5


def test_evidence_counts_the_top_two_turns_against_the_raters() -> None:
    said = [("agent", "a"), ("customer", "b"), ("agent", "c"), ("agent", "d"), ("agent", "e")]
    labelled = [
        LabelledCall(transcript=transcript(*said, call_id=f"c-{n}"), labels={"courtesy": "neutral"}, evidence={"courtesy": turns})
        for n, turns in enumerate([(2,), (2,), (2,), ()])
    ]
    made = [{"courtesy": Prediction(probabilities=sure("neutral", "courtesy"), evidence=turns)} for turns in [(0, 2), (0, 3, 2), (), (0,)]]
    figures = evaluate(labelled, made, resamples=5)["courtesy"].figures
    assert figures["evidence_hit"].value == pytest.approx(1 / 3)  # the third turn does not count; no turn is a miss; no rater's turn, no question
    assert figures["evidence_chance"].value == pytest.approx(0.5)  # two of the agent's four turns
    bare = [{"courtesy": Prediction(probabilities=sure("neutral", "courtesy"))}] * 4
    assert "evidence_hit" not in evaluate(labelled, bare, resamples=5)["courtesy"].figures


def test_wrong_cells_name_their_calls() -> None:
    calls, made = pairs(["singing", "neutral", "singing"], [sure("neutral"), sure("neutral"), sure("neutral")])
    found = evaluate(calls, made, resamples=2)["closing"]
    assert found.wrong_calls == {"grumbling": {}, "neutral": {}, "singing": {"neutral": ("c-0", "c-2")}}
    assert found.confusion["singing"] == {"grumbling": 0, "neutral": 2, "singing": 0}


def test_the_ceiling_counts_disputed_calls_too() -> None:
    ratings = [("neutral", "neutral"), ("singing", "singing"), ("neutral", "singing"), ("singing", "singing")]
    calls, made = pairs(["neutral", "singing", "neutral", "singing"], [sure(label) for label in ("neutral", "singing", "neutral", "neutral")])
    calls = [
        LabelledCall(
            transcript=call.transcript,
            labels=call.labels,
            ratings=tuple({"closing": label} for label in both),
            disputed=frozenset({"closing"} if both[0] != both[1] else ()),
        )
        for call, both in zip(calls, ratings, strict=True)
    ]
    found = evaluate(calls, made, resamples=20)["closing"]
    assert (found.n, found.rated_twice) == (3, 4)
    assert found.ceiling == pytest.approx(cohen_kappa_score(*zip(*ratings, strict=True)))
    best = ["neutral", "singing", "neutral", "neutral"]
    sides = [cohen_kappa_score([pair[side] for pair in ratings], best) for side in (0, 1)]
    assert found.raters["score_kappa"].value == pytest.approx(sum(sides) / 2)


def test_retrieval_by_hand() -> None:
    # Ten calls, four bad. The score's two worst hold one bad call; the second bad one comes third.
    bad = [True, False, True, False, False, True, False, False, True, False]
    calls, made = pairs(["grumbling" if one else "neutral" for one in bad], [sure("grumbling", p=0.95 - 0.05 * n) for n in range(10)])
    found = retrieve(calls, made, resamples=20)
    assert found is not None
    assert (found.n, found.bad, found.listened) == (10, 4, 2)
    expected = {"precision": 0.5, "recall": 0.25, "most_recall": 0.5, "lift": 1.25, "precision_at_recall_50": 2 / 3, "prevalence": 0.4}
    assert {name: one.value for name, one in found.figures.items()} == pytest.approx(expected)
    assert retrieve(calls, made, at_least=2, resamples=20) is None


def test_a_call_is_as_bad_as_it_has_worst_labels() -> None:
    said = [("discourteous", "grumbling"), ("discourteous", "neutral"), ("neutral", "neutral"), ("neutral", "neutral"), ("neutral", "grumbling")]
    calls = [LabelledCall(transcript=transcript(call_id=f"c-{n}"), labels={"courtesy": a, "closing": b}) for n, (a, b) in enumerate(said)]
    made = [{"courtesy": Prediction(probabilities=sure(a, "courtesy")), "closing": Prediction(probabilities=sure(b))} for a, b in said]
    both, either = retrieve(calls, made, at_least=2, resamples=5), retrieve(calls, made, resamples=5)
    assert both is not None
    assert either is not None
    assert (both.bad, either.bad) == (1, 3)
    assert both.figures["lift"].value == pytest.approx(5.0)
    part = [LabelledCall(transcript=calls[0].transcript, labels={"closing": "grumbling"}), *calls[1:]]
    fewer = retrieve(part, made, resamples=5)
    assert fewer is not None
    assert fewer.n == 4  # a call that is not rated on every dimension is left out


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_ranking_figures_do_not_depend_on_the_order_of_ties(rows: list[tuple[bool, int]], random: Any) -> None:
    def figures(given: list[tuple[bool, int]]) -> list[float]:
        relevant, score = np.array([a for a, _ in given]), np.array([b for _, b in given], dtype=float)
        return [mean_of_top(relevant.astype(float), score, 1 + len(given) // 3), precision_at_recall(relevant, score, 0.5), auc(relevant, score)]

    before = figures(rows)
    random.shuffle(rows)
    assert figures(rows) == pytest.approx(before, nan_ok=True)


def test_groups_are_judged_from_ten_calls_on() -> None:
    truth = ["singing"] * 30
    calls, made = pairs(truth, [sure("singing")] * 12 + [sure("neutral")] * 6 + [sure("singing")] * 12)
    places = ["north"] * 12 + ["south"] * 12 + ["east"] * 5 + [""]
    calls = [
        LabelledCall(transcript=transcript(call_id=f"c-{n}", covariates={"region": place}), labels=c.labels)
        for n, (c, place) in enumerate(zip(calls, places, strict=True))
    ]
    found = {one.group: one for one in by_group(calls, made, "region", resamples=50)}
    assert {name: one.n for name, one in found.items()} == {"north": 12, "south": 12, "east": 5, "(none)": 1}
    assert {name for name, one in found.items() if one.figures} == {"north", "south"}
    assert found["south"].figures["error_rate"].value == pytest.approx(0.5)
    assert found["south"].figures["error_gap"].value == pytest.approx(0.5)
    assert found["north"].figures["macro_f1"].value == 1.0
    with pytest.raises(TableError, match=r"no call has 'team'\. The calls have region"):
        by_group(calls, made, "team")
