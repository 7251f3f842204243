"""Turns keep every word in order; roles come from words alone; a mono recording is cut by voice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.audio import SAMPLE_RATE_HZ, Segment, Utterance
from analyzer.errors import ModelError
from analyzer.records import Word
from analyzer.speakers import tell_agent, to_turns
from analyzer.voices import find_voices, mel_spectrum, separate


def said(channel: int, start_s: float, text: str, *, each_s: float = 0.3, confidence: float | None = 0.8) -> Utterance:
    """Words back to back, `each_s` long."""
    words = tuple(
        Word(text=word, start_s=start_s + n * each_s, end_s=start_s + (n + 1) * each_s, confidence=confidence) for n, word in enumerate(text.split())
    )
    return Utterance(channel=channel, text=text, start_s=start_s, end_s=words[-1].end_s, words=words, confidence=confidence)


def told(turns: object) -> list[tuple[str, str]]:
    return [(turn.speaker, turn.text) for turn in turns]  # type: ignore[attr-defined]


LONG = "so what happened is that the parcel went to the wrong house"
TURNS = {
    "question and answer": (
        [said(0, 0.0, "may i have your name"), said(1, 2.0, "rob"), said(0, 2.6, "thanks rob")],
        [("agent", "may i have your name"), ("customer", "rob"), ("agent", "thanks rob")],
    ),
    "a mm-hm within a long answer": (
        [said(1, 0.0, LONG), said(0, 1.5, "mm-hm"), said(1, 4.0, "last week"), said(0, 5.5, "i see")],
        [("customer", f"{LONG} last week"), ("agent", "mm-hm"), ("agent", "i see")],
    ),
    "a real interruption": (
        [said(1, 0.0, LONG), said(0, 1.0, "sorry which house was it")],
        [("customer", "so what happened is"), ("agent", "sorry which house was it"), ("customer", "that the parcel went to the wrong house")],
    ),
    "a long silence ends a turn": ([said(0, 0.0, "hold on"), said(0, 9.0, "hello again")], [("agent", "hold on"), ("agent", "hello again")]),
    "cut by the detector, not by the speaker": ([said(0, 0.0, "let me"), said(0, 1.2, "see")], [("agent", "let me see")]),
    "out of order, without words": (
        [
            Utterance(channel=1, text=" hi  there ", start_s=3.0, end_s=4.0, confidence=0.5),
            Utterance(channel=0, text="hello", start_s=0.0, end_s=1.0),
            Utterance(channel=0, text=" ", start_s=1.0, end_s=2.0),
        ],
        [("agent", "hello"), ("customer", "hi there")],
    ),
    "a third voice": (
        [said(0, 0.0, "hello"), said(1, 1.0, "i want to ask something"), said(2, 4.0, "ring ring")],
        [("agent", "hello"), ("customer", "i want to ask something"), ("unknown", "ring ring")],
    ),
    "nothing": ([], []),
}


@pytest.mark.parametrize("case", TURNS)
def test_turns_in_the_right_order(case: str) -> None:
    utterances, expected = TURNS[case]
    assert told(to_turns(utterances, 0)) == expected


def test_a_turn_keeps_times_channel_and_confidence_of_its_words() -> None:
    (turn,) = to_turns([said(3, 1.0, "one two", confidence=0.9), said(3, 1.6, "three", confidence=0.3)], None)
    assert (turn.speaker, turn.channel, turn.start_s, turn.end_s) == ("unknown", 3, 1.0, pytest.approx(1.9))
    assert turn.confidence == pytest.approx(0.7)
    assert [word.text for word in turn.words] == ["one", "two", "three"]


@st.composite
def conversations(draw: st.DrawFn) -> list[Utterance]:
    out = []
    for number in range(draw(st.integers(0, 12))):
        start_s = draw(st.floats(0, 20))
        channel = draw(st.integers(0, 2))
        if draw(st.booleans()):
            text = " ".join(f"w{number}x{n}" for n in range(draw(st.integers(1, 8))))
            out.append(said(channel, start_s, text, each_s=draw(st.floats(0.05, 1.0)), confidence=draw(st.none() | st.floats(0, 1))))
        else:
            out.append(Utterance(channel=channel, text=f"loose{number} text", start_s=start_s, end_s=start_s + draw(st.floats(0, 4))))
    return out


@settings(max_examples=60, deadline=None)
@given(conversations(), st.sampled_from([None, 0, 1]))
def test_no_word_is_lost_or_doubled_and_turns_are_in_order(utterances: list[Utterance], agent: int | None) -> None:
    turns = to_turns(utterances, agent)
    spoken = Counter((said.channel, word) for said in utterances for word in said.text.split())
    assert Counter((turn.channel, word) for turn in turns for word in turn.text.split()) == spoken
    assert Counter(word for turn in turns for word in turn.words) == Counter(word for said in utterances for word in said.words)
    starts = [turn.start_s for turn in turns]
    assert starts == sorted(starts)  # type: ignore[type-var]
    assert told(to_turns(reversed(utterances), agent)) == told(turns)


AGENT = "thank you for calling may i have your account number please let me check that for you is there anything else i can help you with today"
CUSTOMER = "yeah hi i ordered a kettle two weeks ago and it still hasn't come i rang last week and nobody called me back my name is rob"


@pytest.mark.parametrize(("agent", "customer"), [(0, 1), (1, 0), (3, 2)])
def test_the_agent_is_told_from_the_words_whichever_the_channel(agent: int, customer: int) -> None:
    found, confidence = tell_agent({agent: AGENT, customer: CUSTOMER})
    assert found == agent
    assert confidence > 0.9
    assert tell_agent(dict(sorted({agent: AGENT, customer: CUSTOMER}.items(), reverse=True))) == (found, confidence)


def test_case_and_punctuation_do_not_matter() -> None:
    assert tell_agent({0: CUSTOMER.upper() + "!", 1: AGENT.title() + "?"}) == tell_agent({0: CUSTOMER, 1: AGENT})


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, None),
        ({0: " ... ", 1: ""}, None),
        ({0: AGENT}, 0),
        ({0: CUSTOMER}, None),
        ({0: AGENT, 1: ""}, 0),
        ({0: CUSTOMER, 1: AGENT, 2: CUSTOMER}, 1),
    ],
)
def test_one_side_none_or_three(texts: dict[int, str], expected: int | None) -> None:
    found, confidence = tell_agent(texts)
    assert found == expected
    assert 0.0 <= confidence <= 1.0
    assert (confidence == 0.0) == (not any(any(c.isalnum() for c in text) for text in texts.values()))


def test_with_few_words_it_is_less_sure() -> None:
    short = tell_agent({0: "okay", 1: "yes"})[1]
    assert short < 0.8 < tell_agent({0: AGENT, 1: CUSTOMER})[1]


def voice(pitch_hz: float, formants: tuple[float, float], seconds: float, seed: int) -> np.ndarray:
    """A vowel-like sound: a wobbling buzz of harmonics shaped by two formants, in syllables."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + 0.05 * np.sin(2 * np.pi * 1.3 * time + rng.uniform(0, 6)))) / SAMPLE_RATE_HZ
    sound = np.zeros_like(time)
    for harmonic in range(1, int(3800 / pitch_hz)):
        gain = sum(np.exp(-(((harmonic * pitch_hz - f) / 150) ** 2)) for f in formants) + 0.02
        sound += gain * np.sin(harmonic * phase)
    sound *= 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time + rng.uniform(0, 6))
    return (0.1 * sound / np.sqrt(np.mean(sound**2)) + rng.normal(0, 0.001, len(time))).astype(np.float32)


LOW, HIGH = (95.0, (450.0, 1000.0)), (240.0, (800.0, 2300.0))


def test_two_voices_within_one_segment_are_cut_apart() -> None:
    sound = np.concatenate([voice(*LOW, 4.0, 1), voice(*HIGH, 4.0, 2), voice(*LOW, 4.0, 3)])
    pieces = separate([Segment(channel=0, start_s=10.0, samples=sound)])
    assert [piece.channel for piece in pieces] == [0, 1, 0]
    assert [piece.start_s for piece in pieces] == pytest.approx([10.0, 14.0, 18.0], abs=0.6)
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), sound)


def test_one_voice_stays_one() -> None:
    pieces = separate([Segment(channel=0, start_s=0.0, samples=voice(*LOW, 6.0, 1)), Segment(channel=0, start_s=8.0, samples=voice(*LOW, 5.0, 4))])
    assert [(piece.channel, piece.start_s) for piece in pieces] == [(0, 0.0), (0, 8.0)]


@pytest.mark.parametrize("samples", [0, 1, 200, 4000])
def test_the_shortest_segments_pass_whole(samples: int) -> None:
    sound = np.full(samples, 0.01, dtype=np.float32)
    pieces = separate([Segment(channel=0, start_s=1.0, samples=sound)])
    assert sum(len(piece.samples) for piece in pieces) == samples
    assert all(piece.channel == 0 for piece in pieces)


def test_voices_are_counted_up_to_four() -> None:
    rng = np.random.default_rng(5)
    for count in range(1, 5):
        centres = np.eye(8, dtype=np.float32)[:count] + 0.3
        points = np.concatenate([centre + rng.normal(0, 0.05, (20, 8)) for centre in centres]).astype(np.float32)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        assert len(find_voices(points)) == count


def test_the_mel_spectrum_is_the_one_the_encoder_was_trained_on() -> None:
    """Values of librosa 0.11, `melspectrogram(y, sr=16000, n_fft=400, hop_length=160, n_mels=40)`."""
    sound = np.random.default_rng(0).normal(0, 0.1, 20000).astype(np.float32)
    got = mel_spectrum(sound)
    assert got.shape == (126, 40)
    expected = [0.07101648, 0.01348639, 0.00368823, 0.00675623, 0.01285769, 0.02251174]
    assert got[10, :6] == pytest.approx(expected, rel=1e-4)
    assert got[100, -3:] == pytest.approx([0.02961111, 0.03683742, 0.03165217], rel=1e-4)


def test_damaged_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import analyzer.speakers as speakers

    monkeypatch.setattr(speakers, "weights_dir", lambda kind: tmp_path)
    (tmp_path / "roles.json").write_text("{}")
    speakers._role_weights.cache_clear()
    try:
        with pytest.raises(ModelError, match=r"roles\.json"):
            tell_agent({0: "hello"})
    finally:
        speakers._role_weights.cache_clear()
