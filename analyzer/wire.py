"""Strict JSON to nouns: transcripts and scores as DESIGN.md writes them, each wrong field named."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, cast

from analyzer.errors import TranscriptError
from analyzer.records import (
    CAUSES,
    LABELS,
    OPENING_LABELS,
    SCHEMA,
    SPEAKERS,
    CallInfo,
    CallScore,
    Event,
    Evidence,
    Flag,
    Judgement,
    Offer,
    Promise,
    Speaker,
    Talk,
    Transcript,
    Turn,
    Word,
)

_INFO_TEXTS: Final = ("agent_id", "customer_id", "contact_id", "direction", "queue", "reason", "disposition", "ended_by")
_INFO_KEYS: Final = ("call_id", "id", "started_at", "leg", *_INFO_TEXTS)
_TRANSCRIPT_KEYS: Final = ("turns", "language", "events", "asr", "duration_s", "role_confidence", "redacted")
_TURN_KEYS: Final = ("speaker", "text", "start_s", "end_s", "start", "end", "channel", "confidence", "words")
_SCORE_KEYS: Final = ("schema", "asr", "model", *LABELS, "opening", "promises", "offers", "flags", "talk", "redacted")
_EVENT_KINDS: Final = ("music", "ringing", "hold", "silence", "dtmf", "noise")
_MAX_TURNS: Final = 100_000
_NAME_LIKE: Final = re.compile(r"[\w.:+-]{1,40}")
_DATE_LIKE: Final = re.compile(r"(?:19|20)\d\d-[01]\d-[0-3]\d(?:[T ][0-2]\d:[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?)?")
#: As many digits name a person or a card.
_TELLING_DIGITS: Final = 7


def quoted(value: object, *, date: bool = False) -> str:
    """The value as an error may show it: a name, a date where one is wanted, a short number; of all else, which may be a call's words, its size."""
    text = str(value)
    digits = sum(char.isdigit() for char in text)
    if isinstance(value, str):
        shown = (digits < _TELLING_DIGITS and _NAME_LIKE.fullmatch(text)) or (date and _DATE_LIKE.fullmatch(text))
        return repr(value) if shown else f"a text of {len(text)} characters"
    if isinstance(value, int | float):
        return text if digits < _TELLING_DIGITS else f"a number of {digits} digits"
    return _kind(value)


def loads(text: str | bytes, *, where: str) -> object:
    """Strict JSON: UTF-8, no NaN, no infinity, no duplicate keys.

    Raises:
        TranscriptError: what is wrong, with line and column where there is one.
    """

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        out = dict(items)
        if len(out) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise TranscriptError(f"the key {quoted(twice)} stands twice in one object", where=where, do="Keep one of the two.")
        return out

    def refuse(name: str) -> object:
        raise TranscriptError(f"{name} is not a JSON number", where=where, do="Write null where a number is unknown.")

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return cast(object, json.loads(text, object_pairs_hook=pairs, parse_constant=refuse))
    except UnicodeDecodeError as error:
        raise TranscriptError(f"not UTF-8 text (byte {error.start})", where=where, do="Save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise TranscriptError(f"not JSON: {error.msg} at {place}", where=where, do="Mend the file at that place.") from None
    except RecursionError:
        raise TranscriptError("nested too deeply", where=where, do="A transcript is an object with a list of turns.") from None
    except ValueError as error:  # a number with more digits than Python reads
        raise TranscriptError(f"not JSON: {error}", where=where, do="Mend the file.") from None


def parse_time(value: object, *, where: str) -> datetime:
    """An ISO 8601 date and time with its offset from UTC.

    Raises:
        TranscriptError: not a time, or without an offset.
    """
    do = "Write it like 2026-03-02T10:15:00+00:00."
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None:
        raise TranscriptError(f"{quoted(value, date=True)} is not a date and time", where=where, do=do)
    if time.tzinfo is None:
        raise TranscriptError(f"{quoted(value, date=True)} has no time zone", where=where, do=do)
    return time


def transcript_from_json(obj: object, *, where: str = "transcript", call_id: str | None = None, empty_ok: bool = False) -> Transcript:
    """Read one transcript; `call_id` serves when the object names none. Further top-level keys become covariates.

    `empty_ok` allows no turns at all, as our own transcript of a recording without speech has.

    Raises:
        TranscriptError: a field is missing or of a wrong type, a speaker is unknown, there are no turns, or turns are out of order.
    """
    top = _Fields(obj, where)
    raw_turns = list(top.items("turns", required=True))
    if not raw_turns and not empty_ok:
        raise TranscriptError("there are no turns", where=where, do="A transcript needs at least one turn with speaker and text.")
    if len(raw_turns) > _MAX_TURNS:
        raise TranscriptError(f"{len(raw_turns):,} turns", where=where, do=f"A call has at most {_MAX_TURNS:,} turns; split the file by call.")
    turns = tuple(_turn(item) for item in raw_turns)
    _check_order(turns, where)
    return Transcript(
        info=_info(top, call_id, _TRANSCRIPT_KEYS),
        turns=turns,
        language=top.text("language"),
        events=tuple(_event(item) for item in top.items("events")),
        asr=top.text("asr") or "transcript",
        duration_s=top.number("duration_s", low=0.0),
        role_confidence=top.number("role_confidence", low=0.0, high=1.0),
        redacted=top.counts("redacted"),
    )


def score_from_json(obj: object, *, where: str = "score", transcript: Transcript | None = None) -> CallScore:
    """Read one score as `CallScore.to_json` writes it; further keys become covariates.

    Raises:
        TranscriptError: a field is missing or of a wrong type, of another schema, or probabilities do not add up to 1.
    """
    top = _Fields(obj, where)
    if (schema := top.integer("schema")) not in (SCHEMA, None):
        raise TranscriptError(f"schema {quoted(schema)} is not {SCHEMA}", where=where, do="Update analyzer, or export the scores again.")
    labels = {**LABELS, "opening": OPENING_LABELS}
    judged = {name: _judgement(top.child(name), name, labels[name]) for name in labels if name in top.obj}
    if missing := [name for name in LABELS if name not in judged]:
        raise TranscriptError(f"{missing[0]!r} is missing", where=where, do="A score has courtesy, resolution and closing.")
    even = {label: 1.0 / len(OPENING_LABELS) for label in OPENING_LABELS}
    unread = Judgement(dimension="opening", probabilities=even, abstained=True, reason="not in the scores given")
    return CallScore(
        info=_info(top, None, _SCORE_KEYS),
        asr=top.text("asr") or "unknown",
        model=top.text("model") or "unknown",
        courtesy=judged["courtesy"],
        resolution=judged["resolution"],
        closing=judged["closing"],
        opening=judged.get("opening", unread),
        promises=tuple(
            Promise(turn=p.index("turn"), what=p.need("what"), when=p.text("when"), due_at=p.time("due_at")) for p in top.items("promises")
        ),
        offers=tuple(
            Offer(turn=o.index("turn"), what=o.need("what"), answer=o.one_of("answer", ("accepted", "declined", "open"))) for o in top.items("offers")
        ),
        flags=tuple(Flag(kind=f.need("kind"), rule=f.text("rule") or "", turn=f.index("turn")) for f in top.items("flags")),
        talk=_talk(top),
        redacted=top.counts("redacted"),
        transcript=transcript,
    )


def _info(top: _Fields, call_id: str | None, other_keys: tuple[str, ...]) -> CallInfo:
    name = top.text("call_id") or top.text("id") or call_id
    if not name:
        raise TranscriptError("'call_id' is missing", where=top.where, do="Name the call, or give a file whose name can serve.")
    known = {*_INFO_KEYS, *other_keys}
    return CallInfo(
        call_id=name,
        started_at=top.time("started_at"),
        leg=top.integer("leg"),
        covariates={k: v for k, v in top.obj.items() if k not in known and (v is None or isinstance(v, str | int | float | bool))},
        agent_id=top.text("agent_id"),
        customer_id=top.text("customer_id"),
        contact_id=top.text("contact_id"),
        direction=top.text("direction"),
        queue=top.text("queue"),
        reason=top.text("reason"),
        disposition=top.text("disposition"),
        ended_by=top.text("ended_by"),
    )


def _turn(item: _Fields) -> Turn:
    # A turn may carry further keys, but one that is nearly ours is a slip that would lose data in silence.
    for key in item.obj:
        close = difflib.get_close_matches(key, _TURN_KEYS, n=1, cutoff=0.75)
        if key not in _TURN_KEYS and close and close[0] not in item.obj:
            raise TranscriptError(f"unknown key {quoted(key)}", where=item.where, do=f"Did you mean {close[0]!r}?")
    speaker = item.need("speaker")
    if speaker == "other":  # how several public corpora write it
        speaker = "unknown"
    if speaker not in SPEAKERS:
        raise TranscriptError(f"unknown speaker {quoted(speaker)}", where=item.where, do="A speaker is agent, customer or unknown.")
    start_s, end_s = (item.number(f"{side}_s" if f"{side}_s" in item.obj else side, low=0.0) for side in ("start", "end"))
    if start_s is not None and end_s is not None and end_s < start_s:
        raise TranscriptError(f"ends at {end_s} s, before it starts at {start_s} s", where=item.where, do="Swap or mend the two times.")
    return Turn(
        speaker=cast(Speaker, speaker),
        text=item.need("text", empty=True),
        start_s=start_s,
        end_s=end_s,
        channel=item.integer("channel"),
        confidence=item.number("confidence", low=0.0, high=1.0),
        words=tuple(_word(word) for word in item.items("words")),
    )


def _check_order(turns: tuple[Turn, ...], where: str) -> None:
    last: tuple[int, float] | None = None
    for number, turn in enumerate(turns):
        if turn.start_s is None:
            continue
        if last is not None and turn.start_s < last[1]:
            what = f"turn {number} starts at {turn.start_s} s, before turn {last[0]} at {last[1]} s"
            raise TranscriptError(f"turns are out of order: {what}", where=where, do="Sort the turns by start_s.")
        last = (number, turn.start_s)


def _word(item: _Fields) -> Word:
    return Word(
        text=item.need("text"),
        start_s=item.need_number("start_s"),
        end_s=item.need_number("end_s"),
        confidence=item.number("confidence", low=0.0, high=1.0),
    )


def _event(item: _Fields) -> Event:
    return Event(
        kind=item.one_of("kind", _EVENT_KINDS),
        start_s=item.need_number("start_s"),
        end_s=item.need_number("end_s"),
        channel=item.integer("channel"),
    )


def _judgement(item: _Fields, dimension: str, labels: tuple[str, ...]) -> Judgement:
    raw = item.child("probabilities")
    probabilities = {label: raw.need_number(label) for label in labels}
    if unknown := [label for label in raw.obj if label not in labels]:
        raise TranscriptError(f"unknown label {quoted(unknown[0])}", where=raw.where, do=f"The labels are {', '.join(labels)}.")
    # 4 decimals are written, so four labels can be off by 2e-4 in files that others rounded themselves.
    if abs(sum(probabilities.values()) - 1.0) > 1e-3 or max(probabilities.values()) > 1.0:
        raise TranscriptError(f"probabilities add up to {sum(probabilities.values()):.4f}", where=raw.where, do="They must add up to 1.")
    evidence = tuple(
        Evidence(turn=e.index("turn"), start_char=e.index("start_char"), end_char=e.index("end_char"), cue=e.text("cue"), weight=e.number("weight"))
        for e in item.items("evidence")
    )
    cause = item.text("cause")
    if cause is not None and cause not in CAUSES:
        raise TranscriptError(f"unknown cause {quoted(cause)}", where=item.where, do=f"A cause is one of {', '.join(CAUSES)}.")
    judgement = Judgement(
        dimension=dimension,
        probabilities=probabilities,
        abstained=item.truth("abstained"),
        reason=item.text("reason"),
        evidence=evidence,
        cause=cause,
    )
    label = item.text("label")
    if label is not None and label not in labels:
        raise TranscriptError(f"unknown label {quoted(label)}", where=item.where, do=f"The labels are {', '.join(labels)}.")
    if (label is None) != judgement.abstained:
        raise TranscriptError("label and abstained contradict each other", where=item.where, do="label is null exactly when abstained is true.")
    return judgement


def _talk(top: _Fields) -> Talk:
    if top.obj.get("talk") is None:
        return Talk()
    item = top.child("talk")
    return Talk(**{f.name: item.number(f.name, low=0.0) for f in dataclasses.fields(Talk)})


class _Fields:
    """One JSON object being read: every getter checks the type and names the place."""

    def __init__(self, obj: object, where: str) -> None:
        if not isinstance(obj, dict):
            raise TranscriptError(f"expected an object, found {_kind(obj)}", where=where, do="Write {…} here.")
        self.obj: Mapping[str, Any] = obj
        self.where = where

    def _wrong(self, key: str, wanted: str) -> TranscriptError:
        return TranscriptError(f"{quoted(key)} must be {wanted}, found {_kind(self.obj[key])}", where=self.where, do="Mend or drop the field.")

    def text(self, key: str) -> str | None:
        value = self.obj.get(key)
        if value is None or isinstance(value, str):
            return value
        if key.endswith("id") and isinstance(value, int) and not isinstance(value, bool):
            return str(value)  # ids are often bare numbers in exports
        raise self._wrong(key, "text")

    def need(self, key: str, *, empty: bool = False) -> str:
        value = self.text(key)
        if value is None or not (value or empty):
            state = "missing" if value is None else "empty"
            raise TranscriptError(f"{key!r} is {state}", where=self.where, do=f"Give {key!r} as text.")
        return value

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.need(key)
        if value not in choices:
            raise TranscriptError(f"{key!r} is {quoted(value)}", where=self.where, do=f"It must be one of {', '.join(choices)}.")
        return value

    def number(self, key: str, *, low: float = -math.inf, high: float = math.inf) -> float | None:
        value = self.obj.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        if not math.isfinite(value) or not low <= value <= high:
            raise TranscriptError(f"{key!r} is {quoted(value)}", where=self.where, do=f"It must lie between {low} and {high}.")
        return float(value)

    def need_number(self, key: str) -> float:
        value = self.number(key, low=0.0)
        if value is None:
            raise TranscriptError(f"{key!r} is missing", where=self.where, do=f"Give {key!r} as a number.")
        return value

    def integer(self, key: str) -> int | None:
        value = self.obj.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self._wrong(key, "a whole number")
        return value

    def index(self, key: str) -> int:
        value = self.integer(key)
        if value is None or value < 0:
            raise TranscriptError(f"{quoted(key)} is missing or negative", where=self.where, do="Count from 0.")
        return value

    def truth(self, key: str) -> bool:
        value = self.obj.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def time(self, key: str) -> datetime | None:
        return None if self.obj.get(key) is None else parse_time(self.obj[key], where=f"{self.where}, {key}")

    def child(self, key: str) -> _Fields:
        if key not in self.obj:
            raise TranscriptError(f"{key!r} is missing", where=self.where, do=f"Give {key!r} as an object.")
        return _Fields(self.obj[key], f"{self.where}, {key}")

    def items(self, key: str, *, required: bool = False) -> Iterator[_Fields]:
        value = self.obj.get(key)
        if value is None and not required:
            return
        if not isinstance(value, list):
            raise TranscriptError(f"{key!r} must be a list, found {_kind(value)}", where=self.where, do=f"Write {key!r} as a list of objects.")
        for number, item in enumerate(value):
            yield _Fields(item, f"{self.where}, {key}[{number}]")

    def counts(self, key: str) -> dict[str, int]:
        value = self.obj.get(key)
        if value is None:
            return {}
        item = _Fields(value, f"{self.where}, {key}")
        return {name: item.index(name) for name in item.obj}


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
