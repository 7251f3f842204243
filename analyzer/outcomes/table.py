"""Reads the table of dated outcomes, and refuses one that would mislead."""

from __future__ import annotations

import csv
import difflib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analyzer.errors import TableError

if TYPE_CHECKING:
    import pandas as pd

REQUIRED: Final = ("customer_id", "kind", "occurred_at", "observed_until")
COLUMNS: Final = ("customer_id", "kind", "occurred_at", "amount", "observed_until", "observed_from")
_TIMES: Final = ("occurred_at", "observed_until", "observed_from")
_TIME_DO: Final = "Write it like 2026-03-02T10:15:00+00:00."
_ZONED: Final = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)"
#: `observed_until` is held to follow the outcome when it ends within a day of the last event for this share of the customers with
#: events, and at least this many, at ends that nobody else shares.
_TIED_SHARE, _TIED_MIN = 0.2, 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """Dated events and, per customer and kind, the span in which an event would have been seen.

    `events`: DataFrame, a row per event: `customer_id`, `kind`, `occurred_at` (UTC), `amount` (NaN where not given).
    `follow_up`: DataFrame, a row per customer and kind: `observed_until` (UTC), `observed_from` (UTC, NaT where not given).
    `rows` were read, of which `duplicates` were exact repeats of an earlier row and dropped.
    """

    source: str
    events: pd.DataFrame
    follow_up: pd.DataFrame
    rows: int
    duplicates: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of outcome, in alphabetical order."""
        return tuple(sorted(self.follow_up["kind"].unique()))


def read_outcomes(path: str | Path) -> Outcomes:
    """The outcomes of a CSV (UTF-8, comma) or Parquet file, told apart by content.

    Columns: `customer_id`, `kind`, `occurred_at`, `observed_until`, and optionally `amount` and `observed_from`; no others. Rules:

    - One row per event. A customer followed without an event has one row per kind with `occurred_at` empty: *censored* at
      `observed_until`, not a "no" forever. A customer and kind has either event rows or one empty row, never both.
    - `observed_until` is the *planned* end of observation (the day the data was taken, the end of the study), the same on all
      rows of a customer and kind. Where it ends at the event itself, the table is refused: only those without an event would
      then have a complete window. It must not be later than the data was taken.
    - `observed_from` says since when events would have been seen; without it the past is unknown, not empty.
    - Times carry a time zone; events lie between `observed_from` and `observed_until`, both included.
    - `amount` is a finite number or empty; a row without an event has none (0 is read as none).
    - Exact repeats of a row are dropped and counted.

    Raises:
        TableError: with file, line (CSV, counted from 1 with the header) or row (Parquet, from 1), and column.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        source = _read_parquet(path) if parquet else _read_csv(path)
    except FileNotFoundError:
        raise TableError("no such outcomes file", where=str(path), do="Check the path.") from None
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror or error}", where=str(path), do="Check the path and its permissions.") from None
    return _check(_parse(source), source)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Cells as they stood in the file: a column is an object array of text, or of typed values for Parquet."""

    name: str
    columns: dict[str, Any]
    lines: np.ndarray[Any, np.dtype[np.int64]]
    line_word: str

    def error(self, what: str, position: int, column: str, do: str) -> TableError:
        return TableError(what, where=f"{self.name}, {self.line_word} {self.lines[position]}, column {column}", do=do)


def _check_header(header: list[str], where: str) -> None:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise TableError("columns are not separated by commas", where=where, do="Save the file as comma-separated values.")
    for name in header:
        if header.count(name) > 1:
            raise TableError(f"the column {name!r} stands twice", where=where, do="Keep one of the two.")
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            do = f"Did you mean {close[0]!r}?" if close else f"The columns are {', '.join(COLUMNS)}; drop the others."
            raise TableError(f"unknown column {name!r}", where=where, do=do)
    if missing := [name for name in REQUIRED if name not in header]:
        raise TableError(f"the column {missing[0]!r} is missing", where=where, do=f"An outcomes table has {', '.join(REQUIRED)}.")


def _read_csv(path: Path) -> _Source:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TableError(f"not UTF-8 text (byte {error.start})", where=f"{path}, line {line}", do="Save the file as CSV in UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] = []
    try:
        for row in reader:
            if not row:
                continue
            if not header:
                header = [cell.strip() for cell in row]
                _check_header(header, f"{path}, line {reader.line_num}")
                continue
            if len(row) != len(header):
                what = f"{len(row)} cells where the header has {len(header)}"
                raise TableError(what, where=f"{path}, line {reader.line_num}", do="Give every row a cell per column; quote cells that hold commas.")
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise TableError(f"not CSV: {error}", where=f"{path}, line {reader.line_num}", do="Mend the quotes of that line.") from None
    if not rows:
        what = "has a header but no rows" if header else "is empty"
        raise TableError(what, where=str(path), do=f"Give a header ({','.join(COLUMNS)}) and a row per event.")
    cells = np.array(rows, dtype=object)
    columns = {name: np.array([cell.strip() for cell in cells[:, number]], dtype=object) for number, name in enumerate(header)}
    return _Source(name=str(path), columns=columns, lines=np.array(lines, dtype=np.int64), line_word="line")


def _read_parquet(path: Path) -> _Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise TableError(f"not readable as Parquet: {error}", where=str(path), do="Write the file again.") from None
    _check_header(table.column_names, str(path))
    if table.num_rows == 0:
        raise TableError("has no rows", where=str(path), do="Give a row per event.")
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        where = f"{path}, column {name}"
        if name in _TIMES and pa.types.is_timestamp(kind):
            if kind.tz is None:
                raise TableError("its times have no time zone", where=where, do="Write the column as timestamps with a time zone.")
            columns[name] = column.cast(pa.timestamp("us", tz="UTC"), safe=False).to_pandas()
        elif name == "amount" and number:
            # A null and a NaN are told apart: the first is "not given", the second is refused.
            columns[name] = np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=object)
        elif text or (name == "customer_id" and pa.types.is_integer(kind)):
            columns[name] = np.array(["" if value is None else str(value).strip() for value in column.to_pylist()], dtype=object)
        else:
            wanted = "timestamps with a time zone" if name in _TIMES else "numbers" if name == "amount" else "text"
            raise TableError(f"is of type {kind}", where=where, do=f"Write the column as {wanted}.")
    return _Source(name=str(path), columns=columns, lines=np.arange(1, table.num_rows + 1, dtype=np.int64), line_word="row")


def _parse(source: _Source) -> pd.DataFrame:
    """Typed columns, one row per row of the file; raises at the first cell that does not parse."""
    import pandas as pd

    size = len(source.lines)
    frame = pd.DataFrame({name: pd.Series(source.columns[name], dtype=object) for name in ("customer_id", "kind")})
    for name in ("customer_id", "kind"):
        if (empty := np.flatnonzero(frame[name].to_numpy() == "")).size:
            raise source.error(f"{name} is empty", int(empty[0]), name, f"Give every row a {name}.")
    _check_kinds(frame["kind"].unique().tolist(), source.name)
    for name in _TIMES:
        cells = source.columns.get(name, np.full(size, "", dtype=object))
        frame[name] = cells if isinstance(cells, pd.Series) else _times(cells, name, source)
    if (absent := np.flatnonzero(frame["observed_until"].isna())).size:
        raise source.error("observed_until is empty", int(absent[0]), "observed_until", "Say until when this customer was to be observed.")
    frame["amount"] = _amounts(source.columns.get("amount", np.full(size, "", dtype=object)), source)
    stray = frame["occurred_at"].isna() & frame["amount"].notna() & (frame["amount"] != 0)
    if stray.any():
        position = int(np.flatnonzero(stray)[0])
        raise source.error("an amount without occurred_at", position, "amount", "Date the event, or leave the amount empty.")
    frame.loc[frame["occurred_at"].isna(), "amount"] = np.nan
    return frame


def _check_kinds(kinds: list[str], name: str) -> None:
    seen: dict[str, str] = {}
    for kind in kinds:
        if (other := seen.setdefault(kind.casefold(), kind)) != kind:
            raise TableError(f"the kinds {other!r} and {kind!r} differ only in case", where=f"{name}, column kind", do="Write them alike.")


def _times(cells: Any, column: str, source: _Source) -> pd.Series[Any]:
    import pandas as pd

    codes, unique = pd.factorize(cells)  # a table has many rows and few distinct ends
    texts = pd.Series(unique, dtype=object)
    zoned = texts.str.fullmatch(_ZONED).astype(bool)
    times = pd.to_datetime(texts.where(zoned), format="ISO8601", utc=True, errors="coerce").dt.as_unit("us")
    wrong = (times.isna() & (texts != "")).to_numpy()
    if wrong.any():
        position = int(np.flatnonzero(wrong[codes])[0])
        cell = cells[position]
        naive = not zoned[codes[position]] and bool(pd.Series([cell + "Z", cell + "T00:00Z"]).str.fullmatch(_ZONED).any())
        what = f"{cell!r} has no time zone" if naive else f"{cell!r} is not a date and time between the years 1678 and 2261"
        raise source.error(what, position, column, _TIME_DO)
    expanded: pd.Series[Any] = times.take(codes).reset_index(drop=True)
    return expanded


def _amounts(cells: Any, source: _Source) -> Any:
    import pandas as pd

    given = cells != ""
    values = pd.to_numeric(pd.Series(np.where(given, cells, "nan"), dtype=object), errors="coerce").to_numpy(dtype=float)
    if (wrong := np.flatnonzero(given & ~np.isfinite(values))).size:
        position = int(wrong[0])
        do = "Write a finite number with a decimal point, no thousands separators, or leave it empty."
        raise source.error(f"{cells[position]!r} is not an amount", position, "amount", do)
    return values


def _check(frame: pd.DataFrame, source: _Source) -> Outcomes:
    """What no single cell shows: order of times, contradictions within a customer and kind, ends that follow the outcome."""
    repeated = frame.duplicated().to_numpy()
    at, until, since = frame["occurred_at"], frame["observed_until"], frame["observed_from"]
    for bad, what, column, do in (
        (at > until, "the event is after the row's own observed_until", "occurred_at", "Correct one of the two times."),
        (since > until, "observed_from is after observed_until", "observed_from", "Swap or correct the two times."),
        (at < since, "the event is before the row's own observed_from", "occurred_at", "Correct one of the two times."),
    ):
        if bad.any():
            raise source.error(what, int(np.flatnonzero(bad)[0]), column, do)
    pairs = frame.groupby(["customer_id", "kind"], sort=False)
    first = pairs.cumcount().eq(0)
    leader = np.flatnonzero(first)[pairs.ngroup().to_numpy()]  # position of the first row of each row's customer and kind
    for column in ("observed_until", "observed_from"):
        values = frame[column]
        lead = values.iloc[leader].reset_index(drop=True)
        differ = (values != lead) & ~(values.isna() & lead.isna())
        if differ.any():
            position = int(np.flatnonzero(differ)[0])
            what = f"{column} differs from {source.line_word} {source.lines[leader[position]]} of the same customer and kind"
            raise source.error(what, position, column, "A customer has one planned span of observation per kind.")
    mixed = at.isna().to_numpy() != at.isna().to_numpy()[leader]
    if mixed.any():
        position = int(np.flatnonzero(mixed)[0])
        what = f"{source.line_word} {source.lines[leader[position]]} of the same customer and kind contradicts it: one has an event, one says none"
        raise source.error(what, position, "occurred_at", "Keep either the events or the one row without an event.")
    _refuse_ends_at_event(frame, source)
    kept = frame[~repeated]
    events = kept.loc[kept["occurred_at"].notna(), ["customer_id", "kind", "occurred_at", "amount"]].reset_index(drop=True)
    follow_up = frame.loc[first.to_numpy(), ["customer_id", "kind", "observed_until", "observed_from"]].reset_index(drop=True)
    return Outcomes(source=source.name, events=events, follow_up=follow_up, rows=len(frame), duplicates=int(repeated.sum()))


def _refuse_ends_at_event(frame: pd.DataFrame, source: _Source) -> None:
    """Raise when observation stops because the event happened: complete windows would then be those without one."""
    import pandas as pd

    last = frame.groupby(["customer_id", "kind"], sort=False).agg(at=("occurred_at", "max"), until=("observed_until", "first")).reset_index()
    tied = last["at"].notna() & (last["until"] - last["at"] < pd.Timedelta(days=1))
    shared = pd.MultiIndex.from_frame(last[["kind", "until"]]).isin(pd.MultiIndex.from_frame(last.loc[~tied, ["kind", "until"]]))
    own = tied & ~shared
    for kind, rows in last.assign(own=own)[last["at"].notna()].groupby("kind"):
        found, among = int(rows["own"].sum()), len(rows)
        if found >= max(_TIED_MIN, _TIED_SHARE * among):
            raise TableError(
                f"observed_until follows the outcome: for {found} of {among} customers with a {kind}, observation ends within a day of the event",
                where=f"{source.name}, column observed_until",
                do="Give the planned end of observation (for example the day the data was taken), also for customers with an event.",
            )
