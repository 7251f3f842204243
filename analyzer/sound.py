"""Numbers from sound: who speaks when (Silero VAD), what is music or ringing, whether two channels are one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ: Final = 16_000
Samples: TypeAlias = NDArray[np.float32]
Interval: TypeAlias = tuple[float, float]

#: One VAD decision per 512 samples, each fed with the 64 samples before it (Silero VAD v6 at 16 kHz).
HOP: Final = 512
_CONTEXT: Final = 64
_HOP_S: Final = HOP / SAMPLE_RATE_HZ
#: Silero's own defaults: speech begins at 0.5 and ends under 0.35.
_SPEECH_ON, _SPEECH_OFF = 0.5, 0.35
_MIN_SPEECH_S: Final = 0.1
_MIN_SILENCE_S: Final = 3.0
#: The largest delay between two channels that carry the same signal.
_MAX_LAG: Final = int(0.05 * SAMPLE_RATE_HZ)
_SAME: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One channel: speech intervals (padded) and events (kind, start, end), in seconds, each in order."""

    speech: tuple[Interval, ...]
    events: tuple[tuple[str, float, float], ...]


class Listener:
    """Hears one channel block by block and keeps a few figures per 32 ms frame."""

    def __init__(self) -> None:
        from faster_whisper.vad import get_vad_model

        self._session: Any = get_vad_model().session
        self._h = self._c = np.zeros((1, 1, 128), dtype=np.float32)
        self._context = np.zeros(_CONTEXT, dtype=np.float32)
        self._left: Samples = np.zeros(0, dtype=np.float32)
        self._voice: list[Samples] = []
        self.samples = 0
        self.heard_anything = False

    def hear(self, samples: Samples) -> None:
        """The next samples of the channel, any number of them."""
        self.samples += len(samples)
        self.heard_anything = self.heard_anything or bool(np.any(samples))
        samples = np.concatenate([self._left, samples])
        whole = len(samples) // HOP * HOP
        self._left = samples[whole:]
        if whole:
            self._frames(samples[:whole])

    def _frames(self, samples: Samples) -> None:
        rows = samples.reshape(-1, HOP)
        before = np.concatenate([self._context[None, :], rows[:-1, -_CONTEXT:]])
        out, self._h, self._c = self._session.run(None, {"input": np.concatenate([before, rows], axis=1), "h": self._h, "c": self._c})
        self._context = rows[-1, -_CONTEXT:]
        self._voice.append(np.asarray(out, dtype=np.float32).reshape(-1))

    def finish(self, padding_s: float) -> Heard:
        """What was heard, once all is."""
        duration_s = self.samples / SAMPLE_RATE_HZ
        if len(self._left):
            self._frames(np.pad(self._left, (0, HOP - len(self._left))))
        voice = np.concatenate(self._voice) if self._voice else np.zeros(0, dtype=np.float32)
        return Heard(speech=pad(speech_intervals(voice), padding_s, duration_s), events=())


def speech_intervals(voice: Samples) -> tuple[Interval, ...]:
    """Seconds of speech from VAD probabilities, one per 32 ms: on at 0.5, off under 0.35, nothing under 0.1 s."""
    state = np.where(voice >= _SPEECH_ON, 1, np.where(voice < _SPEECH_OFF, 0, -1))
    known = np.where(state >= 0, np.arange(len(state)), 0)
    np.maximum.accumulate(known, out=known)
    on = state[known] == 1 if len(state) else np.zeros(0, dtype=bool)
    return tuple((a, b) for a, b in runs(on) if b - a >= _MIN_SPEECH_S)


def runs(on: NDArray[np.bool_]) -> list[Interval]:
    """Start and end, in seconds, of each run of true frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    return [(float(a) * _HOP_S, float(b) * _HOP_S) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def pad(intervals: Iterable[Interval], padding_s: float, duration_s: float) -> tuple[Interval, ...]:
    """The intervals widened on both sides, kept inside the recording, merged where they then touch."""
    return tuple(merged((max(0.0, a - padding_s), min(duration_s, b + padding_s)) for a, b in intervals))


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The union, in order."""
    out: list[Interval] = []
    for a, b in sorted(intervals):
        if out and a <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], b))
        else:
            out.append((a, b))
    return out


def silences(channels: Sequence[Heard], duration_s: float) -> list[Interval]:
    """Stretches of 3 s and more in which no channel has speech, music or ringing."""
    busy = merged([*(i for one in channels for i in one.speech), *((a, b) for one in channels for _, a, b in one.events)])
    edges = [0.0, *(edge for interval in busy for edge in interval), duration_s]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= _MIN_SILENCE_S]


class PairCorrelation:
    """Tells whether two channels carry one signal, at another level, inverted, or up to 50 ms late, from running sums."""

    def __init__(self) -> None:
        self._energy = np.zeros(2)
        self._cross = np.zeros(2 * _MAX_LAG + 1)

    def add(self, left: Samples, right: Samples) -> None:
        """The next block of both channels."""
        a, b = left.astype(np.float64), right.astype(np.float64)
        self._energy += (a @ a, b @ b)
        size = 1 << (len(a) + _MAX_LAG).bit_length()
        full = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
        self._cross += np.concatenate([full[-_MAX_LAG:], full[: _MAX_LAG + 1]])

    @property
    def same(self) -> bool:
        """Whether the largest normalised cross-correlation over the lags is 0.9 or more."""
        both = float(np.sqrt(self._energy[0] * self._energy[1]))
        return both > 0 and float(np.abs(self._cross).max()) / both >= _SAME


def quietest(samples: Samples) -> int:
    """Where to cut: the middle of the quietest 0.1 s in the second half."""
    size = SAMPLE_RATE_HZ // 10
    half = len(samples) // 2
    power = np.convolve(np.square(samples[half:], dtype=np.float64), np.ones(size), mode="valid")
    if not len(power):
        return len(samples)
    return half + int(power.argmin()) + size // 2
