"""The nouns of the product: transcript, score, evidence, failure; `wire.py` reads them back from JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, cast

SCHEMA: Final = 1
Speaker: TypeAlias = Literal["agent", "customer", "unknown"]
Scalar: TypeAlias = str | int | float | bool | None

SPEAKERS: Final = ("agent", "customer", "unknown")
#: The labels of each dimension, worst first, as CODEBOOK.md defines them.
LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "courtesy": ("discourteous", "neutral", "courteous"),
    "resolution": ("unresolved", "partial", "resolved", "unclear"),
    "closing": ("grumbling", "neutral", "singing"),
}
#: The opening asks the closing's question of the customer's first turns.
OPENING_LABELS: Final = LABELS["closing"]
CAUSES: Final = ("agent", "process", "policy", "customer", "third_party", "unknown")
DIMENSIONS: Final = tuple(LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One recognised word; times in seconds from the start of the recording, confidence 0 to 1."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Sound that is not speech: `music`, `ringing`, `hold`, `silence`, `dtmf`, `noise`."""

    kind: str
    start_s: float
    end_s: float
    channel: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one speaker said in one go."""

    speaker: Speaker
    text: str
    start_s: float | None = None
    end_s: float | None = None
    channel: int | None = None
    confidence: float | None = None
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInfo:
    """What is known of a call besides its words. `started_at` is timezone-aware; `covariates` are the table's further columns."""

    call_id: str
    agent_id: str | None = None
    customer_id: str | None = None
    started_at: datetime | None = None
    contact_id: str | None = None
    leg: int | None = None
    direction: str | None = None
    queue: str | None = None
    reason: str | None = None
    disposition: str | None = None
    ended_by: str | None = None
    covariates: Mapping[str, Scalar] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Flat, without absent fields; covariates last, as keys of their own."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "covariates"}
        return {k: plain(v) for k, v in own.items() if v is not None} | {k: plain(v) for k, v in self.covariates.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The words of one call, by speaker, in order of `start_s` where times are known.

    `asr` names the engine the words came from (`transcript` when they were given); `role_confidence` (0 to 1) says how
    sure it is which side is the agent, `None` when it was given; `redacted` counts what was replaced, per kind.
    """

    info: CallInfo
    turns: tuple[Turn, ...]
    language: str | None = None
    events: tuple[Event, ...] = ()
    asr: str = "transcript"
    duration_s: float | None = None
    role_confidence: float | None = None
    redacted: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The form of DESIGN.md, absent fields left out, times with 4 decimals."""
        out = self.info.to_json()
        for name in ("language", "asr", "duration_s", "role_confidence"):
            if (value := getattr(self, name)) is not None:
                out[name] = plain(value)
        if self.redacted:
            out["redacted"] = dict(self.redacted)
        if self.events:
            out["events"] = [_compact(event) for event in self.events]
        out["turns"] = [_compact(turn) for turn in self.turns]
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A span of a transcript's turn; holds no text, so a redacted transcript redacts it."""

    turn: int
    start_char: int
    end_char: int
    cue: str | None = None
    weight: float | None = None

    def quote(self, transcript: Transcript) -> str:
        """The words the evidence points at."""
        return transcript.turns[self.turn].text[self.start_char : self.end_char]

    def to_json(self, transcript: Transcript | None) -> dict[str, Any]:
        """Turn and offsets; with a transcript at hand also the quote and its time."""
        out = _compact(self)
        if transcript is not None:
            out["quote"] = self.quote(transcript)
            if (start_s := transcript.turns[self.turn].start_s) is not None:
                out["start_s"] = plain(start_s)
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One dimension's answer: calibrated probabilities that add up to 1, and the words that carry it."""

    dimension: str
    probabilities: Mapping[str, float]
    abstained: bool = False
    reason: str | None = None
    evidence: tuple[Evidence, ...] = ()
    cause: str | None = None

    @property
    def best(self) -> str:
        """The most probable label, also when the judgement abstains."""
        return max(self.probabilities, key=lambda label: self.probabilities[label])

    @property
    def label(self) -> str | None:
        """The arg-max of the probabilities, or `None` when the call does not carry the answer."""
        return None if self.abstained else self.best

    def to_json(self, transcript: Transcript | None) -> dict[str, Any]:
        """The judgement's object of DESIGN.md."""
        out: dict[str, Any] = {"label": self.label, "probabilities": _round_to_one(self.probabilities), "abstained": self.abstained}
        if self.reason is not None:
            out["reason"] = self.reason
        out["evidence"] = [item.to_json(transcript) for item in self.evidence]
        if self.dimension == "resolution":
            out["cause"] = self.cause
        if self.dimension == "courtesy":
            out["suspected_lapse"] = self.best == "discourteous"
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Something the agent committed to; `due_at` where a date could be told."""

    turn: int
    what: str
    when: str | None = None
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Something offered to the customer; `answer` is `accepted`, `declined` or `open`."""

    turn: int
    what: str
    answer: str = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A codebook flag (`complaint`, `churn_signal`, `no_no`, …) at a turn, with the rule that raised it."""

    kind: str
    rule: str
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """Who talked for how long, in seconds; `None` where the transcript has no times."""

    duration_s: float | None = None
    agent_talk_s: float | None = None
    customer_talk_s: float | None = None
    silence_s: float | None = None
    overlap_s: float | None = None
    longest_silence_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallScore:
    """The three answers about one call, the opening mood, and what else was heard.

    `transcript` is the redacted transcript the evidence points into; `None` when the score was read back without it.
    """

    info: CallInfo
    asr: str
    model: str
    courtesy: Judgement
    resolution: Judgement
    closing: Judgement
    opening: Judgement
    promises: tuple[Promise, ...] = ()
    offers: tuple[Offer, ...] = ()
    flags: tuple[Flag, ...] = ()
    talk: Talk = field(default_factory=Talk)
    redacted: Mapping[str, int] = field(default_factory=dict)
    transcript: Transcript | None = field(default=None, compare=False, repr=False)

    def judgement(self, dimension: str) -> Judgement:
        """The judgement of `courtesy`, `resolution`, `closing` or `opening`."""
        if dimension not in (*DIMENSIONS, "opening"):
            raise KeyError(dimension)
        return cast(Judgement, getattr(self, dimension))

    def to_json(self) -> dict[str, Any]:
        """One score object of DESIGN.md; quotes are filled from the transcript where it is at hand."""
        text = self.transcript
        out: dict[str, Any] = {"schema": SCHEMA, **self.info.to_json(), "asr": self.asr, "model": self.model}
        for name in (*DIMENSIONS, "opening"):
            out[name] = self.judgement(name).to_json(text)
        out["promises"] = [{"turn": p.turn, "what": p.what, "when": p.when, "due_at": plain(p.due_at)} for p in self.promises]
        out["offers"] = [{"turn": o.turn, "what": o.what, "answer": o.answer} for o in self.offers]
        out["flags"] = [{"kind": f.kind, "rule": f.rule, "turn": f.turn} for f in self.flags]
        out["talk"] = {f.name: plain(getattr(self.talk, f.name)) for f in dataclasses.fields(self.talk)}
        out["redacted"] = dict(self.redacted)
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call that could not be scored: which, why (a short reason and the whole message), and what to do."""

    source: str
    reason: str
    message: str
    call_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One object, as printed and stored."""
        return {"source": self.source, "call_id": self.call_id, "reason": self.reason, "message": self.message}


def plain(value: object) -> Any:
    """A JSON value: datetimes in ISO form, floats with at most 4 decimals, not-a-number refused by `dumps`."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 4)
    return value


def dumps(obj: object, *, indent: int | None = None) -> str:
    """JSON text; raises `ValueError` on NaN or infinity."""
    return json.dumps(obj, ensure_ascii=False, allow_nan=False, indent=indent, default=plain)


def _compact(record: object) -> dict[str, Any]:
    """A dataclass as a dict without its absent (None) and empty fields, nested ones too."""
    out: dict[str, Any] = {}
    for item in dataclasses.fields(cast(Any, record)):
        value = getattr(record, item.name)
        if isinstance(value, tuple):
            value = [_compact(part) for part in value] or None
        if value is not None:
            out[item.name] = plain(value)
    return out


def _round_to_one(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Four decimals each that still add up to 1 (largest remainders first), the arg-max staying the only largest."""
    units = {label: math.floor(value * 10_000) for label, value in probabilities.items()}
    by_remainder = sorted(units, key=lambda label: units[label] - probabilities[label] * 10_000)
    for label in by_remainder[: 10_000 - sum(units.values())]:
        units[label] += 1
    top = max(probabilities, key=lambda label: probabilities[label])
    for label, unit in list(units.items()):
        if label != top and unit >= units[top]:
            units[label] -= 1
            units[top] += 1
    return {label: unit / 10_000 for label, unit in units.items()}
