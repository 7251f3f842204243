"""One table of every figure for every predictor: baselines fitted on the training calls, model directories, and figures written by other runs.

    python benchmarks/model_table.py --train train.jsonl --public FOLDER --own dev.jsonl --encoder FOLDER --pairs FILE ... -- NAME=DIR NAME=FILE.json

A model that this version of the package cannot load is measured with its own by `model_elsewhere.py --json`. Prints Markdown, the best in bold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from baselines import baselines
from figures import Figure, load_predictor, measure, read_figures, read_rows, read_sets, write_figures
from model_elsewhere import sets_arguments


def markdown(columns: Mapping[str, Sequence[Figure]]) -> str:
    names = list(dict.fromkeys(figure.name for figures in columns.values() for figure in figures))
    by_name = {column: {figure.name: figure for figure in figures} for column, figures in columns.items()}
    lines = ["| figure | goal | n | " + " | ".join(columns) + " |", "|---" * (len(columns) + 3) + "|"]
    for name in names:
        row = {column: figures[name] for column, figures in by_name.items() if name in figures}
        first = next(iter(row.values()))
        values = [round(figure.value, 3) for figure in row.values()]
        best = min(values) if first.small else max(values)
        goal = "" if first.goal is None else f"{'≤' if first.small else '≥'} {first.goal:.2f}"
        sizes = sorted({figure.n for figure in row.values()})
        cells = [_cell(row.get(column), best) for column in columns]
        lines.append(f"| {name} | {goal} | {'-'.join(map(str, sizes))} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figure: Figure | None, best: float) -> str:
    if figure is None:
        return "–"
    value = f"**{figure.value:.3f}**" if round(figure.value, 3) == best else f"{figure.value:.3f}"
    return f"{value} ({figure.low:.2f}–{figure.high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets_arguments(parser)
    parser.add_argument("--train", type=Path, help="labelled calls that the baselines learn from (.jsonl); without it no baselines")
    parser.add_argument("--encoder", type=Path, help="folder of the frozen sentence encoder; without it that baseline is left out")
    parser.add_argument("--json", type=Path, help="a folder for each column's figures, as NAME=FILE takes them")
    parser.add_argument("columns", nargs="*", metavar="NAME=DIR|FILE", help="a model directory, or figures in JSON")
    given = parser.parse_args()
    sets = read_sets(given.public, given.own, given.pairs)
    if not sets:
        parser.error("there is nothing to measure on: give --public, --own or --pairs")
    predictors = baselines(read_rows(given.train), given.encoder) if given.train else {}
    columns: dict[str, list[Figure]] = {}
    for name, predict in predictors.items():
        print(f"measuring {name}", file=sys.stderr)
        columns[name] = measure(predict, sets)
    for column in given.columns:
        name, _, place = column.partition("=")
        if not place:
            parser.error(f"{column!r} is not NAME=DIR or NAME=FILE.json")
        print(f"measuring {name}", file=sys.stderr)
        columns[name] = read_figures(Path(place)) if place.endswith(".json") else measure(load_predictor(place), sets)
    if given.json:
        given.json.mkdir(parents=True, exist_ok=True)
        for name, figures in columns.items():
            write_figures(figures, given.json / f"{name.replace('/', '-')}.json")
    print(markdown(columns))


if __name__ == "__main__":
    main()
