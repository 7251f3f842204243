"""Recordings good and bad: what is decoded, what is refused and in which words, and where speech is found."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from analyzer import audio, sound
from analyzer.audio import Span, decode, segments, survey
from analyzer.config import AudioSettings
from analyzer.errors import AudioError

SETTINGS = AudioSettings()


def tone(seconds: float, hz: float = 440.0, rate: int = 8000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float, rate: int = 8000, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate))).astype(np.float32)


def wav(path: Path, *channels: np.ndarray, rate: int = 8000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.stack(channels, axis=1).clip(-1, 1) * 32767).astype("<i2").tobytes())
    return path


def encoded(path: Path, codec: str, samples: np.ndarray, rate: int = 8000) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples[None] * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    return path


def video(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for packet in (*stream.encode(av.VideoFrame(32, 32, "yuv420p")), *stream.encode(None)):
            out.mux(packet)
    return path


def seconds(path: Path, settings: AudioSettings = SETTINGS) -> float:
    return sum(block.samples.shape[1] for block in decode(path, settings)) / audio.SAMPLE_RATE_HZ


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.wav", "pcm_s16le", 44100),
        ("u.wav", "pcm_mulaw", 8000),
        ("l.wav", "pcm_alaw", 8000),
        ("f.flac", "flac", 16000),
        ("m.mp3", "libmp3lame", 16000),
    ],
)
def test_formats_and_their_truncation(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    path = encoded(tmp_path / name, codec, tone(4.0, rate=rate), rate)
    assert seconds(path) == pytest.approx(4.0, abs=0.15)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 + 1])
    with pytest.raises(AudioError, match=r"truncated: header says 4\.\d s, [12]\.\d s could be decoded"):
        seconds(path)


def _text(path: Path) -> None:
    path.write_text("hello, this is no recording\n" * 50)


def _silent(path: Path) -> None:
    wav(path, np.zeros(8000, dtype=np.float32))


def _streamed(path: Path) -> None:
    wav(path, *[tone(0.5)] * 6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_text, "not a recording"),
        (lambda p: p.write_bytes(b""), "empty file"),
        (lambda p: wav(p, np.zeros(0, dtype=np.float32)), "0 samples"),
        (_silent, "silent"),
        (_streamed, "6 channels"),
        (lambda p: wav(p, tone(0.5, rate=4000), rate=4000), "4000 Hz"),
        (lambda p: p.mkdir(), "folder"),
        (lambda p: None, "does not exist"),
        (lambda p: p.symlink_to(p), "cannot be read"),
    ],
    ids=["text", "empty", "zero", "silent", "six", "rate", "folder", "missing", "loop"],
)
def test_refused_with_a_reason(tmp_path: Path, make, says: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "call.wav"
    make(path)
    with pytest.raises(AudioError, match=says) as caught:
        survey(path, SETTINGS)
    assert caught.value.where == str(path)
    assert caught.value.do


def test_a_video_and_a_playlist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="video"):
        seconds(video(tmp_path / "v.mp4"))
    wav(tmp_path / "secret.wav", tone(1.0))
    playlist = tmp_path / "p.wav"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n")
    with pytest.raises(AudioError):
        seconds(playlist)


def test_limits_are_enforced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wav(tmp_path / "a.wav", tone(3.0))
    with pytest.raises(AudioError, match="longer than the limit of 2 s"):
        seconds(path, AudioSettings(max_duration_s=2.0))
    with pytest.raises(AudioError, match="memory"):
        seconds(path, AudioSettings(max_memory_mb=16))
    monkeypatch.setattr(audio, "_STALL_S", 0.0)
    with pytest.raises(AudioError, match="no progress"):
        seconds(path)


def test_the_processor_limit(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    size = 1_500_000_000
    fmt = struct.pack("<HHIIHH", 1, 2, 48000, 192000, 4, 16)
    path.write_bytes(b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", size))
    with path.open("r+b") as file:
        file.truncate(size + 44)  # sparse: hours of nothing on no disk
    with pytest.raises(AudioError, match="processor time"):
        seconds(path, AudioSettings(max_cpu_s=1.0))


def test_a_stream_of_unknown_length_is_not_truncated(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", tone(1.0))
    data = bytearray(path.read_bytes())
    data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert seconds(path) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("late", "level", "layout"),
    [(0, 1.0, "fake-stereo"), (160, 0.1, "fake-stereo"), (400, -0.5, "fake-stereo"), (None, 1.0, "two-channel")],
)
def test_layout(tmp_path: Path, late: int | None, level: float, layout: str) -> None:
    left = noise(3.0)
    right = noise(3.0, seed=1) if late is None else level * np.concatenate([np.zeros(late, dtype=np.float32), left])[: len(left)]
    assert survey(wav(tmp_path / "a.wav", left, right), SETTINGS).layout == layout


def test_segments_are_the_samples_of_their_spans_and_never_too_long(tmp_path: Path) -> None:
    left, right = noise(40.0, rate=16000), noise(40.0, rate=16000, seed=1)
    path = wav(tmp_path / "a.wav", left, right, rate=16000)
    spans = [Span(channel=0, start_s=1.0, end_s=39.0), Span(channel=1, start_s=29.5, end_s=30.5)]
    found = list(segments(path, spans, AudioSettings(max_segment_s=10.0)))
    assert all(len(piece.samples) <= 160_000 for piece in found)
    for channel, (source, span) in enumerate(zip((left, right), spans, strict=True)):
        whole = np.concatenate([piece.samples for piece in found if piece.channel == channel])
        expected = source[int(span.start_s * 16000) : int(span.end_s * 16000)]
        np.testing.assert_allclose(whole, expected, atol=1e-4)


def test_digits_of_silence_and_music() -> None:
    time = np.arange(16_000 * 13) / 16_000
    chord = sum(np.sin(2 * np.pi * hz * k * time) / k for hz in (261.6, 329.6, 392.0) for k in (1, 2, 3))
    listener = sound.Listener()
    listener.hear((0.05 * chord).astype(np.float32))
    heard = listener.finish(0.25)
    assert {kind for kind, _, _ in heard.events} == {"music"}
    assert not heard.speech
    assert sound.silences([heard], 20.0) == [(pytest.approx(12.8), 20.0)]
