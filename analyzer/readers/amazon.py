"""Amazon Transcribe JSON: standard jobs (speaker or channel labels) and Call Analytics (roles named by the service)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from analyzer.readers.assemble import Piece, Source, assemble, in_time, mean_confidence, phrases
from analyzer.readers.fields import child, items, number, text_of
from analyzer.records import Transcript, Word


def read_standard(obj: Mapping[str, Any], source: Source) -> Transcript:
    """A standard job's `results`: words with `channel_labels`, `speaker_labels`, or neither (one unknown voice).

    Raises:
        TranscriptError: a word without content or with impossible times; names the item.
    """
    results = child(obj, "results")
    channels = child(results, "channel_labels")
    if channels:
        words = [
            word
            for place, channel in items(channels, "channels", source, "channel_labels")
            for word in _items(channel, place, text_of(channel, "channel_label", source, place), source)
        ]
    else:
        words = _items(results, "results", None, source, _labels_by_time(results, source))
    return assemble(phrases(words, "the words"), source, language=text_of(results, "language_code", source))


def read_call_analytics(obj: Mapping[str, Any], source: Source) -> Transcript:
    """A Call Analytics (or Contact Lens) file: `Transcript` is a list of turns with `ParticipantRole`, or with the id of a participant.

    Raises:
        TranscriptError: a turn without content or with impossible times; names the turn.
    """
    roles = {
        str(person["ParticipantId"]): person["ParticipantRole"]
        for _, person in items(obj, "Participants", source)
        if isinstance(person.get("ParticipantRole"), str) and "ParticipantId" in person
    }
    pieces = [_turn(turn, place, roles, source) for place, turn in items(obj, "Transcript", source)]
    total = number(child(obj, "ConversationCharacteristics"), "TotalConversationDurationMillis", source)
    return assemble(
        in_time(pieces),
        source,
        language=text_of(obj, "LanguageCode", source),
        duration_s=None if total is None else total / 1000,
    )


def _turn(turn: Mapping[str, Any], place: str, roles: Mapping[str, str], source: Source) -> Piece:
    text = text_of(turn, "Content", source, place)
    if text is None:
        raise source.wrong("'Content' is missing", place, do="Each turn needs Content, BeginOffsetMillis and EndOffsetMillis.")
    role, participant = text_of(turn, "ParticipantRole", source, place), text_of(turn, "ParticipantId", source, place)
    label = role or (roles.get(participant, participant) if participant else None)
    start_s, end_s = _millis(turn, "BeginOffsetMillis", source, place), _millis(turn, "EndOffsetMillis", source, place)
    words: list[Word] = []
    for inner, item in items(turn, "Items", source, place):
        content = text_of(item, "Content", source, inner) or ""
        if item.get("Type") == "punctuation":
            _punctuate(words, content)
        elif content:
            begin, end = _millis(item, "BeginOffsetMillis", source, inner), _millis(item, "EndOffsetMillis", source, inner)
            if begin is None or end is None:
                raise source.wrong("the word has no times", inner, do="Export the file again.")
            words.append(Word(text=content, start_s=begin, end_s=end, confidence=number(item, "Confidence", source, inner, high=1.0)))
    return Piece(label=label, text=text, place=place, start_s=start_s, end_s=end_s, confidence=mean_confidence(words), words=tuple(words))


def _millis(obj: Mapping[str, Any], key: str, source: Source, place: str) -> float | None:
    value = number(obj, key, source, place)
    return None if value is None else value / 1000


def _labels_by_time(results: Mapping[str, Any], source: Source) -> dict[str, str]:
    """Older files give speakers only in `speaker_labels`, item by item, keyed by the item's start time as written."""
    return {
        str(item["start_time"]): item["speaker_label"]
        for place, segment in items(child(results, "speaker_labels"), "segments", source, "speaker_labels")
        for _, item in items(segment, "items", source, place)
        if isinstance(item.get("speaker_label"), str) and "start_time" in item
    }


def _items(
    holder: Mapping[str, Any], place: str, label: str | None, source: Source, by_time: Mapping[str, str] | None = None
) -> list[tuple[str | None, Word]]:
    """Labelled words of one list of items; punctuation is put to the word before it."""
    words: list[Word] = []
    labels: list[str | None] = []
    for inner, item in items(holder, "items", source, place):
        content, confidence = _best(item, inner, source)
        if item.get("type") == "punctuation":
            _punctuate(words, content)
            continue
        start_s, end_s = number(item, "start_time", source, inner), number(item, "end_time", source, inner)
        if start_s is None or end_s is None or not content:
            raise source.wrong("the word has no content or no times", inner, do="Export the file again.")
        own = text_of(item, "speaker_label", source, inner) or (by_time or {}).get(str(item["start_time"]))
        words.append(Word(text=content, start_s=start_s, end_s=end_s, confidence=confidence))
        labels.append(label if label is not None else own)
    return list(zip(labels, words, strict=True))


def _best(item: Mapping[str, Any], place: str, source: Source) -> tuple[str, float | None]:
    alternatives: Iterator[tuple[str, Mapping[str, Any]]] = items(item, "alternatives", source, place)
    inner, best = next(alternatives, (place, item))
    return text_of(best, "content", source, inner) or "", number(best, "confidence", source, inner, high=1.0)


def _punctuate(words: list[Word], mark: str) -> None:
    if words:
        words[-1] = replace(words[-1], text=words[-1].text + mark)
