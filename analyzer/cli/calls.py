"""The verbs that take calls: score, transcribe, batch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from analyzer.cli import show
from analyzer.cli.options import AgentChannel, Asr, Calls, ConfigFile, Form, Jobs, Model, Output, Quiet, StoreUrl, settings
from analyzer.cli.show import Format
from analyzer.errors import UsageError
from analyzer.records import Failure, Transcript


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("score")(score)
    app.command("transcribe")(transcribe)
    app.command("batch")(batch)


def score(
    calls: Calls,
    config: ConfigFile = None,
    asr: Asr = None,
    model: Model = None,
    agent_channel: AgentChannel = None,
    form: Form = None,
    output: Output = None,
    jobs: Jobs = 1,
    quiet: Quiet = False,
) -> None:
    """Score calls and print the answers; nothing is stored."""
    from analyzer.pipeline import Analyzer, Recipe
    from analyzer.scoring import to_rows

    analyzer = Analyzer(Recipe(settings=settings(config, asr=asr, model=model), agent_channel=agent_channel))
    _ = analyzer.model  # a missing model stops the run, not each call
    sources = _sources(calls)
    _say_engine(analyzer, sources, quiet)
    scores, failed = _split(_watched(analyzer.score_many([s for s in sources if not isinstance(s, Failure)], jobs), quiet))
    failed = [s for s in sources if isinstance(s, Failure)] + failed
    chosen = form or (Format.table if sys.stdout.isatty() and output is None else Format.json)
    if chosen is Format.table:
        show.emit(show.scores_table(scores), output)
    elif chosen is Format.csv:
        show.emit(show.rows_csv(to_rows(scores)), output)
    elif scores:
        show.emit(show.objects((call.to_json() for call in scores), chosen), output)
    _finish(failed)


def transcribe(
    calls: Calls,
    config: ConfigFile = None,
    asr: Asr = None,
    agent_channel: AgentChannel = None,
    form: Form = None,
    output: Output = None,
    jobs: Jobs = 1,
    quiet: Quiet = False,
) -> None:
    """Print the redacted words of calls, by speaker, without scoring them."""
    from analyzer.pipeline import Analyzer, Recipe

    if form is Format.csv:
        raise UsageError("a transcript is no table", where="--format csv", do="Choose table, json or jsonl.")
    analyzer = Analyzer(Recipe(settings=settings(config, asr=asr), agent_channel=agent_channel))
    sources = _sources(calls)
    _say_engine(analyzer, sources, quiet)
    transcripts, failed = _split(_watched(analyzer.transcribe_many([s for s in sources if not isinstance(s, Failure)], jobs), quiet))
    failed = [s for s in sources if isinstance(s, Failure)] + failed
    chosen = form or (Format.table if sys.stdout.isatty() and output is None else Format.json)
    if chosen is Format.table:
        show.emit("\n".join(_script(transcript) for transcript in transcripts), output)
    elif transcripts:
        show.emit(show.objects((transcript.to_json() for transcript in transcripts), chosen), output)
    _finish(failed)


def batch(
    folder: Annotated[Path, typer.Argument(help="Folder of recordings and transcripts.")],
    calls: Annotated[Path | None, typer.Option("--calls", help="Calls table (CSV); FOLDER/calls.csv when it is there.")] = None,
    agents: Annotated[Path | None, typer.Option("--agents", help="Agents table (CSV); FOLDER/agents.csv when it is there.")] = None,
    outcomes: Annotated[Path | None, typer.Option("--outcomes", help="Outcomes (CSV or Parquet) to link the scores to.")] = None,
    window_days: Annotated[int | None, typer.Option("--window-days", min=1, help="Days after a call that count; default 90.")] = None,
    adjust: Annotated[list[str] | None, typer.Option("--adjust", help="Adjust effects for this column, known before the call; repeatable.")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write the HTML report there.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Leave out files that match this glob; repeatable.")] = None,
    store: StoreUrl = None,
    config: ConfigFile = None,
    asr: Asr = None,
    model: Model = None,
    agent_channel: AgentChannel = None,
    form: Annotated[Format, typer.Option("--format", help="How the calls are printed at the end.")] = Format.table,
    output: Output = None,
    jobs: Jobs = 1,
    quiet: Quiet = False,
) -> None:
    """Score every call of a folder into the store, once; then link and report, when asked. Run it again to go on after a stop."""
    from analyzer.cli.outcomes import check_ahead, outcomes_settings, print_scores, write_report
    from analyzer.pipeline import Analyzer, Recipe
    from analyzer.readers.folder import scan
    from analyzer.readers.tables import EMPTY, read_agents, read_calls

    chosen = outcomes_settings(settings(config, asr=asr, model=model, store=store), window_days, adjust)
    agents_table = agents or _beside(folder, "agents.csv")
    calls_table = calls or _beside(folder, "calls.csv")
    people = read_agents(agents_table) if agents_table else {}
    known = read_calls(calls_table, people) if calls_table else EMPTY
    check_ahead(outcomes, report)
    analyzer = Analyzer(Recipe(settings=chosen, agent_channel=agent_channel))
    todo = list(scan(folder, known, exclude=exclude or (), ready=analyzer.takes_ready))
    if calls_table and not quiet:
        rows = sum(not isinstance(call, Failure) and call.info.call_id in known.rows for call in todo)
        show.note(f"calls table: {rows} of its {len(known.rows)} rows belong to a call here, {len(todo) - rows} calls have no row")
    _ = analyzer.model_stamp, analyzer.store
    if any(not isinstance(call, Failure) and call.ready is None for call in todo):
        _announce(analyzer, quiet)
    began = time.monotonic()
    done, failed = _split(_watched(analyzer.batch(todo, jobs), quiet, total=len(todo)))
    if not quiet:
        new = [one for one in done if one.new]
        heard_h = sum(one.audio_s for one in new) / 3600
        took = f"{len(new)} calls scored ({heard_h:.2f} hours of talk) in {time.monotonic() - began:.0f} s"
        show.note(f"{took}, {len(done) - len(new)} were in the store already, {len(failed)} failed")
    show.failures(failed)
    source = {one.call_id: one.source for one in done}
    scores = [call for call in analyzer.store.scores(model=analyzer.model_stamp) if call.info.call_id in source]
    # Calls with a file of their own first: a file of hundreds of transcripts would push the recordings out of the table.
    print_scores(sorted(scores, key=lambda call: "#" in source[call.info.call_id]), form, output)
    if (about := _about(folder)) is not None:
        analyzer.store.save_about(about, of=str(folder.resolve()))
    if report is not None or outcomes is not None:
        write_report(analyzer.store, chosen, model=analyzer.model_stamp, outcomes=outcomes, path=report)
    if failed:
        raise typer.Exit(1)


def _about(folder: Path) -> str | None:
    """What the folder's `about.txt` says of its calls; the report prints it at its top."""
    path = folder / "about.txt"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _beside(folder: Path, name: str) -> Path | None:
    path = folder / name
    return path if path.is_file() else None


def _sources(calls: list[str]) -> list[str | Transcript | Failure]:
    from analyzer.readers import read_text

    out: list[str | Transcript | Failure] = []
    for name in calls:
        if name != "-":
            out.append(name)
            continue
        for item in read_text(sys.stdin.buffer.read(), name="stdin"):
            out.append(item if isinstance(item, Transcript) else Failure(source="stdin", reason=item.reason, message=str(item)))
    return out


def _say_engine(analyzer: Any, sources: Iterable[object], quiet: bool) -> None:
    from analyzer.readers.folder import RECORDINGS

    if any(isinstance(source, str) and Path(source).suffix.lower() in RECORDINGS for source in sources):
        _announce(analyzer, quiet)


def _announce(analyzer: Any, quiet: bool) -> None:
    if analyzer.settings.speech.engine == "transcript":
        return
    resolved = analyzer.speech  # raises now, once, when no engine can run
    if not quiet:
        show.note(f"speech: {resolved.why}")
        if resolved.transcriber.notice:
            show.note(f"speech: {resolved.transcriber.notice}")


def _split(results: Iterable[Any]) -> tuple[list[Any], list[Failure]]:
    good: list[Any] = []
    failed: list[Failure] = []
    for result in results:
        (failed if isinstance(result, Failure) else good).append(result)
    return good, failed


def _watched(results: Iterator[Any], quiet: bool, total: int | None = None) -> Iterator[Any]:
    """The results, with a progress bar (calls an hour, time left) where stderr is a terminal; Ctrl-C keeps what is finished."""
    if quiet or not sys.stderr.isatty():
        yield from _interruptible(results, kept=total is not None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("calls", total=total, pace="")
        began = time.monotonic()
        for number, result in enumerate(_interruptible(results, kept=total is not None), 1):
            progress.update(task, advance=1, pace=f"{3600 * number / max(time.monotonic() - began, 1e-3):,.0f} calls/h")
            yield result


def _interruptible(results: Iterator[Any], *, kept: bool) -> Iterator[Any]:
    try:
        yield from results
    except KeyboardInterrupt:
        show.note("interrupted" + (": what is finished is kept; run the same command again to go on" if kept else ""))
        raise typer.Exit(130) from None


def _finish(failed: list[Failure]) -> None:
    show.failures(failed)
    if failed:
        raise typer.Exit(1)


def _script(transcript: Transcript) -> str:
    lines = [show.clean(f"# {transcript.info.call_id}")]
    for turn in transcript.turns:
        at = "" if turn.start_s is None else f"{int(turn.start_s) // 60}:{int(turn.start_s) % 60:02d} "
        lines.append(show.clean(f"{at}{turn.speaker}: {turn.text}"))
    return "\n".join(lines) + "\n"
