"""The verbs about what is made, installed and kept: train, models, store, doctor."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from analyzer.cli import show
from analyzer.cli.options import ConfigFile, Form, Output, Quiet, StoreUrl, settings
from analyzer.cli.show import Format, print_rows
from analyzer.errors import AnalyzerError, UsageError

if TYPE_CHECKING:
    from analyzer.card import TrainingReport

models = typer.Typer(help="The models that are here, and fetching a Whisper.", no_args_is_help=True, rich_markup_mode=None)
store_verbs = typer.Typer(help="The store of calls.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(help="default, whisper:NAME, openai-whisper:NAME, or a model directory.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("train")(train)
    app.add_typer(models, name="models")
    app.add_typer(store_verbs, name="store")
    app.command("doctor")(doctor)


def train(
    labels: Annotated[Path, typer.Argument(help="Labelled calls (JSON Lines): a transcript a line with its labels.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory of the new model; made when it is not there.")],
    base: Annotated[str, typer.Option("--model", help="Model to start from: default, a model directory, or hf:ORG/NAME.")] = "default",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from the base's encoder only, not from what it has learned of calls.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same model on the same machine.")] = 0,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="At most; training stops early when held-out calls get no better.")] = 40,
    tune_layers: Annotated[
        int, typer.Option("--tune-layers", min=0, max=6, help="Upper layers of the encoder that learn too: slow, for a thousand calls and more.")
    ] = 0,
    form: Form = None,
    quiet: Quiet = False,
) -> None:
    """Train a conversation model on calls that people rated, and write its card with figures on calls it never saw."""
    from analyzer.training import TrainingOptions, train

    def progress(epoch: int, most: int, loss: float) -> None:
        show.note(f"epoch {epoch} of at most {most}: held-out loss {loss:.4f}")

    options = TrainingOptions(base=base, fresh=fresh, seed=seed, epochs=epochs, tuned_layers=tune_layers)
    report = train(labels, output, options, progress=None if quiet else progress)
    _print_trained(report, form)


def _print_trained(report: TrainingReport, form: Format | None) -> None:
    from analyzer.cli.agreement import agreement_table

    chosen = form or (Format.table if sys.stdout.isatty() else Format.json)
    told = report.to_json()
    if chosen is Format.table:
        parts = [f"{report.stamp} in {report.directory}", agreement_table(report.agreement)]
        if report.changes:
            parts += [_changes_table(report), *(one.sentence for one in report.changes.values())]
        show.emit("\n".join(parts), None)
    elif chosen is Format.csv:
        show.emit(show.rows_csv(_trained_rows(told)), None)
    else:
        show.emit(show.objects([told], chosen), None)


def _changes_table(report: TrainingReport) -> str:
    """Figures down, dimensions across."""
    from analyzer.card import shown

    changes = report.changes.values()
    rows: list[list[object]] = [["calls", *(one.n for one in changes)]]
    for name in ("macro_f1", "accuracy", "ece"):
        rows.append([f"{name} before", *(shown(one.before[name], ".2f") for one in changes)])
        rows.append([f"{name} after", *(shown(one.after[name], ".2f") for one in changes)])
    rows.append(["macro_f1 difference", *(shown(one.difference, "+.2f") for one in changes)])
    return show.table(f"Beside {report.base} on the same calls (95 % interval)", ("figure", *report.changes), rows)


def _trained_rows(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Flat rows, one a figure."""
    for dimension, one in told["agreement"].items():
        for name, figure in one["figures"].items():
            yield {"part": "agreement", "dimension": dimension, "calls": one["calls"], "figure": name, **figure}
    for dimension, one in told["changes"].items():
        for part in ("before", "after", "difference"):
            for name, figure in one[part].items():
                yield {"part": part, "dimension": dimension, "calls": one["calls"], "figure": name, **figure}


@models.command("list")
def list_models(form: Form = None, output: Output = None) -> None:
    """What is on this machine: conversation models, speech engines, their sizes and licences."""
    print_rows("Models", _models(), form, output)


@models.command("fetch")
def fetch(name: Annotated[str, typer.Argument(help="whisper:NAME (as whisper:small.en) or openai-whisper:NAME.")]) -> None:
    """Download a Whisper, with a progress bar; the only verb that uses the network unasked by --asr."""
    from analyzer.asr import fetch as fetch_model

    show.emit(str(fetch_model(name)), None)


@models.command("path")
def path(name: Name) -> None:
    """Where a model lies."""
    show.emit(str(_path(name)), None)


@models.command("verify")
def verify(name: Name = "default") -> None:
    """Compare a conversation model's files with the sizes and digests it states, and load it."""
    from analyzer.model import load_model

    show.emit(f"{load_model(name).stamp}: complete and unaltered", None)


@store_verbs.command("status")
def status(store: StoreUrl = None, config: ConfigFile = None, form: Form = None, output: Output = None) -> None:
    """How much the store holds, and by which models."""
    from analyzer.store import Store

    chosen = settings(config, store=store)
    with Store(chosen.store, create=False) as opened:
        held = opened.status()
    rows = [{"what": "calls", "number": held.calls}, {"what": "transcripts", "number": held.transcripts}]
    rows += [{"what": f"scores by {model}", "number": number} for model, number in held.scores.items()]
    print_rows("Store", [*rows, {"what": "failures", "number": held.failures}], form, output)


def doctor(store: StoreUrl = None, config: ConfigFile = None, form: Form = None, output: Output = None) -> None:
    """Check that everything the main job needs is here; exit status 1 when something is not."""
    from analyzer.asr import resolve
    from analyzer.model import load_model

    chosen = settings(config, store=store)
    checks: dict[str, Callable[[], str]] = {
        "python": _python,
        "conversation model": lambda: load_model(chosen.model.name).stamp,
        "speech": lambda: resolve(chosen.speech.engine, device=chosen.speech.device, language=chosen.speech.language).why,
        "redaction": _redaction,
        "extras": _extras,
        "store": lambda: _store_opens(chosen.store),
    }
    rows = [{"check": name, **_tried(check)} for name, check in checks.items()]
    print_rows("Doctor", rows, form, output)
    if any(row["state"] != "ok" for row in rows):
        raise typer.Exit(1)


def _tried(check: Callable[[], str]) -> dict[str, str]:
    try:
        return {"state": "ok", "found": check()}
    except AnalyzerError as error:
        return {"state": "missing", "found": str(error)}


def _python() -> str:
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def _redaction() -> str:
    from analyzer.records import CallInfo, Transcript, Turn
    from analyzer.redaction import redact

    said = Turn(speaker="customer", text="my card number is four one one one one one one one one one one one one one one one")
    left = redact(Transcript(info=CallInfo(call_id="check"), turns=(said,)), "payment")
    if not left.redacted:
        raise UsageError("a spoken card number was not replaced", where="redaction", do="Install analyzer again.")
    return f"a spoken card number is replaced: {left.turns[0].text!r}"


def _extras() -> str:
    names = {"openai-whisper": "whisper", "ray": "ray", "psycopg": "postgres", "fastapi": "review", "pyannote.audio": "diarise"}
    found = {f"{extra} ({'here' if _installed(package) else 'not installed'})" for package, extra in names.items()}
    return "extras: " + ", ".join(sorted(found))


def _store_opens(url: str) -> str:
    from analyzer.store import Store

    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not path.exists():
        return f"{url}: not made yet"  # a check leaves no files behind
    with Store(url) as opened:
        return f"{opened.url}: {opened.status().calls} calls, {opened.check()}"


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


#: Of what ships with the package; what else lies there has its own.
_LICENCES: Final = {"default": "Apache-2.0"}


def _models() -> list[dict[str, Any]]:
    from analyzer.asr import on_disk
    from analyzer.model import CONFIG, contents_digest, models_dir

    rows = []
    for config in sorted(models_dir().glob(f"*/{CONFIG}")):
        folder = config.parent
        size_mb = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        row = {
            "name": folder.name,
            "kind": "conversation",
            "size_mb": round(size_mb, 1),
            "licence": _LICENCES.get(folder.name),
        }
        rows.append(row | {"digest": f"sha256:{contents_digest(folder)[:12]}", "path": str(folder)})
    rows.append({"name": "pocketsphinx", "kind": "speech", "licence": "BSD-2-Clause", "digest": importlib.metadata.version("pocketsphinx")})
    for engine, name, place in on_disk.whispers():
        size_mb = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) if place.is_dir() else place.stat().st_size
        rows.append({"name": f"{engine}:{name}", "kind": "speech", "size_mb": round(size_mb / 1e6, 1), "path": str(place)})
    return rows


def _path(name: str) -> Path:
    from analyzer.asr import on_disk
    from analyzer.model import find_model

    engine, _, model = name.partition(":")
    if not model:
        return find_model(name)
    place = next((place for held, own, place in on_disk.whispers() if (held, own) == (engine, model)), None)
    if place is None:
        raise UsageError(f"{name!r} is not on this disk", where="models path", do=f"Fetch it: `analyzer models fetch {name}`.")
    return place
