"""Speaks the phrases with free synthetic voices (flite, festival), with the times of every sound and word.

`python -m tests.whisper.voices` writes the clips of tests/data/spoken anew, at a rate that training does not use.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

RATE_HZ: Final = 16_000
FLITE: Final = ("slt", "rms", "awb", "kal16")
FESTIVAL: Final = ("cmu_us_slt_arctic_hts", "kal_diphone")
VOICES: Final = FLITE + FESTIVAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One phrase as one voice says it, cut to its speech: 16 kHz samples, sounds and words as (start_s, end_s)."""

    phrase: int
    voice: str
    samples: NDArray[np.float32]
    sounds: tuple[tuple[str, float, float], ...]
    words: tuple[tuple[float, float], ...]


def speak(phrase: int, spoken: str, voice: str, *, stretch: float, pitch: float = 1.0) -> Clip:
    """Synthesises one clip; `stretch` makes it slower, `pitch` scales the fundamental where the voice allows it."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "clip.wav"
        if voice in FLITE:
            sounds = _flite(spoken, voice, wav, stretch, pitch)
        else:
            sounds = _festival(spoken, voice, wav, stretch)
        samples = _read(wav)
    spoken_sounds = [s for s in sounds if s[0] != "pau"]
    start_s, end_s = spoken_sounds[0][1], spoken_sounds[-1][2]
    moved = tuple((name, a - start_s, b - start_s) for name, a, b in sounds if b > start_s and a < end_s)
    cut = samples[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)]
    return Clip(phrase=phrase, voice=voice, samples=cut, sounds=moved, words=_words(spoken, moved))


def _flite(spoken: str, voice: str, wav: Path, stretch: float, pitch: float) -> list[tuple[str, float, float]]:
    mean_hz = {"slt": 175, "rms": 100, "awb": 130, "kal16": 105}[voice] * pitch
    options = ["--setf", f"duration_stretch={stretch}"] + (["--setf", f"int_f0_target_mean={mean_hz:.0f}"] if pitch != 1.0 else [])
    command = ["flite", "-voice", voice, *options, "-psdur", "-t", spoken, "-o", str(wav)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ends = [(name, float(end)) for name, end in re.findall(r"(\w+):([\d.]+)", printed)]
    return _spans(ends)


def _festival(spoken: str, voice: str, wav: Path, stretch: float) -> list[tuple[str, float, float]]:
    segments = wav.with_suffix(".segs")
    script = f"""(voice_{voice}) (Parameter.set 'Duration_Stretch {stretch})
    (set! u (utt.synth (Utterance Text "{spoken}"))) (utt.save.wave u "{wav}" 'riff) (utt.save.segs u "{segments}")"""
    file = wav.with_suffix(".scm")
    file.write_text(script)
    subprocess.run(["festival", "-b", str(file)], check=True, capture_output=True)
    rows = [line.split() for line in segments.read_text().splitlines()[1:]]
    return _spans([(row[2], float(row[0])) for row in rows])


def _spans(ends: list[tuple[str, float]]) -> list[tuple[str, float, float]]:
    starts = [0.0] + [end for _, end in ends[:-1]]
    return [(name, start, end) for start, (name, end) in zip(starts, ends, strict=True)]


def _read(wav: Path) -> NDArray[np.float32]:
    with wave.open(str(wav)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
        rate_hz = file.getframerate()
    samples = samples if rate_hz == RATE_HZ else resample_poly(samples, RATE_HZ, rate_hz).astype(np.float32)
    return samples / max(1e-3, float(np.abs(samples).max())) * 0.5


@cache
def _sounds_in(word: str) -> int:
    printed = subprocess.run(["flite", "-voice", "kal16", "-ps", "-t", word, "-o", "none"], check=True, capture_output=True, text=True)
    return len([name for name in printed.stdout.split() if name != "pau"])


def _words(spoken: str, sounds: tuple[tuple[str, float, float], ...]) -> tuple[tuple[float, float], ...]:
    """Word times: the sounds dealt out by how many each word has alone (scaled where a voice says more or fewer)."""
    said = [s for s in sounds if s[0] != "pau"]
    counts = np.array([_sounds_in(word) for word in re.findall(r"[a-z']+", spoken.lower())])
    edges = np.rint(np.concatenate([[0], np.cumsum(counts)]) * len(said) / counts.sum()).astype(int)
    return tuple((said[a][1], said[b - 1][2]) for a, b in itertools.pairwise(edges))


def main() -> None:
    """The agent's phrases by one voice, the customer's by three in turn."""
    from tests.whisper.call import SPOKEN, write
    from tests.whisper.fixture import phrases

    rows, customers = [], itertools.cycle(FLITE[1:])
    for number, phrase in enumerate(phrases()):
        voice = "slt" if phrase.speaker == "agent" else next(customers)
        clip = speak(number, phrase.spoken, voice, stretch=1.0)
        name = f"{voice}_{re.sub('[^a-z]+', '_', phrase.text.lower()).strip('_')}.flac"
        write(SPOKEN / name, clip.samples[None])
        rows.append({"file": name, "phrase": number, "voice": voice, "words": [[round(a, 3), round(b, 3)] for a, b in clip.words]})
    (SPOKEN / "spoken.json").write_text("[\n" + ",\n".join(f" {json.dumps(row)}" for row in rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
