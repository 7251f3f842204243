"""Calls that people rated, read strictly: JSON Lines with transcripts inside, or a CSV table beside transcript files."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from analyzer.errors import AnalyzerError, TableError, TranscriptError
from analyzer.readers import read_transcripts
from analyzer.readers.folder import scan
from analyzer.readers.tables import overlay
from analyzer.records import CAUSES, DIMENSIONS, LABELS, CallInfo, Failure, Transcript
from analyzer.wire import loads, transcript_from_json

_LINES: Final = (".jsonl", ".json", ".ndjson")
_TURNS: Final = {f"{name}_turns": name for name in DIMENSIONS}
_COLUMNS: Final = ("call_id", "rater", "transcript", "pair", *DIMENSIONS, "cause", *_TURNS)
#: Columns that would be read as parts of a transcript.
_TAKEN: Final = frozenset({"id", "turns", "events", "asr", "duration_s", "role_confidence", "redacted", "labels", "evidence", "ratings", "disputed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledCall:
    """A call with what its raters said.

    `labels` holds one label per rated dimension, `evidence` the turns that carry it, `ratings` each rater's labels where several
    are given, `disputed` the dimensions to leave out of figures. Calls of one `pair` are versions of one call that differ in a few turns.
    """

    transcript: Transcript
    labels: Mapping[str, str]
    cause: str | None = None
    evidence: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ratings: tuple[Mapping[str, str], ...] = ()
    disputed: frozenset[str] = frozenset()
    pair: str | None = None

    @property
    def conversation(self) -> str:
        """What is drawn or split as one: versions of one call stay together, and so do the legs of a contact."""
        return self.pair or self.transcript.info.contact_id or self.transcript.info.call_id


def read_labels(path: Path, transcripts: Path | None = None) -> tuple[LabelledCall, ...]:
    """Labelled calls from JSON Lines, one call a line, or from a CSV table, one rating a row.

    JSON Lines: a transcript with its labels, either together, `"labels": {"courtesy": "neutral", …, "cause": "policy"}` with
    `"evidence": {"courtesy": [3]}`, or as the codebook writes them, `"courtesy": {"label": "neutral", "turns": [3]}`. A dimension may be absent;
    a call without any label is an error. Optional: `ratings` (a list of labels objects, one per rater), `disputed` (names of dimensions), `pair`.

    CSV: columns `call_id`, `courtesy`, `resolution`, `cause`, `closing` (cells may be empty), and optional ones: `rater`; `courtesy_turns`,
    `resolution_turns`, `closing_turns` (turn numbers from 0, with spaces between); `pair`; `transcript`, a path relative to the folder `transcripts`,
    else to the CSV, of a file in any format that is read. Without that column the folder is searched for a transcript of that call id. Further
    columns belong to the call (queue, region, …). Several rows of one call are several raters: the label is that of most, and a dimension without
    a majority is disputed. Evidence is the turns of all who gave that label.

    Raises:
        TableError: the file cannot be read, or a line has a wrong field, label, turn number or transcript, or a call (or rater of a call) twice.
    """
    suffix = path.suffix.lower()
    if suffix not in (*_LINES, ".csv"):
        what = f"labels in {path.suffix or 'a file without extension'} are not read"
        raise TableError(what, where=str(path), do="Give JSON Lines (.jsonl), one labelled call a line, or a table (.csv), one rating a row.")
    if suffix in _LINES and transcripts is not None:
        raise TableError("JSON Lines hold their transcripts", where=str(path), do="Leave the folder of transcripts out, or give labels as CSV.")
    try:
        calls = tuple(_from_lines(path) if suffix in _LINES else _from_table(path, transcripts))
    except TranscriptError as error:
        raise TableError(error.what, where=error.where, do=error.do) from None
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}", where=str(path), do="Check the path and its permissions.") from None
    except UnicodeDecodeError as error:
        raise TableError(f"cannot be read: not UTF-8 text (byte {error.start})", where=str(path), do="Save the file as UTF-8.") from None
    if not calls:
        raise TableError("there are no labelled calls", where=str(path), do="Write one labelled call a line.")
    return calls


def _from_lines(path: Path) -> Iterator[LabelledCall]:
    seen: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        call = _labelled(loads(line, where=where), where)
        name = call.transcript.info.call_id
        if name in seen:
            raise TableError(f"call {name!r} stands twice", where=where, do="Keep one line per call.")
        seen.add(name)
        yield call


def _labelled(obj: object, where: str) -> LabelledCall:
    transcript = transcript_from_json(obj, where=where)
    assert isinstance(obj, dict)  # transcript_from_json saw to it
    record: dict[str, Any] = obj
    own = {name: record[name] for name in DIMENSIONS if isinstance(record.get(name), dict)}
    given = record.get("labels", {name: part.get("label") for name, part in own.items()})
    labels, cause = _labels(given, where)
    if not labels:
        raise TableError("no dimension is labelled", where=where, do=f"Give at least one of {', '.join(DIMENSIONS)}.")
    evidence = record.get("evidence", {name: part.get("turns", []) for name, part in own.items()})
    if cause is None and "resolution" in own:
        cause = _one_of(own["resolution"].get("cause"), CAUSES, "cause", where)
    ratings = record.get("ratings", [])
    disputed = record.get("disputed", [])
    if not isinstance(ratings, list) or not isinstance(disputed, list) or not all(name in DIMENSIONS for name in disputed):
        raise TableError(
            "'ratings' or 'disputed' is not a list of the expected kind", where=where, do=f"disputed lists some of {', '.join(DIMENSIONS)}."
        )
    pair = record.get("pair")
    if pair is not None and not (isinstance(pair, str) and pair):
        raise TableError("'pair' must be text", where=where, do="Give both versions of a call the same name.")
    return LabelledCall(
        transcript=transcript,
        labels=labels,
        cause=cause,
        evidence=_evidence(evidence, len(transcript.turns), where),
        ratings=tuple(_labels(rating, where)[0] for rating in ratings),
        disputed=frozenset(disputed),
        pair=pair,
    )


def _labels(given: object, where: str) -> tuple[dict[str, str], str | None]:
    if not isinstance(given, dict):
        raise TableError("'labels' must be an object", where=where, do='Write it like {"courtesy": "neutral", "closing": "singing"}.')
    if unknown := [name for name in given if name not in (*DIMENSIONS, "cause")]:
        raise TableError(f"unknown dimension {unknown[0]!r}", where=where, do=f"The dimensions are {', '.join(DIMENSIONS)}, and cause.")
    labels = {name: label for name in DIMENSIONS if (label := _one_of(given.get(name), LABELS[name], name, where)) is not None}
    return labels, _one_of(given.get("cause"), CAUSES, "cause", where)


def _one_of(value: object, choices: tuple[str, ...], name: str, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in choices:
        raise TableError(f"unknown {name} label {value!r}", where=where, do=f"It is one of {', '.join(choices)}.")
    return value


def _evidence(given: object, turns: int, where: str) -> dict[str, tuple[int, ...]]:
    if not isinstance(given, dict):
        raise TableError("'evidence' must be an object", where=where, do='Write it like {"courtesy": [3, 7]}.')
    out: dict[str, tuple[int, ...]] = {}
    for name, numbers in given.items():
        if name not in DIMENSIONS:
            continue  # corpora mark evidence of further questions
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < turns for n in numbers):
            raise TableError(f"evidence of {name} names a turn that is not there", where=where, do=f"Count turns from 0; this call has {turns}.")
        out[name] = tuple(numbers)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rating:
    """One row of a table."""

    where: str
    cells: Mapping[str, str]
    labels: Mapping[str, str]
    cause: str | None
    turns: Mapping[str, tuple[int, ...]]


def _from_table(path: Path, folder: Path | None) -> Iterator[LabelledCall]:
    by_call: dict[str, list[_Rating]] = {}
    raters: dict[str, None] = {}
    for where, cells in _rows(path):
        rating = _rating(where, cells)
        others = by_call.setdefault(cells["call_id"], [])
        if same := next((one for one in others if "rater" in cells and one.cells.get("rater") == cells["rater"]), None):
            what = f"rater {cells['rater']!r} stands twice for call {cells['call_id']!r}, also in {same.where}"
            raise TableError(what, where=where, do="Keep one row per call and rater.")
        others.append(rating)
        raters.setdefault(cells.get("rater", ""))
    # The first rater of every call is the same person where one rated them all: kappa is about two people's habits.
    order = {name: place for place, name in enumerate(raters)}
    for call_id, ratings in by_call.items():
        by_call[call_id] = sorted(ratings, key=lambda one: order[one.cells.get("rater", "")])
    found = _Transcripts(path, folder, {call_id for call_id, ratings in by_call.items() if not any("transcript" in r.cells for r in ratings)})
    for call_id, ratings in by_call.items():
        yield _agreed(ratings, found.of(call_id, ratings))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows as (where, non-empty cells); the header is checked first."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            _check_header(header, path)
            last = reader.line_num
            for cells in reader:
                where, last = f"{path}, line {last + 1}", reader.line_num
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise TableError(f"{len(cells)} cells under {len(header)} columns", where=where, do="Quote cells that hold a comma.")
                row = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
                if "call_id" not in row:
                    raise TableError("call_id is empty", where=where, do="Name the call in every row.")
                yield where, row
        except csv.Error as error:
            raise TableError(f"not CSV: {error}", where=f"{path}, line {reader.line_num}", do="Save the table as comma-separated CSV.") from None


def _check_header(header: Sequence[str], path: Path) -> None:
    where = f"{path}, line 1"
    if "call_id" not in header or not set(header) & set(DIMENSIONS):
        do = "Separate columns with commas; the first line names them: call_id, courtesy, resolution, cause, closing."
        raise TableError("there is no column 'call_id', or none of a dimension", where=where, do=do)
    if doubled := next((name for name in header if header.count(name) > 1), None):
        raise TableError(f"the column {doubled!r} stands twice", where=where, do="Keep one of the two.")
    if taken := next((name for name in header if name in _TAKEN), None):
        do = f"Turns that carry a label stand in {', '.join(_TURNS)}; give other columns another name."
        raise TableError(f"the column {taken!r} is named like a part of a transcript", where=where, do=do)
    for name in header:
        close = difflib.get_close_matches(name, _COLUMNS, n=1, cutoff=0.85)
        if name not in _COLUMNS and close and close[0] not in header:
            raise TableError(f"unknown column {name!r}", where=where, do=f"Did you mean {close[0]!r}?")


def _rating(where: str, cells: Mapping[str, str]) -> _Rating:
    labels, cause = _labels({name: cells.get(name) for name in (*DIMENSIONS, "cause")}, where)
    if not labels:
        raise TableError("no dimension is labelled", where=where, do=f"Give at least one of {', '.join(DIMENSIONS)}.")
    turns: dict[str, tuple[int, ...]] = {}
    for column, name in _TURNS.items():
        numbers = re.split(r"[\s,;]+", cells[column].strip(" ,;")) if column in cells else []
        if not all(number.isdecimal() for number in numbers):
            raise TableError(f"{column} holds something else than turn numbers", where=where, do="Write it like: 3 7")
        turns[name] = tuple(int(number) for number in numbers)
    return _Rating(where=where, cells=cells, labels=labels, cause=cause, turns=turns)


def _agreed(ratings: Sequence[_Rating], transcript: Transcript) -> LabelledCall:
    """What most of the raters say; where as many say otherwise, the dimension is disputed and the first rater's label stands."""
    labels: dict[str, str] = {}
    evidence: dict[str, tuple[int, ...]] = {}
    disputed = set()
    for name in DIMENSIONS:
        votes = Counter(one.labels[name] for one in ratings if name in one.labels).most_common()
        if not votes:
            continue
        labels[name] = votes[0][0]
        if len(votes) > 1 and votes[0][1] == votes[1][1]:
            disputed.add(name)
        for one in ratings:
            if missing := [number for number in one.turns.get(name, ()) if number >= len(transcript.turns)]:
                do = f"Count turns from 0; this call has {len(transcript.turns)}."
                raise TableError(f"{name}_turns names turn {missing[0]}, which is not there", where=one.where, do=do)
        evidence[name] = tuple(sorted({number for one in ratings if one.labels.get(name) == labels[name] for number in one.turns[name]}))
    causes = Counter(one.cause for one in ratings if one.cause is not None and one.labels.get("resolution") == labels.get("resolution"))
    return LabelledCall(
        transcript=transcript,
        labels=labels,
        cause=causes.most_common(1)[0][0] if causes else None,
        evidence=evidence,
        ratings=tuple(one.labels for one in ratings) if len(ratings) > 1 else (),
        disputed=frozenset(disputed),
        pair=_same(ratings, "pair"),
    )


def _same(ratings: Sequence[_Rating], column: str) -> str | None:
    """A cell that belongs to the call: raters may leave it out, but not differ."""
    given = [one for one in ratings if column in one.cells]
    for one in given:
        if one.cells[column] != given[0].cells[column]:
            what = f"{column} is {one.cells[column]!r} here and {given[0].cells[column]!r} in {given[0].where}"
            raise TableError(what, where=one.where, do="Give every row of one call the same.")
    return given[0].cells[column] if given else None


class _Transcripts:
    """The transcripts that a table's rows name: by path, or by call id among those below a folder."""

    def __init__(self, table: Path, folder: Path | None, wanted: set[str]) -> None:
        self._root = table.parent if folder is None else folder
        self._folder = folder
        self._by_id: dict[str, Transcript] = {}
        self._by_path: dict[str, list[Transcript]] = {}
        self._unread: list[Failure] = []
        for call in scan(folder) if folder is not None and wanted else ():
            if isinstance(call, Failure):
                self._unread.append(call)
            elif call.ready is not None and call.info.call_id in wanted:
                self._by_id[call.info.call_id] = call.ready

    def of(self, call_id: str, ratings: Sequence[_Rating]) -> Transcript:
        """The transcript of a call, with what its row says of it laid over what it says itself."""
        where, name = ratings[0].where, _same(ratings, "transcript")
        if name is not None:
            heard = self._read(name, call_id, where)
        elif self._folder is None:
            do = "Name its file in a column 'transcript', or give the folder of transcripts."
            raise TableError(f"call {call_id!r} has no transcript", where=where, do=do)
        elif call_id in self._by_id:
            heard = self._by_id[call_id]
        else:
            do = "Bring one by that call id or file name, or name its file in a column 'transcript'."
            if self._unread:
                do += f" Not read there: {self._unread[0].message}"
            raise TableError(f"there is no transcript of call {call_id!r} below {self._folder}", where=where, do=do)
        return dataclasses.replace(heard, info=overlay(heard.info, _info(call_id, ratings)))

    def _read(self, name: str, call_id: str, where: str) -> Transcript:
        if name not in self._by_path:
            held: list[Transcript] = []
            for item in read_transcripts(self._root / name):
                if isinstance(item, AnalyzerError):
                    raise TableError(f"the transcript of call {call_id!r} cannot be used: {item}", where=where)
                held.append(item)
            self._by_path[name] = held
        held = self._by_path[name]
        if len(held) == 1:
            return held[0]
        if (own := next((one for one in held if one.info.call_id == call_id), None)) is None:
            raise TableError(f"{name} holds {len(held)} calls, none of them {call_id!r}", where=where, do="Name each call as that file does.")
        return own


def _info(call_id: str, ratings: Sequence[_Rating]) -> CallInfo:
    cells: dict[str, Any] = {}
    for one in ratings:
        cells = {name: value for name, value in one.cells.items() if name not in _COLUMNS} | cells
    if "leg" in cells:
        cells["leg"] = int(cells["leg"]) if cells["leg"].isdecimal() else cells["leg"]
    return transcript_from_json({**cells, "call_id": call_id, "turns": []}, where=ratings[0].where, empty_ok=True).info
