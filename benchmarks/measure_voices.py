"""Diarisation error and role accuracy of `separate` on mono mixes: folders of .npz with x (16 kHz), ref rows (voice, start_s, end_s) and texts."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

from analyzer.audio import Segment
from analyzer.speakers import tell_agent
from analyzer.voices import separate

RATE = 16_000


def spans(x: np.ndarray) -> list[tuple[int, int]]:
    """Speech by energy, pauses under 0.25 s bridged, padded by 0.25 s: a plain stand-in for voice activity detection."""
    loud = np.sqrt(np.square(x[: len(x) // 160 * 160].reshape(-1, 160)).mean(axis=1)) > 0.01
    out: list[list[int]] = []
    for frame in np.flatnonzero(loud):
        if out and frame - 25 <= out[-1][1]:
            out[-1][1] = frame + 26
        else:
            out.append([max(0, frame - 25), frame + 26])
    return [(a * 160, min(b * 160, len(x))) for a, b in out]


def grid(rows: list[tuple[int, float, float]], n: int) -> np.ndarray:
    out = np.full(n, -1)
    for voice, start, end in rows:
        out[int(start * 100) : int(end * 100)] = voice
    return out


def measure(path: Path, limit_s: float) -> tuple[float, int, int, bool | None]:
    """Speaker error over the reference's speech (no collar, misses excluded: the detector is not on trial), voices true and found, roles right."""
    data = np.load(path)
    x = data["x"].astype(np.float32)[: int(limit_s * RATE)]
    found = separate(Segment(channel=0, start_s=a / RATE, samples=x[a:b]) for a, b in spans(x))
    n = len(x) // 160
    rows = [(int(v), s, e) for v, s, e in data["ref"] if s < limit_s]
    truth, told = grid(rows, n), grid([(p.channel, p.start_s, p.end_s) for p in found], n)
    both = (truth >= 0) & (told >= 0)
    labels, voices = sorted(set(truth[both])), range(4)
    orders = itertools.permutations(voices, len(labels))
    hits = max(sum(((truth == a) & (told == b) & both).sum() for a, b in zip(labels, order, strict=True)) for order in orders)
    right = None
    if "texts" in data and len(labels) == 2:
        said: dict[int, list[str]] = {}
        for (_, start, end), text in zip(rows, data["texts"], strict=False):
            heard = told[int(start * 100) : int(end * 100)]
            words = str(text).split()
            for index, word in enumerate(words):  # each word goes to the voice told for its share of the turn
                said.setdefault(int(heard[min(len(heard) - 1, int((index + 0.5) / len(words) * len(heard)))]), []).append(word)
        agent, _ = tell_agent({voice: " ".join(words) for voice, words in said.items() if voice >= 0})
        on_agent = told[both & (truth == 0)]
        right = agent is not None and agent == np.bincount(on_agent).argmax()
    return 1 - hits / both.sum(), len(labels), len(set(told[both])), right


if __name__ == "__main__":
    limit = float(sys.argv[2]) if len(sys.argv) > 2 else 1e9
    for file in sorted(Path(sys.argv[1]).glob("*.npz")):
        error, true, found, right = measure(file, limit)
        print(f"{file.stem:32} error {error:.3f}  voices {true} found {found}  roles {right}", flush=True)
