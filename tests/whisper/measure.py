"""Measures the small Whisper on freshly composed windows, through both engines: `python -m tests.whisper.measure --windows 60`."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.whisper.compose import telephone
from tests.whisper.fixture import ASSET, ctranslate2_folder, openai_checkpoint, phrases
from tests.whisper.voices import RATE_HZ, VOICES, Clip, speak

#: A word as an engine gives it: text, start and end in seconds.
Heard = tuple[str, float, float]
Engine = Callable[[NDArray[np.float32], str], list[Heard]]
#: Neither these rates nor, together with them, this pitch were trained on.
_STRETCH, _PITCH = (0.9, 1.0, 1.12), (0.97, 1.05)


def plain(text: str) -> str:
    """Lower case, letters and spaces only."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def engines(folder: Path, asset: Path, compute_type: str) -> dict[str, Engine]:
    """Greedy decoding through openai-whisper and faster-whisper, words with times."""
    import whisper
    from faster_whisper import WhisperModel

    slow = whisper.load_model(str(openai_checkpoint(folder, asset)))
    fast = WhisperModel(str(ctranslate2_folder(folder, asset)), device="cpu", compute_type=compute_type, cpu_threads=1)
    options: dict[str, Any] = {"temperature": 0.0, "word_timestamps": True, "condition_on_previous_text": False}

    def by_openai(samples: NDArray[np.float32], language: str) -> list[Heard]:
        result = slow.transcribe(samples, language=language, fp16=False, **options)
        return [(w["word"], float(w["start"]), float(w["end"])) for s in result["segments"] for w in s["words"]]

    def by_faster(samples: NDArray[np.float32], language: str) -> list[Heard]:
        parts, _ = fast.transcribe(samples, language=language, beam_size=1, **options)
        return [(w.word, w.start, w.end) for part in parts for w in part.words]

    return {"openai-whisper": by_openai, f"faster-whisper {compute_type}": by_faster}


def window(clips: list[Clip], rng: np.random.Generator) -> tuple[NDArray[np.float32], list[tuple[Clip, float]]]:
    """One to four phrases of one voice with pauses, at a new level, half of them through a telephone, a little noise."""
    at_s, placed = float(rng.uniform(0.1, 0.6)), []
    for _ in range(int(rng.integers(1, 5))):
        clip = clips[int(rng.integers(len(clips)))]
        placed.append((clip, at_s))
        at_s += len(clip.samples) / RATE_HZ + float(rng.uniform(0.2, 1.5))
    samples = np.zeros(int(at_s * RATE_HZ), np.float32)
    for clip, start_s in placed:
        start = int(start_s * RATE_HZ)
        samples[start : start + len(clip.samples)] += clip.samples
    samples *= 10 ** (rng.uniform(-22, 0) / 20)
    samples += (rng.standard_normal(len(samples)) * np.abs(samples).max() * 10 ** (-rng.uniform(30, 50) / 20)).astype(np.float32)
    return (telephone(samples, band=True) if rng.random() < 0.5 else samples).astype(np.float32), placed


def right_of(wanted: list[str], heard: str) -> int:
    """How many of the phrases are in what was heard, in their order (longest common subsequence over whole phrases)."""
    found, at = 0, 0
    padded = f" {heard} "
    for phrase in wanted:
        place = padded.find(f" {phrase} ", at)
        if place >= 0:
            found, at = found + 1, place + len(phrase) + 1
    return found


def main() -> None:
    """Prints, per engine and voice, phrases right, words too many, and how far word times are off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--asset", type=Path, default=ASSET)
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--seed", type=int, default=99)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    known = phrases()
    tally: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    off: dict[str, list[float]] = defaultdict(list)
    missed: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        able = engines(Path(folder), args.asset, args.compute_type)
        for number in range(args.windows):
            language = "de" if number % 8 == 7 else "en"
            voice = VOICES[number % len(VOICES)]
            choice = rng.choice([i for i, p in enumerate(known) if p.language == language], 3, replace=False)
            said = [speak(int(i), known[i].spoken, voice, stretch=float(rng.choice(_STRETCH)), pitch=float(rng.choice(_PITCH))) for i in choice]
            samples, placed = window(said, rng)
            for name, engine in able.items():
                _judge(engine(samples, language), placed, tally[name, voice], off[name], missed[name])
    report(tally, off)
    print(json.dumps({name: lines[:12] for name, lines in missed.items()}, indent=1))


def _judge(heard: list[Heard], placed: list[tuple[Clip, float]], sums: dict[str, float], off: list[float], missed: list[str]) -> None:
    wanted = [plain(phrases()[clip.phrase].text) for clip, _ in placed]
    got = plain("".join(word for word, _, _ in heard))
    right = right_of(wanted, got)
    sums["phrases"] += len(wanted)
    sums["right"] += right
    sums["windows"] += 1
    if got == " ".join(wanted):
        sums["exact"] += 1
        truth = [(start_s + a, start_s + b) for clip, start_s in placed for a, b in clip.words]
        off += [max(abs(a - c), abs(b - d)) for (a, b), (_, c, d) in zip(truth, heard, strict=True)] if len(truth) == len(heard) else []
    else:
        missed.append(f"{' | '.join(wanted)} -> {got}")


def report(tally: dict[tuple[str, str], dict[str, float]], off: dict[str, list[float]]) -> None:
    """One line per engine and voice, one per engine."""
    for name in sorted({engine for engine, _ in tally}):
        lines = [(voice, sums) for (engine, voice), sums in tally.items() if engine == name]
        for voice, sums in lines:
            phrases_right, windows_right = f"{sums['right']:.0f}/{sums['phrases']:.0f}", f"{sums['exact']:.0f}/{sums['windows']:.0f}"
            print(f"{name:24} {voice:22} phrases right {phrases_right}, windows exact {windows_right}")
        right, total = sum(s["right"] for _, s in lines), sum(s["phrases"] for _, s in lines)
        times = np.array(off[name] or [np.nan])
        spread = f"median {np.median(times):.2f} s, 95th {np.percentile(times, 95):.2f} s, most {times.max():.2f} s"
        print(f"{name:24} all: {right / total:.3f} of {total:.0f} phrases; word times off by {spread}")


if __name__ == "__main__":
    main()
