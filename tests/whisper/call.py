"""Composes recordings from the spoken clips, with the truth of who says which word when."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.whisper.fixture import Phrase, phrases

RATE_HZ: Final = 16_000
SPOKEN: Final = Path(__file__).parents[1] / "data" / "spoken"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spoken:
    """One clip: its phrase, 16 kHz samples from first to last sound, and each word's (start_s, end_s)."""

    phrase: Phrase
    voice: str
    samples: NDArray[np.float32]
    words: tuple[tuple[float, float], ...]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A phrase placed on a channel of a recording."""

    channel: int
    start_s: float
    clip: Spoken

    @property
    def end_s(self) -> float:
        return self.start_s + self.clip.duration_s

    @property
    def words(self) -> list[tuple[str, float, float]]:
        """Each word with its start and end in the recording."""
        return [(word, self.start_s + a, self.start_s + b) for word, (a, b) in zip(self.clip.phrase.text.split(), self.clip.words, strict=True)]


@cache
def clips() -> dict[str, Spoken]:
    """The clips by the text of their phrase."""
    import av

    out = {}
    for row in json.loads((SPOKEN / "spoken.json").read_text(encoding="utf-8")):
        with av.open(str(SPOKEN / row["file"])) as file:
            parts = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
        samples = np.concatenate(parts).astype(np.float32) / 32768
        phrase = phrases()[row["phrase"]]
        out[phrase.text] = Spoken(phrase=phrase, voice=row["voice"], samples=samples, words=tuple(map(tuple, row["words"])))
    return out


def in_a_row(texts: Iterable[str], *, channel: int = 0, start_s: float = 0.5, pause_s: Sequence[float] = (0.4,)) -> list[Said]:
    """Phrases one after the other on one channel; the pauses between them are taken from `pause_s` in turn."""
    out: list[Said] = []
    for number, text in enumerate(texts):
        out.append(Said(channel=channel, start_s=start_s, clip=clips()[text]))
        start_s = out[-1].end_s + pause_s[number % len(pause_s)]
    return out


def mix(said: Sequence[Said], *, channels: int, tail_s: float = 1.0, noise_db: float | None = -60.0, seed: int = 0) -> NDArray[np.float32]:
    """(channels, n) samples at 16 kHz: the phrases at their places over a little noise (dB of full scale; None: digital silence)."""
    out = np.zeros((channels, int((max(s.end_s for s in said) + tail_s) * RATE_HZ)), np.float32)
    for one in said:
        start = round(one.start_s * RATE_HZ)
        out[one.channel, start : start + len(one.clip.samples)] += one.clip.samples
    if noise_db is not None:
        out += np.random.default_rng(seed).standard_normal(out.shape).astype(np.float32) * 10 ** (noise_db / 20)
    return out


def write(path: Path, samples: NDArray[np.float32], *, codec: str = "flac", rate_hz: int = RATE_HZ) -> Path:
    """Writes (channels, n) samples of 16 kHz as FLAC or, for `pcm_mulaw`, as G.711 WAV; resampled to `rate_hz`."""
    import av

    layout = "mono" if len(samples) == 1 else "stereo"
    pcm = np.ascontiguousarray((samples.clip(-1, 1) * 32767).astype(np.int16).T.reshape(1, -1))
    frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=layout)
    frame.sample_rate = RATE_HZ
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate_hz, layout=layout)
        resampler = av.AudioResampler(format="s16", layout=layout, rate=rate_hz)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return path
