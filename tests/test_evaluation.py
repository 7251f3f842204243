"""Labels are read strictly; figures agree with scikit-learn, statsmodels and hand-worked tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from analyzer.errors import TableError
from analyzer.evaluation import LabelledCall, Prediction, evaluate, expected_calibration_error, gwet_ac1, read_labels
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
    assert (found.abstained_share, found.answered_accuracy, found.figures["accuracy"].value) == (0.5, 1.0, 0.5)
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
