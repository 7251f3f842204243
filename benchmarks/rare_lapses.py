"""How far a rare `discourteous` can be believed: precision where one call in a hundred holds a lapse, over all thresholds, and the recall it costs.

    python benchmarks/rare_lapses.py --positives dev.jsonl --negatives BT_dev.jsonl.xz [--model default] [--prevalence 0.01] [--precision 0.8]

Recall comes from the calls rated discourteous in --positives; false alarms from all others of --negatives and the plain neutral ones of --positives.
At prevalence q, precision = q R / (q R + (1 - q) F), R the recall and F the false-alarm rate (Bayes). Its lower 95 % limit takes F at its upper
Clopper-Pearson limit: no false alarm among n calls still allows F up to about 3 / n.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from figures import Predictor, Row, call_of, load_predictor, read_rows
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

#: Of the project's own calls, those whose wording is plainest.
PLAIN_BATCHES = ("a11", "a12")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a threshold on p(discourteous) gives; `low` is the lower 95 % limit of the precision."""

    threshold: float
    recall: float
    alarms: int
    precision: float
    low: float


def points(positive: NDArray[np.float64], negative: NDArray[np.float64], prevalence: float) -> list[Point]:
    """A point per probability that occurs, the least first; a call is called discourteous from the threshold up."""
    out = []
    for threshold in np.unique(np.concatenate([positive, negative])):
        recall, alarms = float((positive >= threshold).mean()), int((negative >= threshold).sum())
        if not recall:
            break
        # A one-sided 95 % limit is the upper end of a two-sided 90 % interval.
        _, most = proportion_confint(alarms, len(negative), alpha=0.10, method="beta")
        precision, low = (prevalence * recall / (prevalence * recall + (1 - prevalence) * rate) for rate in (alarms / len(negative), float(most)))
        out.append(Point(threshold=float(threshold), recall=recall, alarms=alarms, precision=precision, low=low))
    return out


def lapse_probabilities(predict: Predictor, rows: Sequence[Row]) -> NDArray[np.float64]:
    answers = predict([call_of(row) for row in rows])
    return np.array([0.0 if "courtesy" in answer.abstained else answer.probabilities["courtesy"]["discourteous"] for answer in answers])


def is_lapse(row: Row) -> bool:
    return bool(row["labels"]["courtesy"] == "discourteous")


def enough(prevalence: float, precision: float, recall: float) -> int:
    """How many negatives without a false alarm it takes for the lower limit to reach the precision."""
    rate = prevalence * recall * (1 - precision) / (precision * (1 - prevalence))
    return int(np.ceil(np.log(0.05) / np.log1p(-rate)))


def show(point: Point, name: str, positives: int) -> None:
    low, high = proportion_confint(round(point.recall * positives), positives, method="wilson")
    print(f"{name}: threshold {point.threshold:.4f}: precision {point.precision:.3f} (at least {point.low:.3f}), {point.alarms} false alarms,")
    print(f"  recall {point.recall:.3f} ({low:.3f} to {high:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positives", type=Path, required=True, help="labelled calls (.jsonl)")
    parser.add_argument("--negatives", type=Path, nargs="+", required=True, help="real calls rated for courtesy (.jsonl.xz)")
    parser.add_argument("--model", default="default")
    parser.add_argument("--prevalence", type=float, default=0.01)
    parser.add_argument("--precision", type=float, default=0.8)
    parser.add_argument("--threshold", type=float, action="append", default=[], help="also show this threshold, the shipped one say")
    given = parser.parse_args()
    own = [row for row in read_rows(given.positives) if "courtesy" not in row.get("disputed", ())]
    real = [row for path in given.negatives for row in read_rows(path) if not is_lapse(row)]
    plain = [row for row in own if row["labels"]["courtesy"] == "neutral" and row.get("batch") in PLAIN_BATCHES]
    predict = load_predictor(given.model)
    positive, negative = (lapse_probabilities(predict, rows) for rows in ([row for row in own if is_lapse(row)], real + plain))
    print(
        f"{len(positive)} discourteous calls; {len(negative)} others: {len(real)} real, {len(plain)} plain of our own; prevalence {given.prevalence}"
    )
    table = points(positive, negative, given.prevalence)
    print("threshold  recall  false alarms  precision  lower limit")
    for point in table:
        print(f"{point.threshold:9.4f}  {point.recall:6.3f}  {point.alarms:12}  {point.precision:9.3f}  {point.low:11.3f}")
    for threshold in given.threshold:
        if above := [point for point in table if point.threshold >= threshold]:
            show(above[0], f"asked for, {threshold}", len(positive))
        else:
            print(f"asked for, {threshold}: nothing is called discourteous")
    believed = [point for point in table if point.precision >= given.precision]
    if believed:
        show(believed[0], f"precision {given.precision}", len(positive))
        need = enough(given.prevalence, given.precision, believed[0].recall)
        print(f"At this recall the lower limit reaches {given.precision} from {need} negatives without a false alarm on; here are {len(negative)}.")
    else:
        print(f"No threshold reaches precision {given.precision}: the score would have to abstain always.")


if __name__ == "__main__":
    main()
