"""Every foreign format to one transcript, told by content, and every wrong file to its own clear error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import TranscriptError
from analyzer.readers import read_text, read_transcripts, write_vcon
from analyzer.records import Transcript
from tests import builders

DATA = Path(__file__).parent / "data" / "transcripts"


def one(data: bytes | str, name: str = "call.json") -> Transcript:
    (item,) = read_text(data.encode() if isinstance(data, str) else data, name=name)
    assert isinstance(item, Transcript), item
    return item


def fails(data: bytes | str, name: str = "call.json") -> TranscriptError:
    (item,) = read_text(data.encode() if isinstance(data, str) else data, name=name)
    assert isinstance(item, TranscriptError)
    return item


SAID = {
    "native.json": [("agent", None, "Thanks for calling, how can I help?"), ("customer", None, "My refund has not come.")],
    "voices.vtt": [
        ("agent", None, "Thanks for calling, how can I help?"),
        ("customer", None, "My refund & my parcel have not come. Either of them."),
        ("agent", None, "I see."),
        ("customer", None, "Good."),
    ],
    "prefixes.srt": [
        ("agent", None, "Thanks for calling. How can I help?"),
        ("unknown", 1, "Right: my refund has not come."),
        ("unknown", None, "Note: this names nobody."),
    ],
    "whisperx.json": [("unknown", 1, "Thanks for calling."), ("unknown", 0, "Hello there."), ("unknown", 1, "Yes?")],
    "faster_whisper.json": [("unknown", None, "Good morning."), ("unknown", None, "Hello.")],
    "amazon_channels.json": [("unknown", 0, "Well listen. Please."), ("unknown", 1, "Mm-hm.")],
    "amazon_speakers.json": [("unknown", 1, "Hello."), ("unknown", 0, "Hi.")],
    "amazon_call_analytics.json": [("agent", None, "Hello."), ("customer", None, "Where is it?")],
    "vcon_transcript.json": [("agent", None, "Hello."), ("unknown", 1, "Hi.")],
    "vcon_text.json": [("customer", None, "Anyone there?"), ("agent", None, "Good morning.")],
}


@pytest.mark.parametrize("name", SAID)
def test_who_said_what(name: str) -> None:
    (item,) = read_transcripts(DATA / name)
    assert isinstance(item, Transcript), item
    assert [(turn.speaker, turn.channel, turn.text) for turn in item.turns] == SAID[name]


@pytest.mark.parametrize("name", SAID)
def test_the_ending_is_only_a_hint(name: str) -> None:
    data = (DATA / name).read_bytes()
    (by_ending,) = read_text(data, name=name)
    (without,) = read_text(data, name=Path(name).stem)
    assert isinstance(by_ending, Transcript)
    assert by_ending == without


def test_what_else_a_file_says_is_kept() -> None:
    native, vtt, fw, analytics, vcon = (
        one((DATA / name).read_bytes(), name)
        for name in ("native.json", "voices.vtt", "faster_whisper.json", "amazon_call_analytics.json", "vcon_transcript.json")
    )
    assert (native.info.call_id, native.info.queue) == ("c-0001", "billing")
    assert (vtt.info.call_id, vtt.language) == ("voices", "en")
    assert [(turn.start_s, turn.end_s) for turn in vtt.turns][:2] == [(0.0, 2.4), (2.9, 6.0)]
    assert (fw.duration_s, fw.turns[0].confidence, fw.turns[1].confidence) == (7.5, pytest.approx(0.9), 0.75)
    assert (analytics.duration_s, analytics.turns[0].words[0].text, analytics.turns[0].confidence) == (9.0, "Hello.", 0.9)
    assert vcon.info.call_id == "018e3f72-c3a8-8b8e-b468-6ebf2e2e8c14"
    assert (vcon.info.agent_id, vcon.info.reason, vcon.info.started_at) == ("a7", "refund", datetime(2026, 3, 2, 10, 15, tzinfo=UTC))


def test_a_word_without_times_stands_between_its_neighbours() -> None:
    turn = one((DATA / "whisperx.json").read_bytes()).turns[0]
    assert [(word.text, word.start_s, word.end_s) for word in turn.words] == [("Thanks", 0.1, 0.6), ("for", 0.6, 0.9), ("calling.", 0.9, 2.4)]
    assert turn.confidence == pytest.approx(0.8)


def test_a_mm_hm_does_not_cut_a_long_answer() -> None:
    turns = one((DATA / "amazon_channels.json").read_bytes()).turns
    assert [(turn.start_s, turn.end_s) for turn in turns] == [(0.0, 3.0), (1.0, 1.3)]


def test_one_bad_line_does_not_hide_the_others() -> None:
    first, second, third = read_transcripts(DATA / "two_calls_one_bad.jsonl")
    assert isinstance(first, Transcript)
    assert first.info.call_id == "c-1"
    assert isinstance(second, TranscriptError)
    assert "two_calls_one_bad.jsonl, line 2" in str(second)
    assert "robot" in str(second)
    assert isinstance(third, Transcript)
    assert third.info.call_id == "two_calls_one_bad-4"


def test_json_lines_from_a_pipe_and_lists_are_told_apart_from_one_object() -> None:
    lines = (DATA / "two_calls_one_bad.jsonl").read_bytes()
    assert [type(item) for item in read_text(lines, name="-")] == [Transcript, TranscriptError, Transcript]
    many = json.dumps([json.loads(line) for line in lines.splitlines() if line])
    got = list(read_text(many.encode(), name="many.json"))
    assert [type(item) for item in got] == [Transcript, TranscriptError, Transcript]
    assert "many.json, item 1" in str(got[1])
    turns = one('[{"speaker": "agent", "text": "a"}, {"speaker": "customer", "text": "b"}]').turns
    assert [turn.speaker for turn in turns] == ["agent", "customer"]


SRT = "1\n00:00:0{a},000 --> 00:00:0{b},000\nAgent: hi\n\n2\n00:00:0{c},000 --> 00:00:0{d},000\nCustomer: ho\n"
WRONG = {
    "empty": (b" \n", "the file is empty"),
    "utf16": ("WEBVTT\n\n00:00.000 --> 00:01.000\nHi".encode("utf-16"), "UTF-16"),
    "utf16 without a mark": ('{"turns": []}'.encode("utf-16-le"), "UTF-16"),
    "latin1": ('{"turns": [\n{"speaker": "agent", "text": "café"}]}'.encode("latin-1"), "line 2: not UTF-8"),
    "a recording": (b"RIFF\x24\x00\x00\x00WAVEfmt ", "not text"),
    "prose": ("Dear Sir or Madam,", "not a transcript of a known format: neither"),
    "other json": ('{"name": "x", "size": 3}', "not a transcript of a known format. Known are"),
    "broken json": ('{"turns": [', "not JSON"),
    "a number": ("[3]", "item 0: expected a transcript"),
    "empty list": ("[]", "the list is empty"),
    "a score": ('{"schema": 1, "courtesy": {}, "closing": {}}', "a score, not a transcript"),
    "no segments": ('{"text": "hello"}', "no segments"),
    "no turns": ('{"segments": []}', "there are no turns"),
    "no cues": ("WEBVTT\n", "there are no turns"),
    "no words": ('{"vcon": "0.3.0", "parties": [], "dialog": [{"type": "recording"}]}', "there are no words"),
    "encrypted": ('{"vcon": "0.3.0", "ciphertext": "x"}', "signed or encrypted"),
    "must support": ('{"vcon": "0.3.0", "must_support": ["lawful"]}', "lawful"),
    "end before start": (SRT.format(a=3, b=1, c=4, d=5), "the cue at line 2: ends at 1.000 s, before it starts"),
    "cues backwards": (SRT.format(a=3, b=4, c=1, d=2), "the cue at line 6: starts at 1.000 s, before the cue at line 2"),
    "not a time": ("WEBVTT\n\n00:xx --> 00:01.000\nhi", "line 3: this is not a pair of times"),
    "segment without text": ('{"segments": [{"start": 0, "end": 1}]}', "segments[0]: 'text' is missing"),
    "negative time": ('{"segments": [{"start": -1, "end": 1, "text": "x"}]}', "'start' must be a number from 0"),
    "amazon word without time": (
        '{"results": {"items": [{"type": "pronunciation", "alternatives": [{"content": "x"}]}]}}',
        "results, items[0]: the word has no content or no times",
    ),
    "analytics turn without words": ('{"Transcript": [{"ParticipantRole": "AGENT"}]}', "Transcript[0]: 'Content' is missing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_say_what_where_and_what_to_do(case: str) -> None:
    data, message = WRONG[case]
    error = fails(data, "calls/odd.file")
    assert message in str(error)
    assert error.where.startswith("calls/odd.file")
    assert error.do


CARD = "my card is 4111 1111 1111 1111"
SPEAKS = {
    "prose": f"{CARD}, please",
    "keys": json.dumps({CARD: 1}),
    "time line": f"WEBVTT\n\n{CARD} --> 00:01.000\nhi",
    "whisper time": json.dumps({"segments": [{"start": CARD, "end": 1, "text": "x"}]}),
    "amazon time": json.dumps({"results": {"items": [{"start_time": CARD, "end_time": "1", "alternatives": [{"content": "x"}]}]}}),
    "amazon number": json.dumps({"Transcript": [{"Content": "x", "BeginOffsetMillis": -4111111111111111}]}),
    "vcon extensions": json.dumps({"vcon": "0.3.0", "must_support": [CARD]}),
    "vcon start": json.dumps({"vcon": "0.3.0", "parties": [], "dialog": [{"type": "text", "start": CARD, "body": "x"}]}),
    "speaker": json.dumps({"turns": [{"speaker": CARD, "text": "x"}]}),
    "speaker of digits": json.dumps({"turns": [{"speaker": "4111111111111111", "text": "x"}]}),
    "started_at": json.dumps({"turns": [{"speaker": "agent", "text": "x"}], "started_at": "4111-1111-1111-1111"}),
}


@pytest.mark.parametrize("case", SPEAKS)
def test_errors_do_not_repeat_what_was_said(case: str) -> None:
    error = str(fails(SPEAKS[case], "calls/odd.file"))
    assert "4111" not in error
    assert "my card" not in error


def test_a_missing_file_and_a_folder_are_errors_too(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path / "none.jsonl", tmp_path):
        (item,) = read_transcripts(path)
        assert isinstance(item, TranscriptError)
        assert str(path) in str(item)


def test_legs_of_a_vcon_follow_one_another() -> None:
    body = {"segments": [{"start": 1.0, "end": 2.0, "text": "Hello.", "speaker": "agent"}]}
    dialog = [{"type": "recording", "start": f"2026-03-02T10:1{minute}:00Z", "parties": [0]} for minute in (5, 6)]
    analysis = [{"type": "transcript", "dialog": number, "body": body} for number in (1, 0)]
    item = one(json.dumps({"vcon": "0.3.0", "parties": [{"role": "agent"}], "dialog": dialog, "analysis": analysis}))
    assert [turn.start_s for turn in item.turns] == [1.0, 61.0]


@pytest.mark.parametrize("started_at", [None, builders.NOON])
def test_a_written_vcon_reads_back(started_at: datetime | None) -> None:
    call = builders.transcript(call_id="c-9", started_at=started_at, agent_id="a7")
    score = builders.score("c-9").to_json()
    vcon = write_vcon(call, score, created_at=builders.NOON)
    assert one(json.dumps(vcon), "other.json") == call
    assert [item["type"] for item in vcon["analysis"]] == ["transcript", "call_score"]
    assert json.loads(vcon["analysis"][1]["body"])["closing"]["label"] == "neutral"
    assert vcon == write_vcon(call, score, created_at=builders.NOON)
    assert vcon["uuid"][14] == "8"
    assert vcon["uuid"][19] in "89ab"


LABELS = st.sampled_from(["Agent", "customer", "SPEAKER_00", "spk_1", "ch_1", "Denise", "1"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(LABELS, st.text("abc ", min_size=1, max_size=8)), max_size=8))
def test_no_word_is_lost_and_voices_stay_apart(said: list[tuple[str, str]]) -> None:
    segments = [{"start": n * 1.0, "end": n + 0.5, "text": text, "speaker": label} for n, (label, text) in enumerate(said)]
    words = [word for _, text in said for word in text.split()]
    (item,) = read_text(json.dumps({"segments": segments}).encode(), name="x")
    if not words:
        assert isinstance(item, TranscriptError)
        return
    assert isinstance(item, Transcript)
    assert [word for turn in item.turns for word in turn.text.split()] == words
    voices = {(turn.speaker, turn.channel) for turn in item.turns}
    assert len(voices) == len({label.lower() for label, text in said if text.strip()})


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_transcript_or_an_error(data: bytes) -> None:
    assert all(isinstance(item, Transcript | TranscriptError) for item in read_text(data, name="x"))
