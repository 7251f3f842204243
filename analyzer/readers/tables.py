"""The calls table and the agents table: what a contact centre's system knows of its calls, as CSV."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from analyzer.errors import TableError, TranscriptError
from analyzer.records import DIMENSIONS, CallInfo, Failure, Scalar
from analyzer.wire import parse_time

_TEXTS: Final = ("agent_id", "customer_id", "contact_id", "direction", "queue", "reason", "disposition", "ended_by")
#: Words of scores and transcripts, which stand beside a call's columns in what is printed.
_TAKEN: Final = frozenset(
    {"id", "schema", "asr", "model", *DIMENSIONS, "opening", "promises", "offers", "flags", "talk", "redacted"}
    | {"turns", "language", "events", "duration_s", "role_confidence"}
)
_KNOWN: Final = ("call_id", "file", "started_at", "leg", *_TEXTS)


_LONGEST_NUMBER_DIGITS: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """One row of a calls table: the call, the file it names (relative to the table's folder), and where the row stands."""

    info: CallInfo
    file: str | None
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsTable:
    """The rows by call id, and by file; `failures` names calls whose rows cannot be used."""

    rows: Mapping[str, CallRow]
    by_file: Mapping[str, str]
    failures: tuple[Failure, ...] = ()

    def find(self, file: str, stem: str) -> CallRow | None:
        """The row of a file, by its path below the table's folder, else by the call id that its name gives."""
        return self.rows.get(self.by_file.get(file, stem))


EMPTY: Final = CallsTable(rows={}, by_file={})


def read_calls(path: Path, agents: Mapping[str, Mapping[str, Scalar]] | None = None) -> CallsTable:
    """Read a calls table: column `call_id` is needed, further unknown columns become covariates.

    `agents` (from `read_agents`) adds each agent's columns as covariates. A call id that stands twice, and a row that
    cannot be read, fail alone; the other rows serve.

    Raises:
        TableError: not a CSV file in UTF-8 with a header that names `call_id`, or a misspelt column.
    """
    rows: dict[str, CallRow] = {}
    failures: dict[str, Failure] = {}
    for where, cells in _rows(path, needed="call_id", known=_KNOWN):
        call_id = cells["call_id"]
        if call_id in rows or call_id in failures:
            other = rows.pop(call_id).where if call_id in rows else failures[call_id].source
            message = f"{where}: the call id {call_id!r} stands also in {other}. Keep one row for each call."
            failures[call_id] = Failure(source=where, reason=TableError.reason, message=message, call_id=call_id)
            continue
        try:
            rows[call_id] = CallRow(info=_info(cells, where, agents or {}), file=cells.get("file"), where=where)
        except TableError as error:
            failures[call_id] = Failure(source=where, reason=error.reason, message=str(error), call_id=call_id)
    by_file = {row.file: call_id for call_id, row in rows.items() if row.file}
    return CallsTable(rows=rows, by_file=by_file, failures=tuple(failures.values()))


def read_agents(path: Path) -> dict[str, dict[str, Scalar]]:
    """Agents by id, their columns renamed `agent_team`, `agent_trained_at`, … for use as covariates.

    Raises:
        TableError: no `agent_id` column, an agent that stands twice, or a `trained_at` that is not a date with its zone.
    """
    out: dict[str, dict[str, Scalar]] = {}
    for where, cells in _rows(path, needed="agent_id", known=("agent_id", "team", "trained_at")):
        if cells["agent_id"] in out:
            raise TableError(f"the agent {cells['agent_id']!r} stands twice", where=where, do="Keep one row for each agent.")
        if trained_at := cells.get("trained_at"):
            _time(trained_at, where)
        out[cells["agent_id"]] = {f"agent_{name}": value for name, value in cells.items() if name != "agent_id"}
    return out


def _info(cells: Mapping[str, str], where: str, agents: Mapping[str, Mapping[str, Scalar]]) -> CallInfo:
    leg = cells.get("leg")
    if leg is not None and not leg.isdecimal():
        raise TableError(f"the leg {leg!r} is not a whole number", where=where, do="Count a contact's legs 1, 2, …")
    covariates: dict[str, Scalar] = {name: _number(value) for name, value in cells.items() if name not in _KNOWN}
    texts = {name: cells[name] for name in _TEXTS if name in cells}
    return CallInfo(
        call_id=cells["call_id"],
        started_at=_time(cells["started_at"], where) if "started_at" in cells else None,
        leg=int(leg) if leg else None,
        covariates=covariates | dict(agents.get(cells.get("agent_id", ""), {})),
        **texts,
    )


def overlay(own: CallInfo, table: CallInfo) -> CallInfo:
    """A call's own knowledge with the calls table's laid over it: the table wins where it says something."""
    said = {f.name: getattr(table, f.name) for f in dataclasses.fields(table) if getattr(table, f.name) not in (None, {})}
    return dataclasses.replace(own, **(said | {"covariates": {**own.covariates, **table.covariates}}))


def _time(text: str, where: str) -> datetime:
    try:
        return parse_time(text, where=where)
    except TranscriptError as error:
        raise TableError(error.what, where=where, do=error.do) from None


def _number(text: str) -> Scalar:
    # A covariate that reads as a number is one: tenure_months=14 must not become fourteen categories.
    if sum(char.isdigit() for char in text) > _LONGEST_NUMBER_DIGITS:
        return text  # an id, a phone or a card: text is looked through for what must not be stored, and loses no digit
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() and "." not in text and "e" not in text.lower() else number


def _rows(path: Path, *, needed: str, known: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows as (where, non-empty cells); the header is checked first."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(header, path, needed, known)
            for cells in reader:
                where = f"{path.name}, line {reader.line_num}"
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise TableError(f"{len(cells)} cells under {len(header)} columns", where=where, do="Quote cells that hold a comma.")
                row = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
                if needed not in row:
                    raise TableError(f"{needed} is empty", where=where, do="Name it in every row.")
                yield where, row
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}", where=str(path), do="Check the path and its permissions.") from None
    except UnicodeDecodeError as error:
        raise TableError(f"not UTF-8 text (byte {error.start})", where=str(path), do="Save the table as CSV in UTF-8.") from None
    except csv.Error as error:
        raise TableError(f"not CSV: {error}", where=str(path), do="Save the table as comma-separated CSV.") from None


def _check_header(header: list[str], path: Path, needed: str, known: tuple[str, ...]) -> None:
    if needed not in header:
        raise TableError(f"there is no column {needed!r}", where=str(path), do=f"The first line names the columns, {needed!r} among them.")
    if doubled := next((name for name in header if header.count(name) > 1), None):
        raise TableError(f"the column {doubled!r} stands twice", where=str(path), do="Keep one of the two.")
    if taken := next((name for name in header if name in _TAKEN), None):
        raise TableError(f"the column {taken!r} is named like a part of a score", where=str(path), do="Give it another name.")
    for name in header:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if name not in known and close and close[0] not in header:
            raise TableError(f"unknown column {name!r}", where=str(path), do=f"Did you mean {close[0]!r}?")
