"""What there is to do: recordings and transcripts in folders and files, each with what the calls table knows of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from analyzer.errors import AnalyzerError, InputError
from analyzer.readers import read_transcripts
from analyzer.readers.tables import EMPTY, CallRow, CallsTable, overlay
from analyzer.records import CallInfo, Failure, Transcript

RECORDINGS: Final = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".gsm", ".webm", ".wma", ".au", ".aiff"})
TRANSCRIPTS: Final = frozenset({".json", ".jsonl", ".vtt", ".srt", ".vcon"})
#: What lies beside recordings without being a call.
_COMPANIONS: Final = frozenset([".csv", ".parquet", ".md", ".txt", ".toml", ".py", ".html", ".pdf", ".db", ".db-wal", ".db-shm", ".yaml", ".yml"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call to do. `source` is its lasting name in a store; `ready` its words, where they were given."""

    source: str
    info: CallInfo
    path: Path | None = None
    ready: Transcript | None = None


def find_calls(sources: Iterable[str | Path | Transcript], *, ready: bool = True) -> Iterator[Call | Failure]:
    """The calls of files and transcripts, in the order given; with `ready`, a transcript beside a recording stands for it."""
    for source in sources:
        if isinstance(source, Transcript):
            yield Call(source=f"transcript:{source.info.call_id}", info=source.info, ready=source)
        else:
            yield from _file(Path(source), str(source), EMPTY, ready)


def scan(folder: Path, table: CallsTable = EMPTY, *, exclude: Iterable[str] = (), ready: bool = True) -> Iterator[Call | Failure]:
    """The calls below a folder, in order of path: hidden files and known companions (tables, notes) are passed over.

    Files that `exclude` matches (globs on the path below the folder) are left out. What cannot be read, an unknown
    extension, a link out of the folder, a call id that stands twice and a file that only the table knows are failures.

    Raises:
        InputError: `folder` is not a folder that can be listed.
    """
    root = folder.resolve().as_posix()
    # Days of recordings lie in folders of like names: what lasts in a store names the whole path.
    for item in _scan(folder, table, exclude, ready):
        yield dataclasses.replace(item, source=f"{root}/{item.source}")


def _scan(folder: Path, table: CallsTable, exclude: Iterable[str], ready: bool) -> Iterator[Call | Failure]:
    if not folder.is_dir():
        raise InputError("not a folder", where=str(folder), do="Give the folder that holds the recordings.")
    yield from table.failures
    bad_rows = {failure.call_id for failure in table.failures}
    seen: set[str] = set()
    reached: set[str] = set()
    refused: list[OSError] = []
    for path in _files(folder, refused):
        name = path.relative_to(folder).as_posix()
        reached.add(name)
        if any(fnmatch(name, pattern) for pattern in exclude):
            continue
        for call in _file(path, name, table, ready) if _inside(path, folder) else [_linked_out(name)]:
            if isinstance(call, Call):
                if call.info.call_id in bad_rows:  # its table row is a failure already
                    continue
                if call.info.call_id in seen:
                    yield _twice(call)
                    continue
                seen.add(call.info.call_id)
            yield call
    for error in refused:
        name = Path(error.filename).relative_to(folder).as_posix()
        message = f"{name}: the folder cannot be listed: {error.strerror}. Check its permissions."
        yield Failure(source=name, reason=InputError.reason, message=message)
    yield from (_missing(row) for row in table.rows.values() if row.file is not None and row.file not in reached)


def _files(folder: Path, refused: list[OSError]) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        stems = {Path(name).stem for name in names if Path(name).suffix.lower() in RECORDINGS}
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            beside_recording = suffix in TRANSCRIPTS and Path(name).stem in stems
            if not name.startswith(".") and suffix not in _COMPANIONS and not beside_recording:
                yield Path(root, name)


def _inside(path: Path, folder: Path) -> bool:
    return not path.is_symlink() or path.resolve().is_relative_to(folder.resolve())


def _file(path: Path, name: str, table: CallsTable, ready: bool) -> Iterator[Call | Failure]:
    suffix = path.suffix.lower()
    if suffix in TRANSCRIPTS:
        yield from _transcripts(path, name, table)
        return
    row = table.find(name, path.stem)
    info = row.info if row else CallInfo(call_id=path.stem)
    if path.is_dir():
        message = f"{name}: is a folder. Use `analyzer batch` for folders."
        yield Failure(source=name, reason=InputError.reason, message=message, call_id=info.call_id)
        return
    if suffix not in RECORDINGS:
        known = " ".join(sorted(RECORDINGS | TRANSCRIPTS))
        message = f"{name}: unknown extension {suffix or '(none)'!r}. Recordings and transcripts end in {known}."
        yield Failure(source=name, reason=InputError.reason, message=message, call_id=info.call_id)
        return
    beside = next((other for end in sorted(TRANSCRIPTS) if (other := path.with_suffix(end)).is_file()), None) if ready else None
    if beside is None:
        yield Call(source=name, info=info, path=path)
        return
    for call in _transcripts(beside, name, table):
        # The recording's row and name hold, whatever the transcript calls itself.
        yield Call(source=name, info=overlay(call.info, info), path=path, ready=call.ready) if isinstance(call, Call) else call


def _transcripts(path: Path, name: str, table: CallsTable) -> Iterator[Call | Failure]:
    try:
        for item in read_transcripts(path):
            if isinstance(item, AnalyzerError):
                yield Failure(source=item.where or name, reason=item.reason, message=str(item))
                continue
            row = table.find(name, item.info.call_id)
            lone = item.info.call_id == path.stem
            yield Call(source=name if lone else f"{name}#{item.info.call_id}", info=overlay(item.info, row.info) if row else item.info, ready=item)
    except AnalyzerError as error:
        yield Failure(source=name, reason=error.reason, message=str(error), call_id=path.stem)


def _twice(call: Call) -> Failure:
    message = f"{call.source}: the call id {call.info.call_id!r} stands twice. Give each call an id of its own, in the calls table or by file name."
    return Failure(source=call.source, reason=InputError.reason, message=message, call_id=call.info.call_id)


def _linked_out(name: str) -> Failure:
    message = f"{name}: a symbolic link out of the folder. Copy the file into the folder, or run on the folder it is in."
    return Failure(source=name, reason=InputError.reason, message=message)


def _missing(row: CallRow) -> Failure:
    message = f"{row.where}: the file {row.file!r} is not in the folder. Mend the name, or bring the file."
    return Failure(source=row.file or row.where, reason=InputError.reason, message=message, call_id=row.info.call_id)
