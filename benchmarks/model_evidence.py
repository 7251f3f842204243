"""Whether the turns shown as evidence are the raters', and whether they carry the answer: the deletion test.

    python benchmarks/model_evidence.py dev.jsonl [--model default] [--draws 5]

Of the questions whose raters named turns: how often one of the two heaviest turns of a score is among them. Of all questions answered: how far the
probability of the top label falls when those two turns are cut out of the call, beside two turns drawn at random from those the question is asked of.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from figures import Call, Row, call_of, read_rows

from analyzer.agreement import bootstrap
from analyzer.model import ConversationModel, load_model
from analyzer.records import DIMENSIONS, CallInfo, CallScore, Transcript
from analyzer.scoring import score

TOP = 2
CLOSING_TURNS = 5


def asked_of(call: Call, question: str) -> list[int]:
    """The turns that can carry an answer by the codebook: the agent's, all, the customer's last."""
    if question == "resolution":
        return list(range(len(call)))
    side = "agent" if question == "courtesy" else "customer"
    turns = [number for number, turn in enumerate(call) if turn.speaker == side]
    return turns[-CLOSING_TURNS:] if question == "closing" else turns


def without(transcript: Transcript, gone: Sequence[int]) -> Transcript:
    return Transcript(info=transcript.info, turns=tuple(turn for number, turn in enumerate(transcript.turns) if number not in gone))


def falls(model: ConversationModel, calls: Sequence[CallScore], question: str, draws: int) -> list[tuple[float, float]]:
    """Per call the fall of the top label's probability without its two heaviest turns, and the mean fall without two random ones."""
    rng = random.Random(0)
    cut: list[Transcript] = []
    tops = []
    for call in calls:
        assert call.transcript is not None
        pool = asked_of(call.transcript.turns, question)
        judgement = call.judgement(question)
        heaviest = [one.turn for one in judgement.evidence[:TOP]]
        if not heaviest or len(pool) <= TOP:
            continue
        tops.append(max(judgement.probabilities.items(), key=lambda item: item[1]))
        cut.append(without(call.transcript, heaviest))
        cut += [without(call.transcript, rng.sample(pool, len(heaviest))) for _ in range(draws)]
    left = [reading.probabilities[question] for reading in model.read(cut)]
    out = []
    for number, (label, p) in enumerate(tops):
        mine, *random_ones = (p - one[label] for one in left[number * (draws + 1) : (number + 1) * (draws + 1)])
        out.append((mine, float(np.mean(random_ones))))
    return out


def hits(rows: Sequence[Row], calls: Sequence[CallScore], question: str) -> list[bool]:
    named = [(row["evidence"].get(question), call) for row, call in zip(rows, calls, strict=True) if question not in row.get("disputed", ())]
    return [bool({one.turn for one in call.judgement(question).evidence[:TOP]} & set(turns)) for turns, call in named if turns]


def say(name: str, values: Sequence[float]) -> None:
    array = np.array(values, dtype=np.float64)
    found = bootstrap(lambda rows: {"": float(array[rows].mean())}, [str(number) for number in range(len(array))])[""]
    low, high = (float("nan") if bound is None else bound for bound in (found.low, found.high))
    print(f"{name}: {found.value:.3f} ({low:.3f} to {high:.3f}), {len(array)} answers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="labelled calls with evidence (.jsonl)")
    parser.add_argument("--model", default="default")
    parser.add_argument("--draws", type=int, default=5, help="random deletions per call")
    given = parser.parse_args()
    rows = read_rows(given.labels)
    model = load_model(given.model)
    calls = score([Transcript(info=CallInfo(call_id=row["id"]), turns=call_of(row)) for row in rows], model)
    print(model.stamp)
    for question in DIMENSIONS:
        say(f"{question}: one of the top {TOP} turns is a rater's", hits(rows, calls, question))
        pairs = falls(model, calls, question, given.draws)
        say(f"{question}: fall without the top {TOP}", [mine for mine, _ in pairs])
        say(f"{question}: fall without {TOP} at random", [other for _, other in pairs])
        say(f"{question}: the first larger", [mine > other for mine, other in pairs])


if __name__ == "__main__":
    main()
