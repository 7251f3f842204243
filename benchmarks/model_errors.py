"""The calls a model is most wrong about, by the log-loss of the raters' label, with the turns that carried either answer: for an error analysis.

    python benchmarks/model_errors.py dev.jsonl [BT_dev.jsonl.xz STC3.valid.jsonl.xz] [--model default] [--most 30]

Takes calls labelled by the codebook, and helpdesk dialogues with mean ratings (`A_mean` task done, `S_mean` satisfaction) where they are a verdict.
A call counts by its worst question. Text goes to the terminal only.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import VERDICT, Answer, Row, best, call_of, done, pleased, read_rows

from analyzer.model import ConversationModel, Reading, load_model
from analyzer.records import DIMENSIONS, CallInfo, Transcript

EVIDENCE_TURNS = 3
MOST_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One question of one call: the raters' answer, the probability it was given, and what was said instead."""

    question: str
    truth: str
    p: float
    said: str

    @property
    def loss(self) -> float:
        """Negative log-likelihood of the raters' answer, in nats."""
        return -math.log(max(self.p, 1e-9))


def misses(row: Row, reading: Reading) -> Iterator[Miss]:
    """The call's rated questions, disputed ones left out."""
    labels = row["labels"]
    answer = Answer(probabilities=reading.probabilities, abstained=frozenset(reading.abstain))
    for question in DIMENSIONS:
        if question in labels and question not in row.get("disputed", ()):
            yield Miss(question=question, truth=labels[question], p=reading.probabilities[question][labels[question]], said=best(answer, question))
    for question, key, p in (("resolution", "A_mean", done(answer)), ("closing", "S_mean", pleased(answer))):
        if key in labels and abs(labels[key]) >= VERDICT:
            yes = labels[key] > 0
            yield Miss(question=question, truth=f"{key} {labels[key]:+.2f}", p=p if yes else 1 - p, said=best(answer, question))


def read(model: ConversationModel, rows: Sequence[Row]) -> list[Reading]:
    return model.read([Transcript(info=CallInfo(call_id=row["id"]), turns=call_of(row)) for row in rows])


def show(row: Row, reading: Reading, found: Sequence[Miss]) -> None:
    about = " ".join(str(row[key]) for key in ("source", "batch", "domain", "style") if key in row)
    print(f"\n=== {row['id']} ({about}, {len(row['turns'])} turns)")
    for miss in sorted(found, key=lambda miss: -miss.loss):
        probabilities = " ".join(f"{label} {p:.2f}" for label, p in reading.probabilities[miss.question].items())
        abstained = f"; abstained: {reading.abstain[miss.question]}" if miss.question in reading.abstain else ""
        print(f"{miss.question}: raters {miss.truth}, model {miss.said} (loss {miss.loss:.2f}; {probabilities}{abstained})")
        weights = reading.weights[miss.question]
        raters = [n for n in row.get("evidence", {}).get(miss.question, ()) if n < len(row["turns"])]
        model = sorted((n for n, weight in enumerate(weights) if weight > 0), key=lambda n: -weights[n])[:EVIDENCE_TURNS]
        for number in sorted({*raters, *model}):
            mark = ("R" if number in raters else " ") + ("M" if number in model else " ")
            turn = row["turns"][number]
            print(f"  {mark} {number:3} {turn['speaker']}: {turn['text'][:MOST_CHARACTERS]}")
    if row.get("doubt"):
        print(f"  raters' doubt: {row['doubt']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="rated calls (.jsonl or .jsonl.xz), taken together")
    parser.add_argument("--model", default="default")
    parser.add_argument("--most", type=int, default=30, help="how many calls")
    given = parser.parse_args()
    rows = [row for path in given.files for row in read_rows(path)]
    model = load_model(given.model)
    readings = read(model, rows)
    calls = [(row, reading, found) for row, reading in zip(rows, readings, strict=True) if (found := list(misses(row, reading)))]
    calls.sort(key=lambda call: -max(miss.loss for miss in call[2]))
    print(f"{model.stamp}: the {min(given.most, len(calls))} worst of {len(calls)} calls. Turns marked R: raters' evidence, M: the model's.")
    for row, reading, found in calls[: given.most]:
        show(row, reading, found)


if __name__ == "__main__":
    main()
