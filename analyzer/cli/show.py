"""Printing: data on stdout (or into a file) in four formats, everything else on stderr, nothing in either that moves a terminal's cursor."""

from __future__ import annotations

import csv
import enum
import io
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from analyzer.errors import UsageError
from analyzer.records import DIMENSIONS, CallScore, Failure, Judgement, dumps

LONGEST_TABLE: Final = 40
_QUOTE_CHARS: Final = 70


class Format(enum.StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


def clean(text: object) -> str:
    """One line without control and direction characters: names and quotes come from outside."""
    return "".join(" " if char in "\n\r\t" else char for char in str(text) if char in "\n\r\t" or unicodedata.category(char) not in ("Cc", "Cf"))


def emit(text: str, output: Path | None) -> None:
    """Write to `output`, whole or not at all, or to stdout."""
    body = text if text.endswith("\n") or not text else text + "\n"
    if output is None:
        sys.stdout.write(body)
        return
    part = output.with_name(output.name + ".part")
    try:
        part.write_text(body, encoding="utf-8")
        part.replace(output)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(output), do="Check the folder and its permissions.") from None


def objects(items: Iterable[Mapping[str, Any]], form: Format) -> str:
    """JSON (one object, or a list of several) or JSON Lines."""
    if form is Format.jsonl:
        return "".join(dumps(item) + "\n" for item in items)
    held = list(items)
    return dumps(held[0] if len(held) == 1 else held, indent=2)


def rows_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """CSV with the union of the rows' columns; a cell that a spreadsheet would run as a formula gets a leading apostrophe."""
    held = list(rows)
    columns = list(dict.fromkeys(name for row in held for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in columns])
    writer.writerows([_cell(row.get(name)) for name in columns] for row in held)
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, longest: int | None = None) -> str:
    """A table for people, as wide as the terminal (120 in a pipe), its cells cleaned; `longest` rows, the rest counted."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    held = list(rows)
    grid = Table(title=title, title_justify="left", header_style="bold", show_lines=False)
    for name in columns:
        grid.add_column(name, overflow="fold")
    for row in held[:longest]:
        grid.add_row(*(Text(clean("" if cell is None else cell)) for cell in row))
    out = io.StringIO()
    terminal = Console(stderr=False).size.width if sys.stdout.isatty() else 140
    Console(file=out, width=terminal, force_terminal=sys.stdout.isatty(), highlight=False).print(grid)
    if longest is not None and len(held) > longest:
        out.write(f"… and {len(held) - longest} more\n")
    return out.getvalue()


def print_rows(title: str, rows: Sequence[Mapping[str, Any]], form: Format | None, output: Path | None) -> None:
    """Flat rows in the format asked for; unasked, a table on a terminal and JSON elsewhere."""
    chosen = form or (Format.table if sys.stdout.isatty() and output is None else Format.json)
    if chosen is Format.table:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        emit(table(title, columns, [[row.get(name) for name in columns] for row in rows]), output)
    elif chosen is Format.csv:
        emit(rows_csv(rows), output)
    else:
        emit(objects(rows, chosen) if chosen is Format.jsonl else dumps(list(rows), indent=2), output)


def scores_table(scores: Iterable[CallScore]) -> str:
    """The calls with each dimension's label, probability and best quote."""
    rows = [[call.info.call_id, *(_answer(call, call.judgement(name)) for name in DIMENSIONS)] for call in scores]
    return table("Calls", ("call", *DIMENSIONS), rows, longest=LONGEST_TABLE)


def _answer(call: CallScore, judgement: Judgement) -> str:
    if judgement.abstained:
        return f"— ({judgement.reason})"
    text = f"{judgement.label} {judgement.probabilities[judgement.best]:.2f}"
    if not judgement.evidence or call.transcript is None:
        return text
    best = judgement.evidence[0]
    quote = best.quote(call.transcript)
    start_s = call.transcript.turns[best.turn].start_s
    at = "" if start_s is None else f"{int(start_s) // 60}:{int(start_s) % 60:02d} "
    if len(quote) > _QUOTE_CHARS:  # a closing stands at a turn's end
        quote = "…" + quote[1 - _QUOTE_CHARS :] if judgement.dimension == "closing" else quote[: _QUOTE_CHARS - 1] + "…"
    return f"{text}  {at}“{quote}”"


def failures(failed: Sequence[Failure]) -> None:
    """Each failed call with its reason, on stderr."""
    for failure in failed:
        note(f"failed: {clean(failure.message)}")


def note(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    sys.stderr.write(text + "\n")
