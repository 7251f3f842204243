"""The verbs about what came later: link, report."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analyzer.cli import show
from analyzer.cli.options import ConfigFile, Form, Output, Quiet, StoreUrl, settings
from analyzer.cli.show import Format
from analyzer.config import Settings, digest
from analyzer.errors import TableError, UsageError
from analyzer.records import CallScore

if TYPE_CHECKING:
    from analyzer.effects import Effect
    from analyzer.outcomes import Linked
    from analyzer.store import Store

Window = Annotated[int | None, typer.Option("--window-days", min=1, help="Days after a call that count; default 90.")]
Adjust = Annotated[list[str] | None, typer.Option("--adjust", help="Adjust for this column, known before the call; repeatable.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("link")(link)
    app.command("report")(report)


def link(
    outcomes: Annotated[Path, typer.Argument(help="Outcomes: CSV or Parquet of customer_id, kind, occurred_at, amount, observed_until.")],
    scores: Annotated[Path | None, typer.Option("--scores", help="Scores as `score --format jsonl` prints them; else those of the store.")] = None,
    window_days: Window = None,
    adjust: Adjust = None,
    store: StoreUrl = None,
    model: Annotated[str | None, typer.Option("--model", help="Stamp of the model whose scores count; else each call's newest.")] = None,
    config: ConfigFile = None,
    form: Form = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Link scores to what customers did later, and estimate the differences."""
    chosen = outcomes_settings(settings(config, store=store), window_days, adjust)
    calls = _read_scores(scores) if scores else _stored(chosen, model, quiet)
    linked, effects = linked_effects(calls, chosen, outcomes)
    chosen_form = form or (Format.table if sys.stdout.isatty() and output is None else Format.json)
    if chosen_form is Format.csv:
        show.emit(show.rows_csv(_flat(effect) for effect in effects), output)
    elif chosen_form is Format.jsonl:
        show.emit(show.objects((effect.to_json() for effect in effects), Format.jsonl), output)
    elif chosen_form is Format.json:
        show.emit(show.objects([{"join": linked.join.to_json(), "effects": [effect.to_json() for effect in effects]}], Format.json), output)
    else:
        show.emit("\n".join(show.clean(effect.sentence) for effect in effects), output)
    if not quiet:
        joined = linked.join
        if joined.calls and not joined.linked:
            show.note("join: no call has a customer_id that the outcomes know; check that both write it alike")
        show.note(f"join: {joined.linked} of {joined.calls} calls linked to {joined.customers} customers' outcomes within {joined.window_days} days")


def report(
    path: Annotated[Path, typer.Option("--report", "-o", help="Where the HTML file goes.")] = Path("report.html"),
    outcomes: Annotated[Path | None, typer.Option("--outcomes", help="Outcomes (CSV or Parquet) to link the scores to.")] = None,
    window_days: Window = None,
    adjust: Adjust = None,
    about: Annotated[str | None, typer.Option("--about", help="A line printed at the top of the report, as what the data is.")] = None,
    store: StoreUrl = None,
    model: Annotated[str | None, typer.Option("--model", help="Stamp of the model whose scores count; else each call's newest.")] = None,
    config: ConfigFile = None,
) -> None:
    """Write the report over all calls in the store: one HTML file without script."""
    from analyzer.store import Store

    chosen = outcomes_settings(settings(config, store=store), window_days, adjust)
    with Store(chosen.store, create=False) as opened:
        if about is not None:
            opened.save_about(about)
        write_report(opened, chosen, model=model, outcomes=outcomes, path=path)


def outcomes_settings(base: Settings, window_days: int | None, adjust: list[str] | None) -> Settings:
    """The settings with the command line's window and covariates laid over them."""
    own = base.outcomes
    own = own if window_days is None else replace(own, window_days=window_days)
    own = own if adjust is None else replace(own, adjust=tuple(adjust))
    return replace(base, outcomes=own)


def check_ahead(outcomes: Path | None, report: Path | None) -> None:
    """Find what would stop the run at its end before hours go into it: unreadable outcomes, a report that has no folder."""
    from analyzer.outcomes import read_outcomes

    if outcomes is not None:
        read_outcomes(outcomes)
    if report is not None and not report.resolve().parent.is_dir():
        raise UsageError("the folder of the report does not exist", where=str(report), do="Make the folder first.")


def linked_effects(calls: Iterable[CallScore], chosen: Settings, path: Path) -> tuple[Linked, list[Effect]]:
    """Calls joined to an outcomes file, and every estimate of the run."""
    from analyzer.effects import estimate
    from analyzer.outcomes import link as join
    from analyzer.outcomes import read_outcomes

    linked = join(calls, read_outcomes(path), window_days=chosen.outcomes.window_days, once=chosen.outcomes.once)
    return linked, estimate(linked, settings=chosen.outcomes)


def write_report(store: Store, chosen: Settings, *, model: str | None, outcomes: Path | None, path: Path | None) -> None:
    """Link the store's calls where outcomes are given; write the report, or without a `path` print the effects' sentences."""
    from analyzer.report import Provenance, ReportInput, render

    scores = list(store.scores(model=model))
    linked, effects = linked_effects(scores, chosen, outcomes) if outcomes else (None, [])
    if path is None:  # stdout holds the calls
        for effect in effects:
            show.note(show.clean(effect.sentence))
        return
    own = chosen.outcomes
    notes = {"window": f"{own.window_days} days", "adjusted for": ", ".join(own.adjust) or "nothing"} if outcomes else {}
    page = render(
        ReportInput(
            title="Calls and what came of them",
            generated_at=datetime.now(UTC),
            scores=scores,
            failures=store.failures(),
            effects=effects,
            join=linked.join if linked else None,
            about=store.about(),
            provenance=Provenance(settings_digest=digest(replace(chosen, store="")), notes=notes),
        )
    )
    show.emit(page, path)
    show.note(f"report: {path} ({len(scores)} calls)")


def print_scores(scores: Sequence[CallScore], form: Format, output: Path | None) -> None:
    """The calls of a batch, in the format asked for."""
    from analyzer.scoring import to_rows

    if form is Format.table:
        show.emit(show.scores_table(scores), output)
    elif form is Format.csv:
        show.emit(show.rows_csv(to_rows(scores)), output)
    else:
        show.emit(show.objects((call.to_json() for call in scores), form), output)


def _stored(chosen: Settings, model: str | None, quiet: bool) -> list[CallScore]:
    from analyzer.store import Store

    with Store(chosen.store, create=False) as store:
        scores = list(store.scores(model=model))
        if not scores:
            held = ", ".join(store.status().scores) or "none"
            what = "the store holds no scores" if model is None else f"no scores by {model!r}; the store holds {held}"
            raise UsageError(what, where=store.url, do="Run `analyzer batch FOLDER` first, or give --scores FILE.")
    if not quiet:
        show.note(f"scores: {len(scores)} calls of {chosen.store.split('@')[-1]}, by {', '.join(sorted({call.model for call in scores}))}")
    return scores


def _read_scores(path: Path) -> list[CallScore]:
    """Scores from a JSON Lines file; a line that cannot be read stops the run, with its number: half a table proves nothing."""
    from analyzer.wire import loads, score_from_json

    out = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    where = f"{path.name}, line {number}"
                    out.append(score_from_json(loads(line, where=where), where=where))
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}", where=str(path), do="Check the path and its permissions.") from None
    if not out:
        raise TableError("holds no scores", where=str(path), do="Write them with `analyzer score … --format jsonl`.")
    return out


def _flat(effect: Effect) -> dict[str, object]:
    raw = effect.to_json()
    flat: dict[str, object] = {}
    for key, value in raw.items():
        if isinstance(value, dict):
            flat |= {f"{key}_{name}": inner for name, inner in value.items()}
        elif isinstance(value, list):
            flat[key] = "; ".join(str(item) for item in value if not isinstance(item, dict))
        else:
            flat[key] = value
    return flat
