"""The verbs about people's ratings and rules: evaluate, scorecard."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyzer.cli import show
from analyzer.cli.options import ConfigFile, Form, Jobs, Model, Output, Quiet, settings
from analyzer.cli.show import print_rows
from analyzer.errors import InputError, UsageError
from analyzer.records import DIMENSIONS, CallScore, Failure, Transcript

if TYPE_CHECKING:
    from analyzer.evaluation import Prediction
    from analyzer.pipeline import Analyzer

scorecard_verbs = typer.Typer(help="A team's own questions, in TOML.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("evaluate")(evaluate)
    app.add_typer(scorecard_verbs, name="scorecard")


def evaluate(
    labels: Annotated[Path, typer.Argument(help="Labelled calls: JSON Lines (a transcript a line with its labels) or CSV (a rating a row).")],
    transcripts: Annotated[Path | None, typer.Option("--transcripts", help="Folder of the transcripts that a CSV of labels is about.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Also by this further column of the calls: queue, region, …")] = None,
    fairness: Annotated[bool, typer.Option("--fairness", help="Also with names, spelling and phrasing of other speakers: does it change?")] = False,
    model: Model = None,
    config: ConfigFile = None,
    form: Form = None,
    output: Output = None,
    jobs: Jobs = 1,
    quiet: Quiet = False,
) -> None:
    """Say how well the scores agree with people who rated the same calls, with intervals."""
    from analyzer.cli.agreement import Evaluation, print_evaluation
    from analyzer.evaluation import by_group, column_values, label_shares, retrieve
    from analyzer.evaluation import evaluate as agree
    from analyzer.labels import read_labels
    from analyzer.pipeline import Analyzer, Recipe

    rated = read_labels(labels, transcripts)
    if group is not None:
        column_values(rated, group)  # a slip is said before the scoring, not after
    if output is not None and not output.parent.is_dir():
        raise UsageError("cannot be written: there is no such folder", where=str(output), do="Make the folder, or give another path.")
    analyzer = Analyzer(Recipe(settings=settings(config, model=model)))
    _ = analyzer.model
    score = partial(_predictions, analyzer, jobs)
    made = score([call.transcript for call in rated])
    if not quiet:
        show.note(f"{len(rated)} rated calls, scored by {analyzer.model.stamp}")
    shifted = None
    if fairness:
        from analyzer.fairness import shifts, versions

        if not quiet:
            show.note(f"scoring them again in {len(versions())} other wordings")
        shifted = shifts(rated, made, score)
    found = Evaluation(
        agreement=agree(rated, made),
        shares=label_shares(rated),
        retrieval=[one for at_least in (1, 2) if (one := retrieve(rated, made, at_least=at_least)) is not None],
        groups=None if group is None else by_group(rated, made, group),
        fairness=shifted,
    )
    print_evaluation(found, form, output)


def _predictions(analyzer: Analyzer, jobs: int, transcripts: Sequence[Transcript]) -> list[dict[str, Prediction]]:
    """Scores as the evaluation compares them, in the order of the transcripts; one that cannot be scored ends the run."""
    from analyzer.evaluation import Prediction

    scored: dict[str, CallScore] = {}
    for result in analyzer.score_many(transcripts, jobs):
        if isinstance(result, Failure):
            raise InputError(result.message)
        scored[result.info.call_id] = result
    out = []
    for transcript in transcripts:
        judged = {name: scored[transcript.info.call_id].judgement(name) for name in DIMENSIONS}
        out.append(
            {
                name: Prediction(probabilities=one.probabilities, abstained=one.abstained, evidence=tuple(part.turn for part in one.evidence))
                for name, one in judged.items()
            }
        )
    return out


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
