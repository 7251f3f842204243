"""Builders of the nouns for tests: every field has a plain default, a test names only what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from analyzer.records import LABELS, CallInfo, CallScore, Judgement, Transcript, Turn

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def turns(*said: tuple[str, str], seconds_each: float | None = 2.0) -> tuple[Turn, ...]:
    """`turns(("agent", "hello"), ("customer", "hi"))`: back to back, `seconds_each` long (None: no times)."""
    out = []
    for number, (speaker, text) in enumerate(said):
        times: dict[str, Any] = {} if seconds_each is None else {"start_s": number * seconds_each, "end_s": (number + 1) * seconds_each}
        out.append(Turn(speaker=speaker, text=text, **times))  # type: ignore[arg-type]
    return tuple(out)


def transcript(*said: tuple[str, str], call_id: str = "c-1", seconds_each: float | None = 2.0, **info: Any) -> Transcript:
    """A transcript of the given turns; further keywords go to `CallInfo`."""
    said = said or (("agent", "Good morning, how can I help?"), ("customer", "My parcel has not arrived."))
    return Transcript(info=CallInfo(call_id=call_id, **info), turns=turns(*said, seconds_each=seconds_each))


def judgement(dimension: str, label: str, p: float = 0.8, **fields: Any) -> Judgement:
    """A judgement whose arg-max is `label` with probability `p`, the rest shared evenly."""
    labels: Sequence[str] = LABELS["closing" if dimension == "opening" else dimension]
    rest = (1 - p) / (len(labels) - 1)
    return Judgement(dimension=dimension, probabilities={name: p if name == label else rest for name in labels}, **fields)


def score(call_id: str = "c-1", **fields: Any) -> CallScore:
    """A score of plain answers: a dimension may be given as its label or as a `Judgement`; `CallInfo` fields as keywords."""
    names = set(CallInfo.__dataclass_fields__)
    info = {"started_at": NOON} | {k: v for k, v in fields.items() if k in names}
    plain: dict[str, Any] = {"courtesy": "neutral", "resolution": "resolved", "closing": "neutral", "opening": "neutral"}
    given = plain | {k: v for k, v in fields.items() if k not in names}
    judged = {name: judgement(name, given[name]) if isinstance(given[name], str) else given[name] for name in plain}
    return CallScore(info=CallInfo(call_id=call_id, **info), **({"asr": "transcript", "model": "test@sha256:0"} | given | judged))
