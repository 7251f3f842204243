"""Which calls the report names: the ones to hear, and the table of calls, each with the words that carry its scores."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from analyzer.records import DIMENSIONS, LABELS, CallScore, Evidence
from analyzer.report import words
from analyzer.report.shares import RANKS, word

#: Calls listed in the table; the rest is counted.
MAX_LISTED: Final = 200
#: Calls to hear of each kind: ten in all.
HEAR: Final = {"worst": 4, "unsure": 3, "random": 3}
#: Names the random sample; the same calls give the same sample, in whatever order they come.
SEED: Final = "calls-to-hear-1"
_LONGEST_QUOTE: Final = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Words of the call, who said them, and when: `time` is mm:ss into the recording, `None` where no times are known."""

    dimension: str
    speaker: str
    text: str
    time: str | None
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One of the three questions, as shown: the label in people's words, its rank, the model's probability, and a quote."""

    dimension: str
    label: str
    rank: str
    probability: float
    abstained: bool
    reason: str | None
    cause: str | None
    quote: Quote | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """One call as shown; `quote` is the one of the answer that looks worst."""

    call_id: str
    when: str
    agent: str | None
    queue: str | None
    answers: tuple[Answer, ...]
    quote: Quote | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Shows every time in one zone, so that calls can be compared: the calls' own where they share it, else UTC."""

    zone: str
    offset: timedelta | None

    def local(self, when: datetime | None) -> datetime | None:
        """The time in the clock's zone."""
        return when if when is None or self.offset is not None else when.astimezone(UTC)

    def show(self, when: datetime | None) -> str:
        """Date and minute, or `no date`."""
        return "no date" if (shown := self.local(when)) is None else f"{shown:%Y-%m-%d %H:%M}"


def clock(scores: Sequence[CallScore]) -> Clock:
    """The clock for these calls."""
    offsets = {score.info.started_at.utcoffset() for score in scores if score.info.started_at is not None}
    if len(offsets) == 1 and (offset := offsets.pop()):
        sign, minutes = ("-" if offset < timedelta() else "+"), abs(offset) // timedelta(minutes=1)
        return Clock(zone=f"UTC{sign}{minutes // 60:02d}:{minutes % 60:02d}", offset=offset)
    return Clock(zone="UTC", offset=None)


def concern(score: CallScore) -> float:
    """How much a call needs hearing: the expected number of worst answers (suspected lapse, unresolved, grumbling), 0 to 3."""
    return sum(item.probabilities[LABELS[name][0]] for name in DIMENSIONS if not (item := score.judgement(name)).abstained)


def doubt(score: CallScore) -> float:
    """How unsure the model is: the mean entropy of the answers it gave, as a share of the largest possible, 0 to 1."""
    given = [item for name in DIMENSIONS if not (item := score.judgement(name)).abstained]
    entropies = [-sum(p * math.log(p) for p in item.probabilities.values() if p > 0) / math.log(len(item.probabilities)) for item in given]
    return sum(entropies) / len(entropies) if entropies else 0.0


def _lot(score: CallScore) -> str:
    # A hash, not a generator: order of the calls does not matter, and a call keeps its lot as others are added.
    return hashlib.sha256(f"{SEED}\0{score.info.call_id}".encode(errors="surrogatepass")).hexdigest()


def _by(value: Callable[[CallScore], float], scores: Sequence[CallScore]) -> list[CallScore]:
    return sorted(scores, key=lambda score: (-value(score), score.info.call_id))


def worst_first(scores: Sequence[CallScore]) -> list[CallScore]:
    """The calls by `concern`, ties by call id."""
    return _by(concern, scores)


def to_hear(scores: Sequence[CallScore]) -> dict[str, list[CallScore]]:
    """The calls to hear: `worst`, `unsure` (not among the worst) and `random`.

    The random ones are drawn from all scored calls, so that they alone say what an ordinary call is like; one of them may be
    among the others too. Calls without any answer are never among the worst or the unsure.
    """
    answered = [score for score in scores if any(not score.judgement(name).abstained for name in DIMENSIONS)]
    worst = worst_first(answered)[: HEAR["worst"]]
    taken = {id(score) for score in worst}
    unsure = _by(doubt, [score for score in answered if id(score) not in taken])[: HEAR["unsure"]]
    return {"worst": worst, "unsure": unsure, "random": sorted(scores, key=lambda score: (_lot(score), score.info.call_id))[: HEAR["random"]]}


def row(score: CallScore, times: Clock) -> CallRow:
    """One call as shown."""
    answers = tuple(_answer(score, dimension) for dimension in DIMENSIONS)
    quoted = [answer for answer in answers if answer.quote is not None]
    # The quote that a listener would ask for first: worse before others, then the surer.
    quoted.sort(key=lambda answer: (answer.abstained, answer.rank != "worse", -answer.probability))
    return CallRow(
        call_id=score.info.call_id,
        when=times.show(score.info.started_at),
        agent=score.info.agent_id,
        queue=score.info.queue,
        answers=answers,
        quote=quoted[0].quote if quoted else None,
        flags=tuple(sorted({words.flag(flag.kind) for flag in score.flags})),
    )


def _answer(score: CallScore, dimension: str) -> Answer:
    item = score.judgement(dimension)
    return Answer(
        dimension=dimension,
        label=word(item.best),
        rank=RANKS.get(item.best, "middle"),
        probability=item.probabilities[item.best],
        abstained=item.abstained,
        reason=item.reason,
        cause=item.cause if item.best in ("partial", "unresolved") else None,
        quote=next((found for evidence in item.evidence if (found := _quote(score, dimension, evidence)) is not None), None),
    )


def _quote(score: CallScore, dimension: str, evidence: Evidence) -> Quote | None:
    text = score.transcript
    if text is None or evidence.turn >= len(text.turns):
        return None
    said, turn = evidence.quote(text).strip(), text.turns[evidence.turn]
    if not said:
        return None
    if len(said) > _LONGEST_QUOTE:
        said = said[:_LONGEST_QUOTE].rstrip() + " …"
    return Quote(dimension=dimension, speaker=turn.speaker, text=said, time=_mmss(turn.start_s), turn=evidence.turn)


def _mmss(seconds: float | None) -> str | None:
    return None if seconds is None else f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
