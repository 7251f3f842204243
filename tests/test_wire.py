"""JSON in, nouns out: what is accepted, what is refused, and that nothing changes on a round trip."""

from __future__ import annotations

import importlib.resources
import json
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.asr import openai
from analyzer.asr.faster import FasterWhisper
from analyzer.audio import Segment
from analyzer.errors import TranscriptError
from analyzer.records import LABELS, CallInfo, CallScore, Event, Evidence, Flag, Judgement, Offer, Promise, Talk, Transcript, Turn, Word
from analyzer.wire import loads, score_from_json, transcript_from_json
from tests.builders import NOON, judgement, score, transcript

TURN: dict[str, Any] = {"speaker": "agent", "text": "hello", "start_s": 0.0, "end_s": 1.0}
LATER: dict[str, Any] = {"speaker": "customer", "text": "hi", "start_s": 2.0, "end_s": 3.0}

REFUSED = [
    ({}, "'turns' must be a list"),
    ({"turns": []}, "there are no turns"),
    ({"turns": {}}, "'turns' must be a list, found an object"),
    ([], "expected an object, found a list"),
    ({"turns": ["hello"]}, r"turns\[0\]: expected an object, found text"),
    ({"turns": [{"text": "hello"}]}, r"turns\[0\]: 'speaker' is missing"),
    ({"turns": [{"speaker": "agent"}]}, r"turns\[0\]: 'text' is missing"),
    ({"turns": [TURN | {"speaker": "bob"}]}, "unknown speaker 'bob'. A speaker is agent, customer or unknown"),
    ({"turns": [TURN | {"text": 5}]}, "'text' must be text, found a number"),
    ({"turns": [TURN | {"start_s": "0"}]}, "'start_s' must be a number, found text"),
    ({"turns": [TURN | {"start_s": True}]}, "'start_s' must be a number, found true or false"),
    ({"turns": [TURN | {"start_s": -1}]}, "'start_s' is -1"),
    ({"turns": [TURN | {"start_s": 5.0}]}, "ends at 1.0 s, before it starts at 5.0 s"),
    ({"turns": [LATER, TURN]}, "out of order: turn 1 starts at 0.0 s, before turn 0 at 2.0 s. Sort the turns"),
    ({"turns": [{"speaker": "agent", "text": "x", "strat_s": 1.0}]}, "unknown key 'strat_s'. Did you mean 'start_s'"),
    ({"turns": [TURN], "started_at": "2026-03-02T10:15:00"}, "has no time zone"),
    ({"turns": [TURN], "started_at": "yesterday"}, "'yesterday' is not a date and time"),
    ({"turns": [TURN], "leg": "one"}, "'leg' must be a whole number"),
    ({"turns": [TURN], "queue": 7}, "'queue' must be text"),
    ({"turns": [TURN], "duration_s": 1e400}, "'duration_s' is inf"),
]


@pytest.mark.parametrize(("raw", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_a_wrong_transcript_is_refused_with_its_place(raw: object, message: str) -> None:
    with pytest.raises(TranscriptError, match=message) as caught:
        transcript_from_json(raw, where="call.json", call_id="c")
    assert str(caught.value).startswith("call.json")
    assert caught.value.do


CARD = "my card is 4111 1111 1111 1111"


@pytest.mark.parametrize(
    "raw",
    [
        {"turns": [TURN | {"speaker": CARD}]},
        {"turns": [TURN | {"speaker": "4111-1111-1111-1111"}]},
        {"turns": [{"speaker": "agent", "text": "x", "confidence 4111": 1.0}]},
        {"turns": [TURN], "started_at": CARD},
        {"turns": [TURN], "started_at": 4111111111111111},
        {"turns": [TURN], "role_confidence": 4111111111111111},
        {"turns": [TURN], "redacted": {CARD: -1}},
        {"turns": [TURN], "redacted": {CARD: "x"}},
        {"turns": [TURN], "events": [{"kind": CARD, "start_s": 0, "end_s": 1}]},
    ],
)
def test_errors_do_not_repeat_what_was_said(raw: object) -> None:
    with pytest.raises(TranscriptError) as caught:
        transcript_from_json(raw, where="call.json", call_id="c")
    assert "4111" not in str(caught.value)
    assert "my card" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"closing": {"label": CARD, "probabilities": {"grumbling": 1, "neutral": 0, "singing": 0}}},
        {"closing": {"probabilities": {"grumbling": 1, "neutral": 0, "singing": 0, CARD: 0}}},
        {"closing": {"label": "grumbling", "probabilities": {"grumbling": 1, "neutral": 0, "singing": 0}, "cause": CARD}},
        {"offers": [{"turn": 1, "what": "x", "answer": CARD}]},
    ],
)
def test_errors_about_scores_do_not_repeat_what_was_said(change: dict[str, Any]) -> None:
    with pytest.raises(TranscriptError, match="a text of 30 characters") as caught:
        score_from_json(full_score().to_json() | change)
    assert "4111" not in str(caught.value)


def test_an_event_of_no_known_kind_is_refused() -> None:
    with pytest.raises(TranscriptError, match=r"events\[0\]: 'kind' is 'laughter'. It must be one of music, ringing, hold, silence, dtmf, noise"):
        transcript_from_json({"turns": [TURN], "events": [{"kind": "laughter", "start_s": 0, "end_s": 1}]}, call_id="c")


def test_a_recognised_word_that_is_only_a_space_is_left_out() -> None:
    segment = Segment(channel=0, start_s=1.0, samples=np.zeros(16_000, dtype=np.float32))
    heard = [{"word": said, "start": 0.0, "end": 0.5, "probability": 0.9} for said in (" hello", " ")]
    log = {"avg_logprob": -0.1, "no_speech_prob": 0.0, "compression_ratio": 1.0}
    part = {"text": " hello", "start": 0.0, "end": 1.0, "words": heard, **log}
    fast = FasterWhisper.__new__(FasterWhisper)
    fast_part = SimpleNamespace(**part | {"words": [SimpleNamespace(**word) for word in heard]})
    engine = SimpleNamespace(is_multilingual=True)
    fast._model = SimpleNamespace(model=engine, supported_languages=["en"], transcribe=lambda *_, **__: ([fast_part], None))
    for utterance in (openai._utterance(part, segment), *fast.transcribe([segment], language="en")):
        assert [word.text for word in utterance.words] == ["hello"]
        turn = Turn(speaker="agent", text=utterance.text, words=utterance.words)
        written = Transcript(info=CallInfo(call_id="c"), turns=(turn,))
        assert transcript_from_json(written.to_json()) == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ('{"a": 1,}', "line 1, column"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_json_is_read_strictly(text: str | bytes, message: str) -> None:
    with pytest.raises(TranscriptError, match=message):
        loads(text, where="x.json")


def test_a_byte_order_mark_is_no_error() -> None:
    assert loads(b'\xef\xbb\xbf{"a": 1}', where="x") == {"a": 1}


def test_the_short_names_and_further_keys_are_accepted() -> None:
    read = transcript_from_json({"id": 17, "turns": [{"speaker": "other", "text": "hm", "start": 1, "end": 2, "labels": ["x"]}], "tenure_months": 14})
    assert read.info == CallInfo(call_id="17", covariates={"tenure_months": 14})
    assert read.turns == (Turn(speaker="unknown", text="hm", start_s=1.0, end_s=2.0),)


def test_a_call_without_an_id_takes_the_one_given() -> None:
    assert transcript_from_json({"turns": [TURN]}, call_id="from-name").info.call_id == "from-name"
    with pytest.raises(TranscriptError, match="'call_id' is missing"):
        transcript_from_json({"turns": [TURN]})


def test_our_own_transcript_of_silence_may_be_empty() -> None:
    empty = Transcript(info=CallInfo(call_id="c"), turns=(), events=(Event(kind="music", start_s=0.0, end_s=40.0),), asr="pocketsphinx")
    assert transcript_from_json(empty.to_json(), empty_ok=True) == empty


times = st.floats(0, 1e5, allow_nan=False).map(lambda x: round(x, 4))
words = st.builds(Word, text=st.text(min_size=1), start_s=times, end_s=times, confidence=st.none() | st.sampled_from([0.0, 0.25, 1.0]))
turn_list = st.lists(
    st.builds(Turn, speaker=st.sampled_from(["agent", "customer", "unknown"]), text=st.text(), words=st.lists(words, max_size=2).map(tuple)),
    min_size=1,
    max_size=4,
)


@given(turn_list, st.dictionaries(st.text(min_size=1).map("x_".__add__), st.text() | st.booleans() | st.integers(-5, 5), max_size=3))
def test_a_transcript_survives_the_round_trip(turns: list[Turn], covariates: dict[str, Any]) -> None:
    before = Transcript(
        info=CallInfo(call_id="c", customer_id="k", started_at=NOON, leg=2, covariates=covariates),
        turns=tuple(turns),
        language="en",
        duration_s=12.5,
        redacted={"CARD": 1},
    )
    assert transcript_from_json(loads(json.dumps(before.to_json()), where="x")) == before


def full_score() -> CallScore:
    return score(
        "c-9",
        closing="grumbling",
        customer_id="k1",
        resolution=judgement(
            "resolution", "partial", cause="process", evidence=(Evidence(turn=1, start_char=0, end_char=9, cue="promise", weight=0.5),)
        ),
        courtesy=judgement("courtesy", "neutral", abstained=True, reason="no agent"),
        promises=(Promise(turn=0, what="call back", when="tomorrow", due_at=NOON),),
        offers=(Offer(turn=0, what="discount", answer="declined"),),
        flags=(Flag(kind="complaint", rule="complain", turn=1),),
        talk=Talk(duration_s=4.0, silence_s=0.0),
        redacted={"PHONE": 2},
    )


def test_a_score_survives_the_round_trip() -> None:
    before = full_score()
    after = score_from_json(loads(json.dumps(before.to_json()), where="x"))
    assert after.to_json() == before.to_json()
    assert after.info == before.info
    assert (after.courtesy.label, after.courtesy.reason, after.resolution.cause) == (None, "no agent", "process")


def test_quotes_come_from_the_transcript_only() -> None:
    held = transcript(("agent", "Hello."), ("customer", "My parcel is late."), call_id="c-9")
    evidence = (Evidence(turn=1, start_char=3, end_char=9),)
    judged = score("c-9", closing="grumbling", transcript=held, resolution=judgement("resolution", "partial", evidence=evidence))
    assert judged.to_json()["resolution"]["evidence"] == [{"turn": 1, "start_char": 3, "end_char": 9, "quote": "parcel", "start_s": 2.0}]
    assert "quote" not in json.dumps(score("c-9", resolution=judgement("resolution", "partial", evidence=evidence)).to_json())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"closing": {}}, "'probabilities' is missing"),
        ({"closing": None}, "expected an object, found nothing"),
        ({"schema": 2}, "schema 2 is not 1"),
        ({"closing": {"label": "grumbling", "probabilities": {"grumbling": 0.9, "neutral": 0.9, "singing": 0.0}}}, "add up to 1.8"),
        ({"closing": {"label": "happy", "probabilities": {"grumbling": 1, "neutral": 0, "singing": 0}}}, "unknown label 'happy'"),
        ({"closing": {"label": None, "probabilities": {"grumbling": 1, "neutral": 0, "singing": 0}}}, "contradict"),
        ({"closing": {"label": "singing", "probabilities": {"singing": 1}}}, "'grumbling' is missing"),
        ({"promises": [{"turn": -1, "what": "x"}]}, "Count from 0"),
        ({"offers": [{"turn": 1, "what": "x", "answer": "maybe"}]}, "accepted, declined, open"),
    ],
)
def test_a_wrong_score_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TranscriptError, match=message):
        score_from_json(full_score().to_json() | change)


@given(st.lists(st.floats(0.001, 1), min_size=4, max_size=4))
def test_written_probabilities_add_up_to_one_and_keep_their_best(raw: list[float]) -> None:
    labels = LABELS["resolution"]
    before = Judgement(dimension="resolution", probabilities={label: p / sum(raw) for label, p in zip(labels, raw, strict=True)})
    written = before.to_json(None)["probabilities"]
    assert round(sum(written.values()), 4) == 1.0
    assert max(written, key=lambda label: written[label]) == before.best
    assert all(abs(written[label] - p) < 2e-4 for label, p in before.probabilities.items())


def _schema(name: str) -> jsonschema.Draft202012Validator:
    raw = json.loads((importlib.resources.files("analyzer") / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(raw)
    return jsonschema.Draft202012Validator(raw)


def test_what_is_printed_keeps_to_the_published_schema() -> None:
    held = transcript(("agent", "Hello."), ("customer", "Hi."), call_id="c-9", queue="billing")
    _schema("score").validate(full_score().to_json())
    _schema("score").validate(score("c-9", transcript=held, queue="billing", leg=1).to_json())
    _schema("transcript").validate(held.to_json())
    with pytest.raises(jsonschema.ValidationError):
        _schema("score").validate(full_score().to_json() | {"closing": {"label": "singing"}})
