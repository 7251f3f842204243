"""The child program of `analyzer.audio`: decodes one foreign file under resource limits and writes PCM frames to its standard output.

Run by path, never imported. It imports nothing of the package, so that it starts fast and holds no secrets worth stealing.
Frames: one tag byte, a 4-byte big-endian length, the payload. `I` the header as JSON, `A` interleaved float32 PCM at 16 kHz, `Z` the end,
`E` an error as JSON (`what`, `do`).
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import av
import numpy as np

SAMPLE_RATE_HZ = 16_000
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
FRAME_SAMPLES = 16_000
# Playlists, network and device inputs stay out: a "recording" must not make libav open anything but itself.
FORMATS = "wav,w64,mp3,ogg,flac,mov,mp4,m4a,gsm,aac,aiff,au,amr,caf,matroska,webm,avi,asf,flv,mpeg,mpegts"
# Writers that do not know the length yet put the largest number there (sox 0x7ffff000, ffmpeg 0xffffffff).
UNKNOWN_WAV_BYTES = 0x7FFF_0000
#: More undecodable packets than this share: the file is damaged, not merely scratched.
MAX_BAD_PACKETS = 0.1


class Refused(Exception):
    """What is wrong with the file, and what the user can do."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what)
        self.what, self.do = what, do


def limit(memory_mb: int, cpu_s: float) -> None:
    """Caps address space and processor time of this process; no core dumps, no files written."""
    size = memory_mb * 1024 * 1024
    seconds = max(1, round(cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def write(out: BinaryIO, tag: bytes, payload: bytes) -> None:
    """One frame."""
    out.write(tag + struct.pack(">I", len(payload)) + payload)
    out.flush()


def only_audio(container: Any) -> Any:
    """The one audio stream of the container; refuses video, no audio, several audio streams, more than two channels."""
    if any(s.type == "video" and not s.disposition & av.stream.Disposition.attached_pic for s in container.streams):
        raise Refused("is a video file", "Give the sound alone, e.g. `ffmpeg -i FILE -vn sound.flac`.")
    streams = [s for s in container.streams if s.type == "audio"]
    if not streams:
        raise Refused("holds no audio stream", "Give a recording: WAV, FLAC, MP3, Ogg/Opus, M4A or GSM.")
    if len(streams) > 1:
        raise Refused(f"holds {len(streams)} audio streams", "Give a file with one mono or two-channel stream.")
    stream = streams[0]
    if stream.codec_context is None:
        raise Refused("is coded in a way no decoder is known for", "Convert it to WAV or FLAC.")
    channels, rate = stream.channels, stream.rate
    if not 1 <= channels <= 2:
        raise Refused(f"has {channels} channels", "Give mono or two channels: one for the agent, one for the customer.")
    if not rate or not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise Refused(f"has a sample rate of {rate} Hz, outside {MIN_RATE_HZ} to {MAX_RATE_HZ}", "Export it again at 8000 Hz or more.")
    return stream


def declared_s(container: Any, stream: Any, path: str) -> float | None:
    """The length the header gives, in seconds; `None` where the format has none or it is only estimated from the file's size."""
    if stream.duration is None or stream.time_base is None:
        return None
    seconds = float(stream.duration * stream.time_base)
    name = container.format.name
    if name == "wav":
        return wav_s(path)
    if name == "mp3":
        return seconds if has_frame_count(path) else None
    if name in ("flac", "w64", "aiff", "au", "caf") or "mp4" in name:
        return seconds or None
    return None


def wav_s(path: str) -> float | None:
    """The length a RIFF header gives: bytes of its data chunk over its bytes per second. libav itself trusts the file's size instead."""
    with open(path, "rb") as file:
        if file.read(4) != b"RIFF":
            return None
        file.seek(12)
        rate = 0
        while len(head := file.read(8)) == 8:
            kind, size = head[:4], int.from_bytes(head[4:], "little")
            if kind == b"data":
                return size / rate if rate and 0 < size < UNKNOWN_WAV_BYTES else None
            if kind == b"fmt ":
                rate = int.from_bytes(file.read(12)[8:12], "little")
                size -= 12
            file.seek(size + size % 2, os.SEEK_CUR)
    return None


def mp3_frame_bytes(head: bytes) -> int:
    """Bytes of the layer III frame that opens with `head` (ISO 11172-3, 2.4.2.3; 13818-3 for the lower rates); 0 where it is no such frame."""
    version, layer, bits, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    if head[0] != 0xFF or layer != 1 or version == 1 or not 0 < bits < 15 or rate == 3:
        return 0
    rates = (
        (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
        if version == 3
        else (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    )
    hertz = (44_100, 48_000, 32_000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    return (144 if version == 3 else 72) * rates[bits] * 1000 // hertz + (head[2] >> 1 & 1)


def has_frame_count(path: str) -> bool:
    """Whether an MP3 opens with a Xing/Info/VBRI header, without which its length is a guess from the bit rate."""
    with open(path, "rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":
            a, b, c, d = head[6:10]
            file.seek(10 + (a << 21 | b << 14 | c << 7 | d))
        else:
            file.seek(0)
        first = file.read(2048)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))


def cut_page(path: str) -> bool:
    """Whether an Ogg file ends inside a page (RFC 3533, section 6)."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2 * 65_307))  # the largest page there can be, twice
        tail = file.read()
    at = tail.rfind(b"OggS")
    while at > 0 and len(tail) >= at + 5 and tail[at + 4] != 0:  # the capture pattern inside a payload
        at = tail.rfind(b"OggS", 0, at)
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


class Pcm:
    """Decodes and resamples one stream; counts what could not be decoded and whether the last packet was cut."""

    def __init__(self, container: Any, stream: Any) -> None:
        self.container, self.stream = container, stream
        self.resampler = av.AudioResampler(format="flt", layout="mono" if stream.channels == 1 else "stereo", rate=SAMPLE_RATE_HZ)
        self.packets = self.bad = self.source_samples = 0
        self.last_bad = False

    def __iter__(self) -> Iterator[bytes]:
        """Interleaved float32 at 16 kHz."""
        for packet in self.packets_of():
            self.last_bad = self.last_bad if not packet.size else self.cut(packet)
            try:
                frames = packet.decode()
            except (av.error.InvalidDataError, av.error.EOFError):
                self.bad, self.last_bad = self.bad + 1, True
                continue
            for frame in frames:
                self.source_samples += frame.samples
                frame.pts = None  # gaps in the time stamps are not filled: word times count samples
                yield from self.resampled(frame)
        yield from self.resampled(None)

    def packets_of(self) -> Iterator[Any]:
        """Packets up to the end or to where the container itself is broken."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except av.error.InvalidDataError:
                self.last_bad = True
                return
            if packet.size:
                self.packets += 1
            yield packet

    def cut(self, packet: Any) -> bool:
        """Whether the packet is shorter than it should be; a WAV's last one may be (its header's length is what counts)."""
        if self.container.format.name == "wav":
            return False
        return bool(packet.is_corrupt) or (
            self.container.format.name == "mp3" and packet.size >= 4 and packet.size < mp3_frame_bytes(bytes(packet)[:4])
        )

    def resampled(self, frame: Any) -> Iterator[bytes]:
        """One frame through the resampler; `None` flushes it."""
        if frame is None and not self.source_samples:
            return
        for part in self.resampler.resample(frame):
            if part.samples:
                yield np.ascontiguousarray(part.to_ndarray(), dtype=np.float32).tobytes()

    @property
    def seconds(self) -> float:
        """How much could be decoded."""
        return self.source_samples / float(self.stream.rate)


def decode(path: str, max_duration_s: float, out: BinaryIO) -> None:
    """Writes the file as frames; raises `Refused` where it is not a whole recording of at most `max_duration_s`."""
    with av.open("file:" + path, options={"protocol_whitelist": "file", "format_whitelist": FORMATS}, metadata_errors="replace") as container:
        stream = only_audio(container)
        stream.codec_context.thread_count = 1
        declared = declared_s(container, stream, path)
        if declared and declared > max_duration_s:
            raise too_long(declared, max_duration_s)
        header = {"codec": stream.codec_context.name, "container": container.format.name, "sample_rate_hz": stream.rate, "channels": stream.channels}
        write(out, b"I", json.dumps(header).encode())
        pcm = Pcm(container, stream)
        pending: list[bytes] = []
        size, frame_bytes = 0, FRAME_SAMPLES * 4 * stream.channels
        for part in pcm:
            pending.append(part)
            size += len(part)
            if pcm.seconds > max_duration_s:
                raise too_long(pcm.seconds, max_duration_s)
            if size >= frame_bytes:
                write(out, b"A", b"".join(pending))
                pending, size = [], 0
        if size:
            write(out, b"A", b"".join(pending))
        refuse_broken(pcm, declared, container.format.name == "ogg" and cut_page(path))
    write(out, b"Z", b"")


def refuse_broken(pcm: Pcm, declared: float | None, cut: bool) -> None:
    """Raises `Refused` on a recording without samples, with many undecodable packets, or shorter than its header says."""
    again = "Fetch the file again from where it was recorded."
    if not pcm.source_samples and (pcm.bad or pcm.last_bad):
        raise Refused("is not audio, or is damaged: nothing could be decoded", "Give a recording: WAV, FLAC, MP3, Ogg/Opus, M4A or GSM.")
    if declared and pcm.seconds < declared - max(0.1, 0.002 * declared):
        raise Refused(f"truncated: header says {declared:.1f} s, {pcm.seconds:.1f} s could be decoded", again)
    if not pcm.source_samples:
        raise Refused("holds no sound: 0 samples", again)
    if pcm.bad > max(1, MAX_BAD_PACKETS * pcm.packets):
        raise Refused(f"is damaged: {pcm.bad} of {pcm.packets} packets cannot be decoded", again)
    if cut or pcm.last_bad:
        raise Refused(f"truncated: the file ends inside a packet, after {pcm.seconds:.1f} s", again)


def too_long(seconds: float, limit_s: float) -> Refused:
    """The refusal of a recording over the limit."""
    what = f"is longer than the limit of {limit_s:.0f} s (at least {seconds:.0f} s)"
    return Refused(what, "Split it, or raise `max_duration_s` under [audio] in the settings.")


def main(argv: list[str]) -> None:
    """`_decoder.py PATH MEMORY_MB CPU_S MAX_DURATION_S`."""
    path, memory_mb, cpu_s, max_duration_s = argv
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not mix with the frames
    av.logging.set_level(None)
    limit(int(memory_mb), float(cpu_s))
    try:
        decode(path, float(max_duration_s), out)
    except Refused as error:
        write(out, b"E", json.dumps({"what": error.what, "do": error.do}).encode())
    except MemoryError:
        what = f"needs more than the limit of {memory_mb} MB of memory to decode"
        write(out, b"E", json.dumps({"what": what, "do": "Convert it to WAV, or raise `max_memory_mb` under [audio] in the settings."}).encode())
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # nobody is reading any more
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        what, do = f"is not a recording that can be decoded ({reason})", "Give WAV, FLAC, MP3, Ogg/Opus, M4A or GSM."
        write(out, b"E", json.dumps({"what": what, "do": do}).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
