"""Composes training windows for the small Whisper: random phrases and pauses, worn by telephone band, rate, level and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, resample_poly, sosfilt

from tests.whisper.fixture import phrases
from tests.whisper.voices import RATE_HZ, Clip

FRAME_S: Final = 0.02
WINDOW_FRAMES: Final = 1500
#: Every sound the voices name; the first is silence.
SOUNDS: Final = (
    *("pau", "aa", "ae", "ah", "ao", "aw", "ax", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh", "ih", "iy", "jh", "k"),
    *("l", "m", "n", "ng", "ow", "p", "r", "s", "t", "th", "uh", "uw", "v", "w", "y", "z", "oy", "sh", "zh", "en", "el", "em"),
)
IGNORE: Final = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What kind of window to draw: how many frames of it the encoder sees and from where, and what it may hold."""

    frames: int
    first_frame: int = 0
    most_phrases: int = 3
    silent: float = 0.06
    lead_s: float = 1.0
    pause_s: float = 1.0
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Audio with its answer: token ids and targets, per frame the sound and phrase, per token the frames it is heard in."""

    samples: NDArray[np.float32]
    tokens: list[int]
    targets: list[int]
    spans: list[tuple[int, int]]
    sounds: NDArray[np.int64]
    phrases: NDArray[np.int64]


@cache
def tokenizer() -> Any:
    """Whisper's multilingual tokenizer."""
    from whisper.tokenizer import get_tokenizer

    return get_tokenizer(True, num_languages=99)


@cache
def word_tokens(text: str) -> tuple[tuple[int, ...], ...]:
    """Token ids per word of a phrase, each word with its leading space."""
    return tuple(tuple(tokenizer().encode(" " + word)) for word in text.split())


def wear(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise, a telephone's band and µ-law, and level, each by chance."""
    if rng.random() < 0.6:
        noise = rng.standard_normal(len(samples)).astype(np.float32)
        if rng.random() < 0.5:
            noise = sosfilt(butter(1, rng.uniform(300, 3000), fs=RATE_HZ, output="sos"), noise).astype(np.float32)
        noise *= 0.1 / max(1e-6, float(noise.std())) * 10 ** (-rng.uniform(12, 50) / 20)
        samples = samples + noise
    if rng.random() < 0.45:
        samples = telephone(samples, band=rng.random() < 0.5)
    return (samples * 10 ** (rng.uniform(-26, 4) / 20)).clip(-1, 1).astype(np.float32)


def telephone(samples: NDArray[np.float32], *, band: bool) -> NDArray[np.float32]:
    """8 kHz, G.711 µ-law and back to 16 kHz; `band` also keeps only 300 to 3400 Hz."""
    narrow = resample_poly(samples, 1, 2)
    if band:
        narrow = sosfilt(butter(2, (300, 3400), btype="band", fs=RATE_HZ // 2, output="sos"), narrow)
    narrow = narrow.clip(-1, 1)
    code = np.rint(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    return resample_poly(np.sign(code) * (256 ** np.abs(code) - 1) / 255, 2, 1).astype(np.float32)


def compose(clips: dict[str, dict[str, Sequence[Clip]]], plan: Plan, rng: np.random.Generator) -> Window:
    """Draws one window. `clips` holds them by language and voice."""
    language = "de" if rng.random() < 0.12 else "en"
    voices = clips[language]
    voice = voices[str(rng.choice(list(voices)))]
    total_s = plan.frames * FRAME_S
    audio = np.zeros(int(total_s * RATE_HZ), np.float32)
    sounds = np.zeros(plan.frames, np.int64)
    heard = np.zeros(plan.frames, np.int64)
    placed: list[tuple[Clip, float, float]] = []
    at_s = float(rng.uniform(0.0, plan.lead_s if rng.random() < 0.85 else 2.5 * plan.lead_s))
    content_s = at_s
    wanted = 0 if rng.random() < plan.silent else int(rng.integers(1, plan.most_phrases + 1))
    for _ in range(wanted):
        clip = voice[int(rng.integers(len(voice)))] if rng.random() < 0.8 else _any(voices, rng)
        samples, rate = _at_rate(clip, rng)
        length_s = len(samples) / RATE_HZ
        room_s = total_s - at_s
        if length_s > room_s and not (plan.cut and room_s > 0.3):
            break
        start = int(at_s * RATE_HZ)
        fits = min(len(samples), len(audio) - start)
        audio[start : start + fits] += samples[:fits] * 10 ** (rng.uniform(-5, 3) / 20)
        _label(clip, at_s, rate, sounds, heard)
        placed.append((clip, at_s, rate))
        content_s = min(total_s, at_s + length_s)
        at_s = content_s + float(rng.uniform(0.1, plan.pause_s if rng.random() < 0.85 else 4 * plan.pause_s))
    audio = wear(audio, rng)
    if rng.random() < 0.75:  # the engines pad the spectrogram, not the sound, behind what a recording holds
        audio = audio[: int(min(total_s, content_s + float(rng.choice([0.05, 0.3, 1.0, 2.5])) * rng.random()) * RATE_HZ)]
    tokens, targets, spans = _answer(placed, language, plan, rng)
    return Window(samples=audio, tokens=tokens, targets=targets, spans=spans, sounds=sounds, phrases=heard)


def _any(voices: dict[str, Sequence[Clip]], rng: np.random.Generator) -> Clip:
    other = voices[str(rng.choice(list(voices)))]
    return other[int(rng.integers(len(other)))]


def _at_rate(clip: Clip, rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
    if rng.random() < 0.35:
        return clip.samples, 1.0
    rate = float(rng.uniform(0.92, 1.09))
    where = np.arange(0, len(clip.samples) - 1, rate)
    return np.interp(where, np.arange(len(clip.samples)), clip.samples).astype(np.float32), rate


def _label(clip: Clip, at_s: float, rate: float, sounds: NDArray[np.int64], heard: NDArray[np.int64]) -> None:
    for name, start_s, end_s in clip.sounds:
        sounds[round((at_s + start_s / rate) / FRAME_S) : round((at_s + end_s / rate) / FRAME_S)] = SOUNDS.index(name)
    end_s = at_s + len(clip.samples) / RATE_HZ / rate
    heard[round(at_s / FRAME_S) : round(end_s / FRAME_S)] = clip.phrase + 1


def _answer(
    placed: list[tuple[Clip, float, float]], language: str, plan: Plan, rng: np.random.Generator
) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Input tokens, their targets (`IGNORE` where not asked) and the frames each target is heard in ((0, 0): anywhere)."""
    tok = tokenizer()
    timed = rng.random() < 0.65
    prompt: list[int] = []
    if rng.random() < 0.1:
        said = [p.text for p in phrases() if p.language == language]
        prompt = [tok.sot_prev]
        for text in rng.choice(said, int(rng.integers(1, 5))):
            prompt += [t for word in word_tokens(str(text)) for t in word]
    text: list[tuple[int, tuple[int, int]]] = []
    total_s = plan.frames * FRAME_S
    for clip, at_s, rate in placed:
        end_s = at_s + (clip.words[-1][1] - clip.words[0][0]) / rate
        start, end = round(at_s / FRAME_S), round(end_s / FRAME_S)
        cut = end_s > total_s + 0.02
        if timed:
            text.append((tok.timestamp_begin + plan.first_frame + start, (start - 3, start + 4)))
        if cut:
            break
        text += _words(clip, at_s, rate)
        if timed:
            text.append((tok.timestamp_begin + plan.first_frame + end, (end - 4, end + 3)))
    if timed and not placed:
        text.append((tok.timestamp_begin + plan.first_frame, (0, 0)))
    last = text[-1][1][1] if text else 0
    text.append((tok.eot, (last, last + 15) if text and not timed else (0, 0)))
    head = [tok.sot, tok.to_language_token(language), tok.transcribe] + ([] if timed else [tok.no_timestamps])
    tokens = prompt + head + [token for token, _ in text[:-1]]
    asked = [head[1] if placed else tok.no_speech] + [IGNORE] * (len(head) - 2)
    targets = [IGNORE] * len(prompt) + asked + [token for token, _ in text]
    spans = [(0, 0)] * (len(prompt) + len(head) - 1) + [span for _, span in text]
    return tokens, targets, spans


def _words(clip: Clip, at_s: float, rate: float) -> list[tuple[int, tuple[int, int]]]:
    out = []
    for tokens, (start_s, end_s) in zip(word_tokens(phrases()[clip.phrase].text), clip.words, strict=True):
        sizes = np.array([len(tokenizer().decode([token])) for token in tokens], float)
        edges = start_s + (end_s - start_s) * np.concatenate([[0], np.cumsum(sizes)]) / sizes.sum()
        for token, a, b in zip(tokens, edges[:-1], edges[1:], strict=True):
            out.append((token, (round((at_s + a / rate) / FRAME_S), max(round((at_s + b / rate) / FRAME_S), round((at_s + a / rate) / FRAME_S) + 2))))
    return out
