"""Both Whisper engines on decoded words: a call of two channels, long speech, telephone sound, languages, silence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from analyzer.asr import Resolved, resolve
from analyzer.audio import Segment, Utterance, segments, survey
from analyzer.config import AudioSettings
from analyzer.errors import EngineError
from analyzer.records import Word
from analyzer.speakers import to_turns
from tests.whisper.call import RATE_HZ, Said, clips, in_a_row, mix, write
from tests.whisper.fixture import ASSET, expanded, phrases

SETTINGS = AudioSettings()
ENGINES = ("whisper", "openai-whisper")
#: How far a word's start or end may be from the truth.
NEAR_S = 0.5


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Resolved]:
    """Each engine with the small checkpoint, by its name in a spec."""
    files = expanded(tmp_path_factory.getbasetemp().parent)
    return {name: resolve(f"{name}:{path}", device="cpu") for name, path in zip(ENGINES, (files.ctranslate2, files.openai), strict=True)}


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def heard(engine: Resolved, path: Path, language: str = "en") -> list[Utterance]:
    """What an engine hears in a recording, through voice activity detection and cutting."""
    found = survey(path, SETTINGS)
    return list(engine.transcriber.transcribe(segments(path, found.speech, SETTINGS), language=language))


def as_segment(said: Sequence[Said], **sound: float | None) -> Segment:
    return Segment(channel=0, start_s=0.0, samples=mix(said, channels=1, **sound)[0])  # type: ignore[arg-type]


def words_of(utterances: Iterable[Utterance], channel: int) -> list[Word]:
    return sorted((w for u in utterances if u.channel == channel for w in u.words), key=lambda w: w.start_s)


def check_words(found: Sequence[Word], said: Sequence[Said]) -> None:
    """The words are those said, each within `NEAR_S` of where it is said."""
    truth = [word for one in said for word in one.words]
    assert [plain(w.text) for w in found] == [plain(text) for text, _, _ in truth]
    for word, (_, start_s, end_s) in zip(found, truth, strict=True):
        assert abs(word.start_s - start_s) <= NEAR_S, (word, start_s)
        assert abs(word.end_s - end_s) <= NEAR_S, (word, end_s)


def two_channel_call() -> list[Said]:
    """Agent on channel 0, customer on channel 1; the customer's "Okay." falls inside what the agent says."""
    greeting = in_a_row(["Thank you for calling, how can I help?"])
    problem = in_a_row(["My parcel has not arrived.", "I want my money back."], channel=1, start_s=greeting[-1].end_s + 0.6)
    long = in_a_row(
        ["I am sorry to hear that.", "Let me check that for you.", "I will send you a new one today.", "Your refund is on its way."],
        start_s=problem[-1].end_s + 0.5,
        pause_s=(0.3, 0.45),
    )
    nod = in_a_row(["Okay."], channel=1, start_s=long[1].start_s + 0.6)
    praise = in_a_row(["That is very kind of you."], channel=1, start_s=long[-1].end_s + 0.7)
    question = in_a_row(["Is there anything else I can do for you?"], start_s=praise[-1].end_s + 0.5)
    no = in_a_row(["No, that is all."], channel=1, start_s=question[-1].end_s + 0.6)
    end = in_a_row(["Have a nice day, goodbye."], start_s=no[-1].end_s + 0.5)
    return [*greeting, *problem, *long, *nod, *praise, *question, *no, *end]


CALL_TURNS = [
    ("agent", "thank you for calling how can i help"),
    ("customer", "my parcel has not arrived i want my money back"),
    ("agent", "i am sorry to hear that let me check that for you i will send you a new one today your refund is on its way"),
    ("customer", "okay"),
    ("customer", "that is very kind of you"),
    ("agent", "is there anything else i can do for you"),
    ("customer", "no that is all"),
    ("agent", "have a nice day goodbye"),
]


@pytest.mark.parametrize("name", ENGINES)
def test_a_call_becomes_turns_in_the_right_order(name: str, engines: dict[str, Resolved], tmp_path: Path) -> None:
    said = two_channel_call()
    path = write(tmp_path / "call.flac", mix(said, channels=2))
    assert survey(path, SETTINGS).layout == "two-channel"
    utterances = heard(engines[name], path)
    for channel in (0, 1):
        check_words(words_of(utterances, channel), [one for one in said if one.channel == channel])
    turns = to_turns(utterances, agent=0)
    assert [(turn.speaker, plain(turn.text)) for turn in turns] == CALL_TURNS
    assert [turn.start_s for turn in turns] == sorted(turn.start_s or 0.0 for turn in turns)


@pytest.mark.parametrize("name", ENGINES)
def test_a_quiet_telephone_recording_is_heard_as_well(name: str, engines: dict[str, Resolved], tmp_path: Path) -> None:
    customer = in_a_row(["I was charged twice this month.", "That is not good enough."], channel=1, pause_s=(1.2,))
    agent = in_a_row(["Can I have your order number, please?"], start_s=customer[-1].end_s + 0.4)
    path = write(tmp_path / "call.wav", 0.15 * mix([*customer, *agent], channels=2, noise_db=-50.0), codec="pcm_mulaw", rate_hz=8_000)
    utterances = heard(engines[name], path)
    check_words(words_of(utterances, 0), agent)
    check_words(words_of(utterances, 1), customer)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(("pause_s", "is_cut_by"), [(0.6, "pauses"), (0.25, "the limit of a segment")])
def test_speech_longer_than_a_window_loses_and_doubles_no_word(
    name: str, pause_s: float, is_cut_by: str, engines: dict[str, Resolved], tmp_path: Path
) -> None:
    said = in_a_row([p.text for p in phrases() if p.language == "en"], pause_s=(pause_s,))
    assert said[-1].end_s > 30
    path = write(tmp_path / "long.flac", mix(said, channels=1))
    longest_s = max(span.end_s - span.start_s for span in survey(path, SETTINGS).speech)
    assert (longest_s > SETTINGS.max_segment_s) == (is_cut_by == "the limit of a segment")
    check_words(words_of(heard(engines[name], path), 0), said)


@pytest.mark.parametrize("name", ENGINES)
def test_the_words_of_a_segment_are_moved_to_its_place_in_the_recording(name: str, engines: dict[str, Resolved]) -> None:
    said = in_a_row(["Please hold the line."])
    here = as_segment(said)
    there = Segment(channel=3, start_s=600.0, samples=here.samples)
    first, second = (list(engines[name].transcriber.transcribe([one], language="en")) for one in (here, there))
    assert [u.channel for u in second] == [3]
    assert [w.start_s - 600.0 for u in second for w in u.words] == pytest.approx([w.start_s for u in first for w in u.words])
    assert second[0].start_s - 600.0 == pytest.approx(first[0].start_s)


@pytest.mark.parametrize("name", ENGINES)
def test_german_is_heard_as_german(name: str, engines: dict[str, Resolved]) -> None:
    said = in_a_row(["Guten Tag.", "Auf Wiedersehen."], pause_s=(0.6,))
    (*utterances,) = engines[name].transcriber.transcribe([as_segment(said)], language="de")
    assert plain(" ".join(u.text for u in utterances)) == "guten tag auf wiedersehen"


@pytest.mark.parametrize("name", ENGINES)
def test_an_unknown_language_is_refused(name: str, engines: dict[str, Resolved]) -> None:
    with pytest.raises(EngineError, match="tlh"):
        list(engines[name].transcriber.transcribe([as_segment(in_a_row(["Okay."]))], language="tlh"))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("level_db", [None, -50.0])
def test_where_nobody_speaks_there_are_no_words(name: str, level_db: float | None, engines: dict[str, Resolved]) -> None:
    noise = np.random.default_rng(5).standard_normal(4 * RATE_HZ).astype(np.float32)
    samples = np.zeros_like(noise) if level_db is None else noise * np.float32(10 ** (level_db / 20))
    assert list(engines[name].transcriber.transcribe([Segment(channel=0, start_s=0.0, samples=samples)], language="en")) == []


@pytest.mark.parametrize("name", ENGINES)
def test_confidence_is_a_probability_and_high_on_known_speech(name: str, engines: dict[str, Resolved]) -> None:
    utterances = list(engines[name].transcriber.transcribe([as_segment(in_a_row(["I want to speak to your manager."]))], language="en"))
    values = [u.confidence for u in utterances] + [w.confidence for u in utterances for w in u.words]
    assert values
    assert all(value is not None and 0.5 <= value <= 1.0 for value in values), values


def test_the_checkpoint_is_small_and_the_clips_speak_every_phrase() -> None:
    assert ASSET.stat().st_size < 10_000_000
    assert set(clips()) == {phrase.text for phrase in phrases()}
