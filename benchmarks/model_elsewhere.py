"""Measures one model against people: talk from elsewhere, the project's own calls, contrast pairs. Nothing of it is trained on.

    python benchmarks/model_elsewhere.py --public FOLDER [--own dev.jsonl] [--pairs FILE ...] [--model default] [--as-trained] [--json FILE]

What each figure means stands in `figures.py`; FOLDER holds the public sets, whichever are there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from figures import AS_TRAINED, Figure, measure, model_predictor, read_sets, write_figures

from analyzer.model import load_model


def sets_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--public", type=Path, help="folder of the public sets (.jsonl.xz)")
    parser.add_argument("--own", type=Path, help="labelled calls to measure on (.jsonl)")
    parser.add_argument("--pairs", type=Path, nargs="+", default=[], help="contrast pairs (.jsonl)")


def show(figures: Sequence[Figure]) -> None:
    width = max(len(figure.name) for figure in figures)
    print(f"{'figure':{width}}  value  95 % interval      n  goal")
    for figure in figures:
        sign = "<=" if figure.small else ">="
        verdict = "" if figure.goal is None else f"{sign} {figure.goal:.2f} {'met' if figure.met else 'MISSED'}"
        print(f"{figure.name:{width}}  {figure.value:.3f}  {figure.low:.3f} to {figure.high:.3f}  {figure.n:5}  {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets_arguments(parser)
    parser.add_argument("--model", default="default")
    parser.add_argument("--as-trained", action="store_true", help="take labels to be as common as in training, not as in the field")
    parser.add_argument("--json", type=Path, help="also write the figures here, as model_table.py reads them")
    given = parser.parse_args()
    model = load_model(given.model)
    print(model.stamp)
    figures = measure(model_predictor(model, AS_TRAINED if given.as_trained else None), read_sets(given.public, given.own, given.pairs))
    if not figures:
        parser.error("there is nothing to measure on: give --public, --own or --pairs")
    show(figures)
    if given.json:
        write_figures(figures, given.json)


if __name__ == "__main__":
    main()
