"""How far agreement falls when words are misheard, lost and doubled and there is no punctuation.

    python benchmarks/model_word_errors.py dev.jsonl [--model default] [--errors 0.2] [--draws 3]

The words go wrong as `augmentation.speech_shaped` has it, with the mishearings of a real recogniser; the word error rate that comes of it is counted
against the same words in lower case without punctuation. Labels are taken to be as common as in training.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from figures import AS_TRAINED, Answer, Call, Row, call_of, model_predictor, own_calls, read_rows
from verify_whisper import errors as words_wrong

from analyzer.augmentation import speech_shaped
from analyzer.model import load_model
from analyzer.records import DIMENSIONS


def plain_words(text: str) -> list[str]:
    return re.sub(r"[^\w\s'\[\]]", " ", text.replace("\u2019", "'").lower()).split()


def misheard(call: Call, errors: float, key: str) -> Call:
    return tuple(dataclasses.replace(turn, text=speech_shaped(turn.text, errors=errors, key=key)) for turn in call)


def error_rate(said: Sequence[Call], heard: Sequence[Call]) -> float:
    pairs = [(plain_words(a.text), plain_words(b.text)) for one, other in zip(said, heard, strict=True) for a, b in zip(one, other, strict=True)]
    return sum(words_wrong(a, b) for a, b in pairs) / sum(len(a) for a, _ in pairs)


def macro_f1s(rows: Sequence[Row], answers: Sequence[Answer]) -> dict[str, float]:
    found = {figure.name: figure.value for figure in own_calls(rows, answers)}
    return {question: found[f"own {question} macro-F1"] for question in DIMENSIONS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="labelled calls to measure on (.jsonl)")
    parser.add_argument("--model", default="default")
    parser.add_argument("--errors", type=float, default=0.2, help="share of words to go wrong")
    parser.add_argument("--draws", type=int, default=3, help="how often to draw which")
    given = parser.parse_args()
    rows = read_rows(given.labels)
    model = load_model(given.model)
    predict = model_predictor(model, AS_TRAINED)
    calls = [call_of(row) for row in rows]
    print(f"{model.stamp}, {len(calls)} calls")
    before = macro_f1s(rows, predict(calls))
    after, rates = [], []
    for draw in range(given.draws):
        heard = [misheard(call, given.errors, f"word errors {draw}") for call in calls]
        rates.append(error_rate(calls, heard))
        after.append(macro_f1s(rows, predict(heard)))
    print(f"word error rate {np.mean(rates):.3f} (asked for {given.errors:.2f}), {given.draws} draws")
    for question, as_written in before.items():
        low, mean, high = (f([one[question] for one in after]) for f in (min, np.mean, max))
        print(f"{question}: macro-F1 {as_written:.3f} as written, {mean:.3f} ({low:.3f} to {high:.3f}) misheard: {mean - as_written:+.3f}")


if __name__ == "__main__":
    main()
