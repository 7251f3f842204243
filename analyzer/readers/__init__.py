"""Transcripts in any known format, told by content: the one door is `read_transcripts` for files and `read_text` for bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from analyzer.errors import TranscriptError
from analyzer.readers.amazon import read_call_analytics, read_standard
from analyzer.readers.assemble import Source
from analyzer.readers.subtitles import read_srt, read_webvtt
from analyzer.readers.vcon import read_vcon, write_vcon
from analyzer.readers.whisper_json import read_whisper
from analyzer.records import Transcript
from analyzer.wire import loads, transcript_from_json

__all__ = ["SUFFIXES", "read_text", "read_transcripts", "write_vcon"]

#: The endings under which transcripts are looked for in a folder.
SUFFIXES: Final = (".json", ".jsonl", ".ndjson", ".vtt", ".srt", ".vcon")
_LINE_SUFFIXES: Final = (".jsonl", ".ndjson")
#: Hours of speech with word times are some ten megabytes.
_MAX_BYTES: Final = 256 * 2**20
_KNOWN: Final = "JSON (native, whisperX, faster-whisper, Amazon Transcribe, vCon), JSON lines, WebVTT and SRT"
_BINARY: Final = (b"RIFF", b"OggS", b"fLaC", b"ID3", b"\xff\xfb", b"\xff\xf3", b"PK\x03\x04", b"%PDF", b"\x1f\x8b", b"PAR1")


def read_transcripts(path: Path) -> Iterator[Transcript | TranscriptError]:
    """The transcripts of one file, in order; a `call_id` the file does not give is the file's stem (JSON lines: stem-line).

    Nothing is raised: whatever cannot be read is yielded in its place as a `TranscriptError` that names file and place and
    what to do, so that one bad line of a `.jsonl` does not hide the others. Callers with one transcript raise what they get.
    A `.jsonl` is read line by line.
    """
    try:
        if path.suffix.lower() in _LINE_SUFFIXES:
            with path.open("rb") as file:
                yield from _read_lines(file, path.name, path.stem, where=str(path))
            return
        if path.stat().st_size > _MAX_BYTES:
            do = f"One transcript has at most {_MAX_BYTES // 2**20} MB; write many as JSON lines (.jsonl)."
            yield TranscriptError("the file is too large for one transcript", where=str(path), do=do)
            return
        data = path.read_bytes()
    except FileNotFoundError:
        yield TranscriptError("no such file", where=str(path), do="Check the path.")
    except OSError as error:
        yield TranscriptError(f"cannot be read: {error.strerror}", where=str(path), do="Check that it is a file and may be read.")
    else:
        yield from read_text(data, name=str(path))


def read_text(text: bytes, *, name: str) -> Iterator[Transcript | TranscriptError]:
    """The same from bytes; `name` is named in errors, its ending is a hint, and its stem serves for an id."""
    stem = Path(name).stem or name
    try:
        yield from _read_document(text, name, stem)
    except TranscriptError as error:
        yield error


def _read_document(data: bytes, name: str, stem: str) -> Iterator[Transcript | TranscriptError]:
    text = _decoded(data, name)
    source = Source(where=name, call_id=stem)
    if text.lstrip()[:1] not in ("{", "["):
        yield _read_subtitles(text, source)
        return
    lines = [line for line in data.splitlines() if line.strip()]
    if Path(name).suffix.lower() in _LINE_SUFFIXES:
        yield from _read_lines(lines, name, stem, where=name)
        return
    try:
        obj = loads(data, where=name)
    except TranscriptError:
        # JSON lines under another name, or from a pipe: most lines are objects of their own.
        objects = sum(line.strip().startswith(b"{") and line.strip().endswith(b"}") for line in lines)
        if len(lines) < 2 or objects * 2 <= len(lines):
            raise
        yield from _read_lines(data.splitlines(), name, stem, where=name)
        return
    yield from _read_json(obj, source)


def _read_lines(lines: Iterable[bytes], name: str, stem: str, *, where: str) -> Iterator[Transcript | TranscriptError]:
    empty = True
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        empty = False
        place = f"{where}, line {number}"
        try:
            if len(line) > _MAX_BYTES:
                raise TranscriptError("the line is too long for one transcript", where=place, do="Write one transcript a line.")
            yield read_object(loads(line, where=place), Source(where=place, call_id=f"{stem}-{number}"))
        except TranscriptError as error:
            yield error
    if empty:
        yield TranscriptError("the file is empty", where=where, do="Check the export that wrote it.")


def _read_json(obj: object, source: Source) -> Iterator[Transcript | TranscriptError]:
    if not isinstance(obj, list):
        yield read_object(obj, source)
        return
    if not obj:
        raise source.wrong("the list is empty", do="Check the export that wrote it.")
    if all(isinstance(item, dict) and "speaker" in item and "text" in item and "turns" not in item for item in obj):
        key = "segments" if any("start" in item and "end" in item for item in obj) and not _native_turns(obj) else "turns"
        yield read_object({key: obj}, source)
        return
    for number, item in enumerate(obj):
        inner = Source(where=f"{source.where}, item {number}", call_id=f"{source.call_id}-{number}")
        try:
            yield read_object(item, inner)
        except TranscriptError as error:
            yield error


def _native_turns(turns: list[Any]) -> bool:
    return all(turn["speaker"] in ("agent", "customer", "unknown", "other") for turn in turns)


def read_object(obj: object, source: Source) -> Transcript:
    """One transcript from a JSON object of any known format.

    Raises:
        TranscriptError: of no known format, or wrong within its format.
    """
    if not isinstance(obj, dict):
        kind = {list: "a list", str: "text", type(None): "null"}.get(type(obj), "a bare value")
        raise source.wrong(f"expected a transcript as a JSON object, found {kind}", do='Write {"turns": [...]}.')
    for fits, read in _FORMATS:
        if fits(obj):
            return read(obj, source)
    if "courtesy" in obj and "closing" in obj:
        raise source.wrong("this is a score, not a transcript", do="Give it to a verb that takes scores (--scores).")
    if "text" in obj:
        raise source.wrong("there is text but no segments or turns", do="Export with segments (whisper's JSON has them).")
    raise source.wrong("not a transcript of a known format", do=f"Known are {_KNOWN}.")


def _read_native(obj: Mapping[str, Any], source: Source) -> Transcript:
    return transcript_from_json(obj, where=source.where, call_id=source.call_id)


def _read_body(body: bytes | Mapping[str, Any], source: Source) -> Transcript:
    """A document inside a vCon."""
    if isinstance(body, bytes):
        text = _decoded(body, source.where)
        if text.lstrip()[:1] not in ("{", "["):
            return _read_subtitles(text, source)
        return read_object(loads(body, where=source.where), source)
    return read_object(body, source)


def _has(*keys: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda obj: all(key in obj for key in keys)


def _is_call_analytics(obj: Mapping[str, Any]) -> bool:
    return isinstance(obj.get("Transcript"), list)


def _is_standard(obj: Mapping[str, Any]) -> bool:
    results = obj.get("results")
    return isinstance(results, dict) and ("items" in results or "channel_labels" in results)


#: Tried in this order; `vcon` before the others because a vCon holds other formats inside.
_FORMATS: Final[tuple[tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any], Source], Transcript]], ...]] = (
    (_has("vcon"), lambda obj, source: read_vcon(obj, source, _read_body)),
    (_has("parties", "dialog"), lambda obj, source: read_vcon(obj, source, _read_body)),
    (_has("payload", "signatures"), lambda obj, source: read_vcon(obj, source, _read_body)),
    (_has("turns"), _read_native),
    (_is_call_analytics, read_call_analytics),
    (_is_standard, read_standard),
    (_has("segments"), read_whisper),
)


def _read_subtitles(text: str, source: Source) -> Transcript:
    if re.match(r"WEBVTT(?:[ \t\n]|$)", text.lstrip("\ufeff")):
        return read_webvtt(text, source)
    if "-->" in text:
        return read_srt(text, source)
    raise source.wrong("not a transcript of a known format: neither JSON nor subtitles", do=f"Known are {_KNOWN}.")


def _decoded(data: bytes, where: str) -> str:
    """UTF-8 text with plain line ends, or an error that says what the bytes look like instead."""
    if not data.strip():
        raise TranscriptError("the file is empty", where=where, do="Check the export that wrote it.")
    head = data[:200]
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff")) or (b"\0" in head and max(head[::2].count(0), head[1::2].count(0)) > len(head) // 3)
    if utf16 and not head.startswith(_BINARY):
        raise TranscriptError("the text is in UTF-16", where=where, do="Save the file as UTF-8.")
    if head.startswith(_BINARY) or b"\0" in data:
        do = "Give a recording to the verbs that take recordings, under its own ending; a transcript is text."
        raise TranscriptError("this is not text", where=where, do=do)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        do = "It looks like Latin-1 or Windows-1252; save the file as UTF-8."
        raise TranscriptError(f"not UTF-8 text (byte {error.start})", where=f"{where}, line {line}", do=do) from None
