"""Redacted transcript to scores: the model's reading, the words that carry it, and when to say nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from analyzer.config import PrevalenceSettings, Settings, SpeechSettings, digest
from analyzer.cues import Cue, cues_digest, find_cues, offers, promises
from analyzer.model import ConversationModel, Reading
from analyzer.records import CAUSES, DIMENSIONS, CallScore, Evidence, Flag, Judgement, Talk, Transcript, Turn, plain

if TYPE_CHECKING:
    import pandas as pd

#: Which cues show a dimension's answer, best first; the model decides, cues only sharpen the quote.
_CUES: Final[Mapping[str, tuple[str, ...]]] = {
    "courtesy": ("no_no", "blame", "dismissal", "order", "interruption", "refusal", "empathy", "ownership", "permission", "apology", "thanks"),
    "resolution": ("promise", "confirmation", "refusal", "repeat_contact", "complaint"),
    "closing": ("displeasure", "praise", "churn_signal", "value_signal", "complaint", "thanks"),
    "opening": ("displeasure", "complaint", "repeat_contact", "praise"),
}
_FLAGS: Final = {"complaint", "churn_signal", "value_signal", "repeat_contact", "vulnerability", "opt_out", "disclosure", "id_check", "no_no"}
_EVIDENCE_TURNS: Final = 3
#: Raise it when the rules of this module or of `abstention` change: stored scores are then made again from the stored words.
REVISION: Final = 3


def score(transcripts: Sequence[Transcript], model: ConversationModel, settings: Settings | None = None) -> list[CallScore]:
    """Score redacted transcripts, in their order. A call's score does not depend on the others it was given with."""
    chosen = settings or Settings()
    readings = model.read(transcripts, batch_size=chosen.model.batch_size, shares=dataclasses.asdict(chosen.prevalence))
    return [_call(transcript, reading, model.stamp, chosen) for transcript, reading in zip(transcripts, readings, strict=True)]


def scoring_digest(settings: Settings) -> str:
    """Changes when the same words may get another score: with the settings that decide it, the cues, and `REVISION`, here and in `abstention`."""
    speech = settings.speech
    return digest(REVISION, cues_digest(), speech.min_confidence, speech.min_role_confidence, settings.prevalence)


def _call(transcript: Transcript, reading: Reading, stamp: str, settings: Settings) -> CallScore:
    cues = find_cues(transcript.turns)
    reasons: dict[str, str | None] = dict.fromkeys((*DIMENSIONS, "opening"), _unheard(transcript, settings.speech))
    reasons["courtesy"] = reasons["courtesy"] or _unproven(reading.probabilities["courtesy"], settings.prevalence)
    judgements = {name: _judgement(name, transcript, reading, cues, reason) for name, reason in reasons.items()}
    return CallScore(
        info=transcript.info,
        asr=transcript.asr,
        model=stamp,
        courtesy=judgements["courtesy"],
        resolution=judgements["resolution"],
        closing=judgements["closing"],
        opening=judgements["opening"],
        promises=promises(transcript.turns, cues, transcript.info.started_at),
        offers=offers(transcript.turns, cues),
        flags=tuple(Flag(kind=cue.kind, rule=cue.rule, turn=cue.turn) for cue in cues if cue.kind in _FLAGS),
        talk=talk(transcript.turns, transcript.duration_s),
        redacted=transcript.redacted,
        transcript=transcript,
    )


def _judgement(dimension: str, transcript: Transcript, reading: Reading, cues: Sequence[Cue], doubt: str | None) -> Judgement:
    reason = reading.abstain.get(dimension) or doubt
    judgement = Judgement(
        dimension=dimension,
        probabilities=reading.probabilities[dimension],
        abstained=reason is not None,
        reason=reason,
        evidence=_evidence(dimension, transcript.turns, reading.weights[dimension], cues),
        cause=None,
    )
    if dimension == "resolution" and judgement.label in ("partial", "unresolved"):
        cause = max(CAUSES, key=lambda name: reading.cause.get(name, 0.0))
        return Judgement(dimension=dimension, probabilities=judgement.probabilities, evidence=judgement.evidence, cause=cause)
    return judgement


def _unheard(transcript: Transcript, limits: SpeechSettings) -> str | None:
    """Why the words themselves are not to be trusted, or None."""
    if transcript.language is not None and not transcript.language.startswith("en"):
        return f"the scores are validated on English only, and this call is in {transcript.language!r}"
    if (sure := transcript.role_confidence) is not None and sure < limits.min_role_confidence:
        return f"it is not sure enough which side is the agent: confidence {sure:.2f}, below {limits.min_role_confidence:.2f}"
    heard = [(turn.confidence, len(turn.text)) for turn in transcript.turns if turn.confidence is not None]
    if letters := sum(length for _, length in heard):
        mean = sum(confidence * length for confidence, length in heard) / letters
        if mean < limits.min_confidence:
            return f"the words are too unsure: mean word confidence {mean:.2f} of {transcript.asr}, below {limits.min_confidence:.2f}"
    return None


def _unproven(courtesy: Mapping[str, float], limits: PrevalenceSettings) -> str | None:
    """Why a suspected lapse is not named, or None: nobody is accused where such an accusation would be wrong too often."""
    p = courtesy["discourteous"]
    if p < max(courtesy.values()) or p >= limits.min_lapse_probability:
        return None
    return f"a suspected lapse, but too unsure to name: probability {p:.2f}, below {limits.min_lapse_probability:.2f}"


def _evidence(dimension: str, turns: Sequence[Turn], weights: Sequence[float], cues: Iterable[Cue]) -> tuple[Evidence, ...]:
    """The turns that carry the answer most, heaviest first; within a turn the cue of that dimension, else the whole turn."""
    ranked = sorted((n for n, weight in enumerate(weights) if weight > 0 and turns[n].text.strip()), key=lambda n: -weights[n])
    order = {kind: place for place, kind in enumerate(_CUES[dimension])}
    spans: dict[int, Cue] = {}
    for cue in cues:
        if cue.kind in order and (cue.turn not in spans or order[cue.kind] < order[spans[cue.turn].kind]):
            spans[cue.turn] = cue
    out = []
    for number in ranked[:_EVIDENCE_TURNS]:
        start, end = _sentence_around(turns[number].text, spans.get(number))
        kind = spans[number].kind if number in spans else None
        out.append(Evidence(turn=number, start_char=start, end_char=end, cue=kind, weight=round(float(weights[number]), 4)))
    return tuple(out)


def _sentence_around(text: str, cue: Cue | None) -> tuple[int, int]:
    """A cue's whole sentence: three words out of their sentence convince nobody. Without a cue, the whole turn."""
    if cue is None:
        return len(text) - len(text.lstrip()), len(text.rstrip())
    start = max((text.rfind(mark, 0, cue.start_char) for mark in (". ", "? ", "! ")), default=-1)
    ends = [place for mark in ".?!" if (place := text.find(mark, max(cue.start_char, cue.end_char - 1))) >= 0]
    begin = start + 2 if start >= 0 else len(text) - len(text.lstrip())
    return begin, min(ends) + 1 if ends else len(text.rstrip())


def to_rows(scores: Iterable[CallScore]) -> Iterator[dict[str, Any]]:
    """Flat rows, one a call, for tables: its columns, then label, probability, abstention and best quote of each dimension."""
    for call in scores:
        if not isinstance(call, CallScore):
            raise TypeError(f"a {type(call).__name__} has no scores: give the CallScores alone")
        row: dict[str, Any] = {**call.info.to_json(), "asr": call.asr, "model": call.model}
        for name in (*DIMENSIONS, "opening"):
            judgement = call.judgement(name)
            row[name] = judgement.label
            row |= {f"{name}_p_{label}": p for label, p in judgement.to_json(None)["probabilities"].items()}
            row[f"{name}_abstained"] = judgement.reason
            if call.transcript is not None:
                row[f"{name}_quote"] = judgement.evidence[0].quote(call.transcript) if judgement.evidence else None
        row["cause"] = call.resolution.cause
        row["flags"] = " ".join(sorted({flag.kind for flag in call.flags})) or None
        row |= {name: plain(getattr(call.talk, name)) for name in Talk.__dataclass_fields__}
        yield row


def to_frame(scores: Iterable[CallScore]) -> pd.DataFrame:
    """`to_rows` as a pandas frame, one row a call."""
    import pandas as pd

    return pd.DataFrame(list(to_rows(scores)))


def talk(turns: Sequence[Turn], duration_s: float | None) -> Talk:
    """Talking times from the turns' times: union per side, overlap of agent and customer, gaps in which nobody speaks.

    All fields are `None` but the duration when any turn lacks a time; the duration falls back to the last turn's end.
    """
    spans = [(turn.start_s, turn.end_s, turn.speaker) for turn in turns if turn.start_s is not None and turn.end_s is not None]
    if len(spans) < len(turns) or not spans:
        return Talk(duration_s=duration_s)
    total_s = max(duration_s or 0.0, *(end for _, end, _ in spans))
    agent = _union([(start, end) for start, end, speaker in spans if speaker == "agent"])
    customer = _union([(start, end) for start, end, speaker in spans if speaker == "customer"])
    anyone = _union([(start, end) for start, end, _ in spans])
    gaps = [after[0] - before[1] for before, after in zip([(0.0, 0.0), *anyone], [*anyone, (total_s, total_s)], strict=True)]
    agent_s, customer_s = _length(agent), _length(customer)
    return Talk(
        duration_s=total_s,
        agent_talk_s=agent_s,
        customer_talk_s=customer_s,
        silence_s=sum(gaps),
        overlap_s=max(0.0, agent_s + customer_s - _length(_union([*agent, *customer]))),
        longest_silence_s=max(gaps),
    )


def _union(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def _length(spans: Iterable[tuple[float, float]]) -> float:
    return sum(end - start for start, end in spans)
