"""The verbs about people's ratings and rules: train, evaluate, scorecard."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyzer.cli import show
from analyzer.cli.options import ConfigFile, Form, Jobs, Model, Output, Quiet, settings
from analyzer.cli.show import Format, print_rows
from analyzer.errors import InputError
from analyzer.records import DIMENSIONS, CallScore, Failure, dumps, plain

if TYPE_CHECKING:
    from analyzer.evaluation import Agreement

Labels = Annotated[Path, typer.Argument(help="Labelled calls (JSON Lines): a transcript a line with its labels.")]
scorecard_verbs = typer.Typer(help="A team's own questions, in TOML.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("train")(train)
    app.command("evaluate")(evaluate)
    app.add_typer(scorecard_verbs, name="scorecard")


def train(
    labels: Labels,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory of the new model; made when it is not there.")],
    base: Annotated[str, typer.Option("--model", help="Model to start from: default, or a model directory.")] = "default",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from the base's encoder only, not from what it has learned of calls.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same model on the same machine.")] = 0,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="At most; training stops early when held-out calls get no better.")] = 40,
    quiet: Quiet = False,
) -> None:
    """Train a conversation model on calls that people rated, and write its card with figures on calls it never saw."""
    from analyzer.training import TrainingOptions, train

    def progress(epoch: int, most: int, loss: float) -> None:
        show.note(f"epoch {epoch} of at most {most}: held-out loss {loss:.4f}")

    options = TrainingOptions(base=base, fresh=fresh, seed=seed, epochs=epochs)
    report = train(labels, output, options, progress=None if quiet else progress)
    show.emit(f"{report.stamp} in {report.directory}\n{_agreement_table(report.agreement)}", None)


def evaluate(
    labels: Labels,
    model: Model = None,
    config: ConfigFile = None,
    form: Form = None,
    output: Output = None,
    jobs: Jobs = 1,
    quiet: Quiet = False,
) -> None:
    """Say how well the scores agree with people who rated the same calls, with intervals."""
    from analyzer.evaluation import Prediction, read_labels
    from analyzer.evaluation import evaluate as agree
    from analyzer.pipeline import Analyzer, Recipe

    rated = read_labels(labels)
    analyzer = Analyzer(Recipe(settings=settings(config, model=model)))
    _ = analyzer.model
    scored: dict[str, CallScore] = {}
    for result in analyzer.score_many((call.transcript for call in rated), jobs):
        if isinstance(result, Failure):
            raise InputError(result.message)
        scored[result.info.call_id] = result
    predictions = []
    for call in rated:
        judged = {name: scored[call.transcript.info.call_id].judgement(name) for name in DIMENSIONS}
        predictions.append({name: Prediction(probabilities=one.probabilities, abstained=one.abstained) for name, one in judged.items()})
    agreement = agree(rated, predictions)
    if not quiet:
        show.note(f"{len(rated)} rated calls, scored by {analyzer.model.stamp}")
    _print(agreement, form, output)


@scorecard_verbs.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="Scorecard (TOML).")],
    calls: Annotated[list[str] | None, typer.Option("--calls", help="Transcripts to try it on; repeatable.")] = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """Read a scorecard, say what is wrong in it, and try it on sample calls."""
    from analyzer.cues import find_cues
    from analyzer.pipeline import Analyzer, Recipe
    from analyzer.scorecard import answer, read_scorecard, total

    card = read_scorecard(file)
    rows: list[dict[str, Any]] = []
    failed: list[Failure] = []
    for heard in Analyzer(Recipe()).transcribe_many(calls or ()):
        if isinstance(heard, Failure):
            failed.append(heard)
            continue
        answers = answer(card, heard, find_cues(heard.turns))
        marks = total(card, answers)
        row: dict[str, Any] = {"call_id": heard.info.call_id, "score": marks.score, "failed_critical": ", ".join(marks.failed_critical) or None}
        rows.append(row | {one.question_id: one.answer for one in answers})
    show.note(f"scorecard {card.name!r} {card.digest}: {len(card.questions)} questions")
    if rows:
        print_rows("Scorecard", rows, form, output)
    show.failures(failed)
    if failed:
        raise typer.Exit(1)


def _print(agreement: dict[str, Agreement], form: Format | None, output: Path | None) -> None:
    chosen = form or (Format.table if sys.stdout.isatty() and output is None else Format.json)
    if chosen is Format.table:
        show.emit(_agreement_table(agreement), output)
    elif chosen is Format.json:
        show.emit(dumps({name: _plain(one) for name, one in agreement.items()}, indent=2), output)
    elif chosen is Format.jsonl:
        show.emit(show.objects((_plain(one) for one in agreement.values()), chosen), output)
    else:
        rows = [{"dimension": name, "figure": key, **_plain(value)} for name, one in agreement.items() for key, value in one.figures.items()]
        show.emit(show.rows_csv(rows), output)


def _agreement_table(agreement: Any) -> str:
    names = list(dict.fromkeys(key for one in agreement.values() for key in one.figures))
    rows = []
    for name, one in agreement.items():
        cells = [_interval(one.figures[key]) if key in one.figures else "" for key in names]
        rows.append([name, one.n, f"{one.abstained_share:.2f}", *cells])
    return show.table("Agreement with raters (95 % interval)", ("dimension", "calls", "abstained", *names), rows)


def _interval(value: Any) -> str:
    limits = "" if value.low is None or value.high is None else f" ({value.low:.2f}–{value.high:.2f})"
    return f"{value.value:.2f}{limits}"


def _plain(record: Any) -> dict[str, Any]:
    """A record as JSON with at most 4 decimals."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: rounded(inner) for name, inner in value.items()}
        return plain(value)

    out: dict[str, Any] = rounded(dataclasses.asdict(record))
    return out
