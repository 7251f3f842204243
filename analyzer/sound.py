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
#: Tonal sound is judged in stretches of 100 frames (3.2 s).
_STRETCH: Final = 100
_STRETCH_S: Final = _STRETCH * _HOP_S
#: Steadiness of music: where the VAD hears speech in the stretch, where it hears none. Speech reached 0.48 in nearly all
#: stretches looked at and 0.66 in one, noise 0.23, a plain synthetic melody 0.36.
_STEADY, _STEADY_UNVOICED = 0.5, 0.3
_LOUD: Final = 10 ** (-50 / 20)
#: A VAD that fires on less of a steady tonal stretch than this is taken to be mistaken.
_MAX_VOICED: Final = 0.5
_FALSE_ALARM_S: Final = 1.0
_RINGING_HZ: Final = (330, 560)


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
        self._before: Samples = np.zeros(HOP, dtype=np.float32)
        self._pending: Samples = np.zeros((0, HOP), dtype=np.float32)
        self._tones: list[tuple[float, float, float]] = []
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
        self._pending = np.concatenate([self._pending, rows])
        while len(self._pending) >= _STRETCH:
            stretch, self._pending = self._pending[:_STRETCH], self._pending[_STRETCH:]
            self._tones.append(tonality(np.concatenate([self._before, stretch.reshape(-1)])))
            self._before = stretch[-1]

    def finish(self, padding_s: float) -> Heard:
        """What was heard, once all is."""
        duration_s = self.samples / SAMPLE_RATE_HZ
        if len(self._left):
            self._frames(np.pad(self._left, (0, HOP - len(self._left))))
        voice = np.concatenate(self._voice) if self._voice else np.zeros(0, dtype=np.float32)
        speech = speech_intervals(voice)
        events = tonal_events(self._tones, speech)
        # A short burst of "speech" inside music is the VAD taking a note for a vowel.
        kept = [(a, b) for a, b in speech if b - a >= _FALSE_ALARM_S or not any(c <= a and b <= d for _, c, d in events)]
        return Heard(speech=pad(kept, padding_s, duration_s), events=events)


def tonality(samples: Samples) -> tuple[float, float, float]:
    """Loudness (RMS), steadiness and share of ringing-tone energy of one stretch (101 hops).

    Steadiness is after the continuous frequency activation of Seyerlehner et al. (DAFx 2007): how large a share of the time the five most
    lasting spectral peaks stand in one place. Notes hold still; a voice glides.
    """
    windows = np.lib.stride_tricks.sliding_window_view(samples, 2 * HOP)[::HOP] * np.hanning(2 * HOP)
    power = np.square(np.abs(np.fft.rfft(windows, axis=1)))[:, 6:256]
    around = np.apply_along_axis(np.convolve, 1, power, np.ones(21) / 21, mode="same")
    loud = power.sum(axis=1, keepdims=True) > 0.01 * power.sum(axis=1).mean()
    lasting = np.sort(((power > 3 * around) & loud).mean(axis=0))[-5:]
    low, high = (round(hz * 2 * HOP / SAMPLE_RATE_HZ) - 6 for hz in _RINGING_HZ)
    ringing = power[:, low:high].sum() / max(float(power.sum()), 1e-12)
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), float(lasting.mean()), float(ringing)


def tonal_events(tones: Sequence[tuple[float, float, float]], speech: Sequence[Interval]) -> tuple[tuple[str, float, float], ...]:
    """Runs of two and more stretches (6.4 s) that are loud, steady and mostly without speech: `ringing` or `music`."""
    kinds: list[str] = []
    for number, (loudness, steadiness, ringing) in enumerate(tones):
        start, end = number * _STRETCH_S, (number + 1) * _STRETCH_S
        voiced = sum(max(0.0, min(b, end) - max(a, start)) for a, b in speech) / _STRETCH_S
        tonal = loudness > _LOUD and voiced < _MAX_VOICED and (steadiness > (_STEADY if voiced else _STEADY_UNVOICED) or ringing > 0.9)
        kinds.append("" if not tonal else "ringing" if ringing > 0.9 else "music")
    out: list[tuple[str, float, float]] = []
    first = 0
    for number in range(1, len(kinds) + 1):
        if number == len(kinds) or kinds[number] != kinds[first]:
            if kinds[first] and number - first >= 2:
                out.append((kinds[first], first * _STRETCH_S, number * _STRETCH_S))
            first = number
    return tuple(out)


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
