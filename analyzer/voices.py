"""How many voices a mono recording has and which speaks when: speaker embeddings of short windows, clustered, cut at the changes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analyzer.audio import Segment
from analyzer.errors import ModelError
from analyzer.sound import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Callable

Floats: TypeAlias = NDArray[np.float32]

MAX_VOICES: Final = 4
#: Mel frames of a window and between windows, 10 ms each: the encoder was trained on windows of 1.6 s.
WINDOW: Final = 160
HOP: Final = 40
#: Centroids closer than this (cosine) are one voice, by the number of voices. Halves of one synthetic voice lay above 0.83, two
#: voices (their centroids blurred by windows that hold both) below 0.825; a false third voice, made of such windows, above 0.82.
SAME_VOICE: Final = {2: 0.825, 3: 0.77, 4: 0.77}
#: A voice needs at least this many windows (1.6 s of speech).
MIN_WINDOWS: Final = 4
#: The price of a change of voice between two frames, in units of summed cosine; and how far a cut may move to find a quiet place.
CHANGE_PRICE: Final = 1.0
SNAP_S: Final = 0.3
_FRAME: Final = SAMPLE_RATE_HZ // 100
_LEVEL: Final = 10 ** (-30 / 20)
_BATCH: Final = 64
_SPARE: Final = 4


def weights_dir(kind: str) -> Path:
    """The folder `kind` of the shipped weights: inside the package when installed, else `models/` beside it."""
    package = Path(__file__).resolve().parent
    inside = package / "models" / kind
    return inside if inside.is_dir() else package.parent / "models" / kind


def separate(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Mono segments cut where the voice changes, `channel` becoming the number of the voice (0 to 3, in order of appearance).

    Every sample of the input is in exactly one output segment. Windows of 1.6 s are embedded by the speaker encoder in
    `models/speaker`, clustered by average linkage into as many voices (1 to 4) as stay apart, and smoothed by the cheapest path.
    Deterministic. All samples are held in memory at once (230 MB an hour).

    Raises:
        ModelError: the encoder's weights are missing or damaged.
    """
    spoken = [segment for segment in segments if len(segment.samples)]
    if not spoken:
        return ()
    power = float(np.mean(np.concatenate([np.square(segment.samples, dtype=np.float64) for segment in spoken])))
    # Quiet recordings are raised to the level the encoder was trained at; loud ones are left alone.
    gain = max(1.0, _LEVEL / max(power**0.5, 1e-6))
    spectra = [mel_spectrum(segment.samples * np.float32(gain)) for segment in spoken]
    starts = [_window_starts(len(spectrum)) for spectrum in spectra]
    embeddings = [_embed(spectrum, begins) for spectrum, begins in zip(spectra, starts, strict=True)]
    centroids = find_voices(np.concatenate(embeddings))
    pieces: list[Segment] = []
    for segment, spectrum, begins, embedded in zip(spoken, spectra, starts, embeddings, strict=True):
        path = _path(_frame_scores(embedded @ centroids.T, begins, len(spectrum)))
        pieces.extend(_cut(segment, path))
    return _renumbered(pieces)


def mel_spectrum(samples: Floats) -> Floats:
    """Mel power spectrum: (n,) at 16 kHz to (1 + n // 160, 40), Hann windows of 25 ms every 10 ms, zero-padded to centre.

    Slaney's mel scale (linear to 1 kHz, then logarithmic) with triangles of equal area, as in Slaney, Auditory Toolbox, 1998:
    what the encoder was trained on.
    """
    size = 400
    padded = np.pad(samples, size // 2).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::_FRAME]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    # Some seconds at a time: the frames of a whole segment overlap two and a half times.
    power = [np.abs(np.fft.rfft(frames[at : at + 500] * window, axis=1)) ** 2 for at in range(0, len(frames), 500)]
    return (np.concatenate(power) @ _mel_bank(size).T).astype(np.float32)


@functools.cache
def _mel_bank(size: int, bands: int = 40) -> Floats:
    knee, step = 15.0, np.log(6.4) / 27
    top = knee + np.log(SAMPLE_RATE_HZ / 2 / 1000) / step
    mels = np.linspace(0.0, top, bands + 2)
    edges = np.where(mels >= knee, 1000 * np.exp((mels - knee) * step), mels * 200 / 3)
    low, mid, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = np.linspace(0.0, SAMPLE_RATE_HZ / 2, size // 2 + 1)
    rise, fall = (bins - low) / (mid - low), (high - bins) / (high - mid)
    bank: Floats = (np.maximum(0.0, np.minimum(rise, fall)) * 2 / (high - low)).astype(np.float32)
    return bank


def find_voices(embeddings: Floats) -> Floats:
    """Unit embeddings (n, d) to the centroids (k, d) of 1 to 4 voices: the largest k whose centroids are all clearly apart."""
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(embeddings) >= 2 * MIN_WINDOWS:
        some = _thinned(embeddings)
        tree = linkage(some, "average", metric="cosine")
        for count in range(MAX_VOICES, 1, -1):
            # Windows that hold a change of voice form small clusters of their own: only the largest of some more are voices.
            for clusters in range(count, count + _SPARE + 1):
                labels = fcluster(tree, clusters, "maxclust") - 1
                largest = np.argsort(-np.bincount(labels), kind="stable")[:count]
                centroids = _refined(embeddings, _unit(np.stack([some[labels == label].mean(axis=0) for label in largest])))
                if len(centroids) == count and _closest(centroids) < SAME_VOICE[count]:
                    return centroids
    return _unit(embeddings.mean(axis=0, keepdims=True))


def _thinned(embeddings: Floats) -> Floats:
    # Linkage takes memory and time by the square; an evenly spaced 3,000 of the windows know all voices.
    return embeddings[:: max(1, len(embeddings) // 3000)]


def _refined(embeddings: Floats, centroids: Floats) -> Floats:
    """A few rounds of spherical k-means: windows that hold two voices at once leave the clusters they were chained into."""
    for _ in range(5):
        labels = np.argmax(embeddings @ centroids.T, axis=1)
        if np.bincount(labels, minlength=len(centroids)).min() < MIN_WINDOWS:
            return centroids[:1]
        centroids = _unit(np.stack([embeddings[labels == label].mean(axis=0) for label in range(len(centroids))]))
    return centroids


def _closest(centroids: Floats) -> float:
    return float((centroids @ centroids.T - 2 * np.eye(len(centroids))).max())


def _unit(vectors: Floats) -> Floats:
    out: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return out


def _window_starts(frames: int) -> list[int]:
    """First frames of the windows; the last window ends with the segment, a segment shorter than a window is one."""
    return sorted({*range(0, max(1, frames - WINDOW + 1), HOP), max(0, frames - WINDOW)})


def _embed(spectrum: Floats, starts: Sequence[int]) -> Floats:
    windows = np.stack([spectrum[start : start + WINDOW] for start in starts])
    return np.concatenate([_encoder()(windows[at : at + _BATCH]) for at in range(0, len(windows), _BATCH)])


@functools.cache
def _encoder() -> Callable[[Floats], Floats]:
    """The encoder: (n, frames, 40) mel windows to (n, 256) unit vectors; three LSTM layers, the last state through a linear ReLU layer."""
    import torch
    from safetensors.torch import load_file

    path = weights_dir("speaker") / "voice.safetensors"
    lstm, linear = torch.nn.LSTM(40, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    try:
        state = {name: value.float() for name, value in load_file(path).items()}
        lstm.load_state_dict({name.removeprefix("lstm."): value for name, value in state.items() if name.startswith("lstm.")})
        linear.load_state_dict({name.removeprefix("linear."): value for name, value in state.items() if name.startswith("linear.")})
    except Exception as error:  # safetensors raises its own kinds
        raise ModelError(f"the voice weights cannot be read: {error}", where=str(path), do="Install analyzer again.") from None

    def encode(windows: Floats) -> Floats:
        with torch.inference_mode():
            _, (hidden, _) = lstm(torch.from_numpy(windows))
            return _unit(torch.relu(linear(hidden[-1])).numpy())

    return encode


def _frame_scores(likeness: Floats, starts: Sequence[int], frames: int) -> Floats:
    """Likeness of windows to voices (n, k) to tenths of a second (m, k): the mean of the windows over it, the nearer centred the heavier."""
    centres = np.arange(5, max(frames, 6), 10)
    middles = np.asarray(starts) + min(WINDOW, frames) / 2
    weights = np.maximum(0.0, 1.0 - np.abs(centres[:, None] - middles) / WINDOW) ** 4 + 1e-9
    scores: Floats = ((weights / weights.sum(axis=1, keepdims=True)) @ likeness).astype(np.float32)
    return scores


def _path(scores: Floats) -> list[int]:
    """The sequence of voices with the highest sum of scores less `CHANGE_PRICE` a change (Viterbi)."""
    best, back = scores[0].copy(), []
    for row in scores[1:]:
        jump = int(np.argmax(best))
        stay = best >= best[jump] - CHANGE_PRICE
        back.append(np.where(stay, np.arange(len(best)), jump))
        best = np.where(stay, best, best[jump] - CHANGE_PRICE) + row
    voice = int(np.argmax(best))
    path = [voice]
    for origin in reversed(back):
        voice = int(origin[voice])
        path.append(voice)
    return path[::-1]


def _cut(segment: Segment, path: Sequence[int]) -> list[Segment]:
    """The segment's pieces by voice; each cut is moved to the quietest 20 ms within `SNAP_S`, so that it falls between words."""
    step, reach = SAMPLE_RATE_HZ // 10, int(SNAP_S * SAMPLE_RATE_HZ)
    pieces, begin = [], 0
    for index in range(1, len(path) + 1):
        if index < len(path) and path[index] == path[index - 1]:
            continue
        end = len(segment.samples) if index == len(path) else _quietest(segment.samples, index * step, reach, begin)
        if end > begin:
            start_s = segment.start_s + begin / SAMPLE_RATE_HZ
            pieces.append(replace(segment, channel=path[index - 1], start_s=start_s, samples=segment.samples[begin:end]))
            begin = end
    return pieces


def _quietest(samples: Floats, near: int, reach: int, after: int) -> int:
    block = SAMPLE_RATE_HZ // 50
    low, high = max(after, near - reach), min(len(samples), near + reach)
    count = (high - low) // block
    if count < 1:
        return min(near, len(samples))
    energy = np.square(samples[low : low + count * block].astype(np.float64)).reshape(count, block).sum(axis=1)
    return low + int(np.argmin(energy)) * block + block // 2


def _renumbered(pieces: Sequence[Segment]) -> tuple[Segment, ...]:
    order = {voice: number for number, voice in enumerate(dict.fromkeys(piece.channel for piece in pieces))}
    return tuple(replace(piece, channel=order[piece.channel]) for piece in pieces)
