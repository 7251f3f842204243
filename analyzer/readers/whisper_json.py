"""JSON as whisperX, faster-whisper and openai-whisper write it: `segments` with times, words, and speaker labels where diarised."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from analyzer.readers.assemble import Piece, Source, assemble, in_time, mean_confidence
from analyzer.readers.fields import items, number, text_of
from analyzer.records import Transcript, Word

_WORD_TEXTS: Final = ("word", "text", "content")
_CONFIDENCES: Final = ("score", "probability", "confidence")


def read_whisper(obj: Mapping[str, Any], source: Source) -> Transcript:
    """One whisper-style object. A segment whose words carry different speakers is cut where the speaker changes.

    Raises:
        TranscriptError: a segment without text or with impossible times; names the segment.
    """
    pieces = [piece for place, segment in items(obj, "segments", source) for piece in _segment(segment, place, obj, source)]
    return assemble(in_time(pieces), source, language=text_of(obj, "language", source), duration_s=number(obj, "duration", source))


def _segment(segment: Mapping[str, Any], place: str, top: Mapping[str, Any], source: Source) -> Iterator[Piece]:
    text = text_of(segment, "text", source, place)
    if text is None:
        raise source.wrong("'text' is missing", place, do="Each segment needs text, start and end.")
    start_s, end_s = number(segment, "start", source, place), number(segment, "end", source, place)
    label = _label(segment)
    words = _words(segment, place, top, source)
    labels = [own if own is not None else label for own, _ in words]
    if len(set(labels)) > 1:
        yield from _by_speaker(labels, [word for _, word in words], place)
        return
    timed = tuple(word for _, word in words)
    confidence = mean_confidence(timed)
    if confidence is None and (logprob := number(segment, "avg_logprob", source, place, low=-math.inf)) is not None:
        confidence = min(1.0, math.exp(logprob))
    yield Piece(label=label if not labels else labels[0], text=text, place=place, start_s=start_s, end_s=end_s, confidence=confidence, words=timed)


def _by_speaker(labels: list[str | None], words: list[Word], place: str) -> Iterator[Piece]:
    begin = 0
    for end in range(1, len(words) + 1):
        if end < len(words) and labels[end] == labels[begin]:
            continue
        run = words[begin:end]
        yield Piece(
            label=labels[begin],
            text=" ".join(word.text for word in run),
            place=place,
            start_s=run[0].start_s,
            end_s=max(word.end_s for word in run),
            confidence=mean_confidence(run),
            words=tuple(run),
        )
        begin = end


def _label(obj: Mapping[str, Any]) -> str | None:
    for key in ("speaker", "channel"):
        value = obj.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{key} {value}"
    return None


def _words(segment: Mapping[str, Any], place: str, top: Mapping[str, Any], source: Source) -> list[tuple[str | None, Word]]:
    """The segment's words; one that could not be aligned (whisperX leaves out its times) is put between its neighbours."""
    if not segment.get("words"):
        return []
    rows = [(inner, row) for inner, row in items(_resolved(segment, top), "words", source, place)]
    starts = [number(row, "start", source, inner) for inner, row in rows]
    ends = [number(row, "end", source, inner) for inner, row in rows]
    here = number(segment, "start", source, place) or 0.0
    out = []
    for index, (inner, row) in enumerate(rows):
        start_s, end_s = starts[index], ends[index]
        if start_s is None:
            start_s = here
        if end_s is None:
            following = [s for s in starts[index + 1 :] if s is not None]
            end_s = max(start_s, following[0] if following else number(segment, "end", source, place) or start_s)
        text = next((str(row[key]) for key in _WORD_TEXTS if isinstance(row.get(key), str)), "").strip()
        confidences = [number(row, key, source, inner, high=1.0) for key in _CONFIDENCES if row.get(key) is not None]
        here = max(here, end_s)
        if text:
            out.append((_label(row), Word(text=text, start_s=start_s, end_s=end_s, confidence=confidences[0] if confidences else None)))
    return out


def _resolved(segment: Mapping[str, Any], top: Mapping[str, Any]) -> Mapping[str, Any]:
    """Words may be numbers of entries in the file's own list of words."""
    words, pool = segment["words"], top.get("words")
    if isinstance(words, list) and isinstance(pool, list) and all(isinstance(word, int) and 0 <= word < len(pool) for word in words):
        return {"words": [pool[word] for word in words]}
    return segment
