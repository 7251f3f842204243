"""Files to sound: decoding in a limited child process, and where in a recording somebody speaks.

A recording is read twice as a stream, once by `survey` and once by `segments`, so that memory stays flat however long it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from analyzer.config import AudioSettings
from analyzer.errors import AudioError
from analyzer.records import Event, Word
from analyzer.sound import SAMPLE_RATE_HZ, Listener, PairCorrelation, quietest, silences

Samples: TypeAlias = NDArray[np.float32]
Layout: TypeAlias = Literal["two-channel", "mono", "fake-stereo"]

_BLOCK_SAMPLES: Final = 30 * SAMPLE_RATE_HZ
#: A decoder that sends nothing for so long is given up.
_STALL_S: Final = 60.0
_DECODER: Final = Path(__file__).with_name("_decoder.py")
_KEPT_ENVIRONMENT: Final = ("PATH", "HOME", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_AGAIN: Final = "Fetch the file again from where it was recorded."


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioInfo:
    """What a recording's file says of itself; `sample_rate_hz` is the file's own."""

    path: Path
    sha256: str
    codec: str
    container: str
    sample_rate_hz: int
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A stretch of at most 30 s of sound, `samples` of shape (channels, n), float32 at 16 kHz."""

    start_s: float
    samples: Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of speech on one channel, padding included."""

    channel: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """Speech to recognise: mono float32 at 16 kHz. After diarisation `channel` is the number of the voice."""

    channel: int
    start_s: float
    samples: Samples

    @property
    def end_s(self) -> float:
        """Where in the recording the segment ends."""
        return self.start_s + len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What was recognised in (a part of) a segment; times in seconds from the start of the recording, confidence 0 to 1."""

    channel: int
    text: str
    start_s: float
    end_s: float
    words: tuple[Word, ...] = ()
    confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is where in a recording. `speech` is in order of start; on mono and fake stereo all of it is on channel 0."""

    info: AudioInfo
    duration_s: float
    layout: Layout
    speech: tuple[Span, ...]
    events: tuple[Event, ...]


def decode(path: Path, settings: AudioSettings) -> Iterator[Block]:
    """Streams a recording as 16 kHz float32 blocks, decoded by a child process under the limits of `settings`.

    Any format the bundled libav reads: WAV (PCM, G.711 µ-law and A-law, GSM), FLAC, MP3, Ogg/Opus, M4A, GSM; 8 to 192 kHz; one or two channels.

    Raises:
        AudioError: before the first block or after any: missing, not audio, a video, truncated, empty, over a limit.
    """
    for item in _decoded(path, settings):
        if isinstance(item, Block):
            yield item


def survey(path: Path, settings: AudioSettings) -> Survey:
    """One streaming pass: layout, speech per channel, long silences, hold music and ringing.

    Memory: one block, and about 7 MB of per-frame figures for each hour and channel.

    Raises:
        AudioError: what `decode` raises, and digital silence from start to end.
    """
    header: dict[str, Any] = {}
    channels: list[Listener] = []
    pair = PairCorrelation()
    for item in _decoded(path, settings):
        if not isinstance(item, Block):
            header = item
            channels = [Listener() for _ in range(header["channels"])]
            continue
        for listener, samples in zip(channels, item.samples, strict=True):
            listener.hear(samples)
        if len(channels) == 2:
            pair.add(item.samples[0], item.samples[1])
    if not any(listener.heard_anything for listener in channels):
        raise AudioError("is silent: every sample is zero", where=str(path), do="Check the recorder; there is nothing to transcribe.")
    layout: Layout = "mono" if len(channels) == 1 else "fake-stereo" if pair.same else "two-channel"
    duration_s = channels[0].samples / SAMPLE_RATE_HZ
    heard = [listener.finish(settings.vad_padding_s) for listener in (channels if layout == "two-channel" else channels[:1])]
    speech = sorted((Span(channel=n, start_s=a, end_s=b) for n, one in enumerate(heard) for a, b in one.speech), key=lambda s: (s.start_s, s.channel))
    events = [Event(kind=kind, start_s=a, end_s=b, channel=n) for n, one in enumerate(heard) for kind, a, b in one.events]
    events += [Event(kind="silence", start_s=a, end_s=b) for a, b in silences(heard, duration_s)]
    info = AudioInfo(path=path, sha256=_sha256(path), **header)
    return Survey(
        info=info, duration_s=duration_s, layout=layout, speech=tuple(speech), events=tuple(sorted(events, key=lambda e: (e.start_s, e.channel or 0)))
    )


def segments(path: Path, spans: Sequence[Span], settings: AudioSettings) -> Iterator[Segment]:
    """Second streaming pass: the sound of the spans, in order of their ends, cut at the quietest point where longer than `max_segment_s`.

    Raises:
        AudioError: what `decode` raises.
    """
    waiting = sorted(spans, key=lambda span: span.start_s)
    longest = int(settings.max_segment_s * SAMPLE_RATE_HZ)
    open_: list[_Cutter] = []
    for block in decode(path, settings) if waiting else ():
        first = round(block.start_s * SAMPLE_RATE_HZ)
        last = first + block.samples.shape[1]
        while waiting and waiting[0].start_s * SAMPLE_RATE_HZ < last:
            open_.append(_Cutter(waiting.pop(0), longest))
        for cutter in sorted(open_, key=lambda c: c.end):
            yield from cutter.take(first, block.samples)
        open_ = [cutter for cutter in open_ if cutter.end > last]
    for cutter in open_:
        yield from cutter.rest()


class _Cutter:
    """Collects the samples of one span out of successive blocks."""

    def __init__(self, span: Span, longest: int) -> None:
        self.channel, self.longest = span.channel, longest
        self.start = self.next = round(span.start_s * SAMPLE_RATE_HZ)
        self.end = round(span.end_s * SAMPLE_RATE_HZ)
        self.held: Samples = np.zeros(0, dtype=np.float32)

    def take(self, first: int, samples: Samples) -> Iterator[Segment]:
        """Adds what the block holds of the span; yields finished pieces."""
        part = samples[self.channel, max(0, self.next - first) : max(0, self.end - first)]
        self.next += len(part)
        self.held = np.concatenate([self.held, part])
        while len(self.held) > self.longest:
            yield self.piece(quietest(self.held[: self.longest]))
        if self.next >= self.end:
            yield from self.rest()

    def rest(self) -> Iterator[Segment]:
        """What is left of the span."""
        if len(self.held):
            yield self.piece(len(self.held))

    def piece(self, size: int) -> Segment:
        """Cuts the first `size` samples off."""
        out = Segment(channel=self.channel, start_s=self.start / SAMPLE_RATE_HZ, samples=self.held[:size])
        self.start, self.held = self.start + size, self.held[size:]
        return out


def _decoded(path: Path, settings: AudioSettings) -> Iterator[dict[str, Any] | Block]:
    """The header, then blocks of at most 30 s."""
    channels, done = 1, 0
    held: list[Samples] = []
    size = 0
    for tag, payload in _frames(path, settings):
        if tag == b"I":
            header = json.loads(payload)
            channels = int(header["channels"])
            yield header
            continue
        part = np.frombuffer(payload, dtype=np.float32).reshape(-1, channels).T
        held.append(part)
        size += part.shape[1]
        while size >= _BLOCK_SAMPLES:
            whole = np.concatenate(held, axis=1)
            yield Block(start_s=done / SAMPLE_RATE_HZ, samples=np.ascontiguousarray(whole[:, :_BLOCK_SAMPLES]))
            held, size, done = [whole[:, _BLOCK_SAMPLES:]], size - _BLOCK_SAMPLES, done + _BLOCK_SAMPLES
    if size:
        yield Block(start_s=done / SAMPLE_RATE_HZ, samples=np.ascontiguousarray(np.concatenate(held, axis=1)))


def _frames(path: Path, settings: AudioSettings) -> Iterator[tuple[bytes, bytes]]:
    """The header and sound frames of the child process, which is gone when this generator is."""
    _check_file(path)
    limits = (str(settings.max_memory_mb), str(settings.max_cpu_s), str(settings.max_duration_s))
    # A new program, not a fork: the parent may hold threads. It gets no variables it has no use for.
    environment = {k: v for k, v in os.environ.items() if k in _KEPT_ENVIRONMENT or k.startswith("PYTHON")}
    process = subprocess.Popen(
        [sys.executable, "-P", str(_DECODER), str(path.absolute()), *limits],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    pipe = cast(IO[bytes], process.stdout)
    try:
        while True:
            head = _read(pipe, 5, path)
            if len(head) < 5:
                raise _died(process.wait(), path, settings)
            payload = _read(pipe, struct.unpack(">I", head[1:])[0], path)
            tag = head[:1]
            if tag == b"Z":
                return
            if tag == b"E":
                raise AudioError(**json.loads(payload), where=str(path))
            yield tag, payload
    finally:
        process.kill()
        process.wait()
        pipe.close()


def _read(pipe: IO[bytes], size: int, path: Path) -> bytes:
    """Exactly `size` bytes, or fewer at the end of the stream."""
    parts: list[bytes] = []
    fd = pipe.fileno()
    while size:
        if not select.select([fd], [], [], _STALL_S)[0]:
            raise AudioError(f"cannot be decoded: no progress for {_STALL_S:g} s", where=str(path), do="Convert it to WAV or FLAC and try again.")
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _check_file(path: Path) -> None:
    """Raises AudioError on what is plainly no recording, before a process is started for it."""
    where = str(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError("is a folder, not a recording", where=where, do="Use `analyzer batch` for folders.")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("is not a regular file", where=where, do="Give a recording as a file.")
        if status.st_size == 0:
            raise AudioError("is an empty file (0 bytes)", where=where, do=_AGAIN)
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise AudioError("does not exist", where=where, do="Check the path.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"cannot be read: {reason}", where=where, do="Check the path and its permissions.") from error


def _died(status: int, path: Path, settings: AudioSettings) -> AudioError:
    """Why the child ended without a word: a negative status is the number of the signal."""
    where, name = str(path), signal.Signals(-status).name if status < 0 else f"status {status}"
    if -status in (signal.SIGXCPU, signal.SIGKILL):
        do = "Convert it to WAV, or raise `max_cpu_s` under [audio] in the settings."
        if -status == signal.SIGXCPU:
            return AudioError(f"took more than the limit of {settings.max_cpu_s:g} s of processor time to decode", where=where, do=do)
        return AudioError("cannot be decoded: the decoder was killed (processor time, or the machine is out of memory)", where=where, do=do)
    what = f"cannot be decoded: the decoder crashed ({name}) within its limit of {settings.max_memory_mb} MB of memory"
    return AudioError(what, where=where, do="Convert it to WAV or FLAC, or raise `max_memory_mb` under [audio] in the settings.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
