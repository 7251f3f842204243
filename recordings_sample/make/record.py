"""Speaks the scripts of calls.toml with free voices: the recordings, and ready transcripts beside some of them.

Needs the programs flite, festival with its voice `cmu_us_slt_arctic_hts` (Debian: festvox-us-slt-hts), and ffmpeg; numpy.
Run: python recordings_sample/make/record.py [CALL_ID…]
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tomllib
import wave
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
SAMPLE = HERE.parent
RATE_HZ = 16_000
SUFFIX = {
    "flac": ".flac",
    "wav": ".wav",
    "mp3": ".mp3",
    "opus": ".ogg",
    "mono": ".flac",
    "fake-stereo": ".flac",
    "voicemail": ".wav",
    "hold-music": ".wav",
    "truncated": ".wav",
}
FLAC = ["-ar", "16000", "-sample_fmt", "s16", "-c:a", "flac", "-compression_level", "12"]
#: What ffmpeg is told, by the suffix of the file.
CODECS = {
    ".flac": FLAC,
    ".wav": ["-ar", "8000", "-c:a", "pcm_mulaw"],
    ".mp3": ["-ar", "16000", "-c:a", "libmp3lame", "-b:a", "56k"],
    ".ogg": ["-c:a", "libopus", "-b:a", "40k", "-application", "voip"],
}
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A synthetic voice; `speed` plays it faster and higher, `stretch` lengthens what it says beforehand."""

    program: str
    name: str
    stretch: float = 1.0
    speed: float = 1.0


#: Four base voices, the ones that the en-us models of pocketsphinx understand best (README.md has the figures).
VOICES = {
    "ann": Voice(program="festival", name="cmu_us_slt_arctic_hts", speed=0.93),
    "rob": Voice(program="flite", name="rms", stretch=1.1),
    "alan": Voice(program="flite", name="awb", stretch=1.1),
    "ken": Voice(program="flite", name="kal16", stretch=1.12),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A spoken line: who (`A`, `C` or `V`), the words, when it begins, and its sound."""

    who: str
    text: str
    start_s: float
    samples: Samples

    @property
    def end_s(self) -> float:
        """When it ends, in seconds from the start of the call."""
        return self.start_s + len(self.samples) / RATE_HZ


def read_scripts() -> list[dict[str, Any]]:
    """The calls of calls.toml, each with the `file` it becomes."""
    calls: list[dict[str, Any]] = tomllib.loads((HERE / "calls.toml").read_text(encoding="utf-8"))["call"]
    return [call | {"file": call["id"] + SUFFIX[call["format"]]} for call in calls]


def lines_of(talk: str) -> list[tuple[float | None, str, str]]:
    """Each line as (seconds after the line before began, or None for after its end; who; words)."""
    out: list[tuple[float | None, str, str]] = []
    for line in talk.strip().splitlines():
        after: float | None = None
        if line.startswith(">"):
            number, line = line[1:].strip().split(" ", 1)
            after = float(number)
        who, words = line.split(": ", 1)
        out.append((after, who, words))
    return out


def speak(voice: Voice, text: str) -> Samples:
    """The words in a voice, 16 kHz, without silence around them, at an even loudness."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "said.wav")
        if voice.program == "flite":
            stretch = f"duration_stretch={voice.stretch}"
            subprocess.run(["flite", "-voice", voice.name, "--setf", stretch, "-t", text, "-o", path], check=True)
        else:
            subprocess.run(["text2wave", "-eval", f"(voice_{voice.name})", "-o", path], input=text.encode(), check=True)
        with wave.open(str(path)) as file:
            rate_hz, raw = file.getframerate(), file.readframes(file.getnframes())
    resample = ["ffmpeg", "-v", "error", "-f", "s16le", "-ar", str(round(rate_hz * voice.speed)), "-ac", "1", "-i", "-"]
    played = subprocess.run([*resample, "-ar", str(RATE_HZ), "-f", "f32le", "-"], input=raw, check=True, capture_output=True).stdout
    samples = np.frombuffer(played, dtype="<f4")
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    samples = samples[max(0, loud[0] - 400) : loud[-1] + 800]
    rms = np.sqrt(np.mean(np.square(samples)))
    gain = min(0.09 / float(rms), 0.8 / float(np.abs(samples).max()))
    return np.asarray(samples * gain, dtype=np.float32)


def talk_of(call: dict[str, Any], first_s: float = 0.6) -> list[Said]:
    """The lines of a call, spoken, in order of their beginning."""
    chance = random.Random(call["id"])
    voices = {"A": VOICES[call["agent"]], "C": VOICES[call["customer"]], "V": VOICES[call["customer"]]}
    said: list[Said] = []
    base_s, free_s = first_s, first_s
    for after, who, text in lines_of(call["talk"]):
        samples = speak(voices[who], text)
        if after is None:
            base_s = free_s
            free_s = base_s + len(samples) / RATE_HZ + chance.uniform(0.35, 0.75)
        said.append(Said(who=who, text=text, start_s=base_s if after is None else base_s + after, samples=samples))
    return sorted(said, key=lambda line: line.start_s)


def mix(lines: list[Said], agent_channel: int, *, tail_s: float = 0.6, noise: float = 1.5e-4) -> Samples:
    """Two channels (2, n) with the faint noise of a line (its standard deviation; full scale is 1)."""
    n = round((max(line.end_s for line in lines) + tail_s) * RATE_HZ)
    sound = np.random.default_rng(n).normal(0.0, noise, (2, n))
    for line in lines:
        channel = agent_channel if line.who == "A" else 1 - agent_channel
        start = round(line.start_s * RATE_HZ)
        sound[channel, start : start + len(line.samples)] += line.samples
    return sound.astype(np.float32)


def tone(frequencies_hz: tuple[float, ...], seconds: float, level: float = 0.08) -> Samples:
    """Sines together, faded at both ends."""
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    fade = np.minimum(1.0, np.minimum(at, seconds - at) / 0.01)
    waves = np.stack([np.sin(2 * np.pi * hz * at) for hz in frequencies_hz])
    return np.asarray(level * fade * waves.sum(axis=0), dtype=np.float32)


def music(seconds: float) -> Samples:
    """A small waltz of our own: bass on one, chord on two and three, a melody that wanders over the chord's notes."""
    chance, beat_s = random.Random("waltz"), 0.42
    sound = np.zeros(round((seconds + 2) * RATE_HZ), dtype=np.float32)

    def play(note: int, at_s: float, long_s: float, level: float) -> None:
        at = np.arange(round(long_s * RATE_HZ)) / RATE_HZ
        hz = 440.0 * 2 ** ((note - 69) / 12)
        string = sum(np.sin(2 * np.pi * hz * k * at) / k**1.6 for k in (1, 2, 3, 4))
        start = round(at_s * RATE_HZ)
        sound[start : start + len(at)] += (level * string * np.minimum(1, at / 0.01) * np.exp(-3.0 * at / long_s)).astype(np.float32)

    chords = [(48, 52, 55), (45, 48, 52), (41, 45, 48), (43, 47, 50)]
    for bar in range(int(seconds / (3 * beat_s))):
        root, third, fifth = chords[bar // 2 % 4]
        at_s = bar * 3 * beat_s
        play(root, at_s, 1.2, 0.10)
        for beat in (1, 2):
            for note in (root + 12, third + 12, fifth + 12):
                play(note, at_s + beat * beat_s, 0.6, 0.035)
        for beat in (0, 1, 2) if bar % 4 != 3 else (0,):
            play(chance.choice((root, third, fifth)) + 24, at_s + beat * beat_s, 0.9 if bar % 4 != 3 else 2.0, 0.09)
    return sound[: round(seconds * RATE_HZ)]


def hold(call: dict[str, Any]) -> Samples:
    """Two rings, then music, with one announcement in it; the caller's side says nothing."""
    ring = tone((440.0, 480.0), 2.0)
    sound = np.random.default_rng(22).normal(0.0, 1.5e-4, (2, 50 * RATE_HZ)).astype(np.float32)
    for start_s in (1.0, 5.0):
        sound[0, round(start_s * RATE_HZ) :][: len(ring)] += ring
    tune = music(40.0)
    line = talk_of(call, first_s=22.0)[0]
    start = round(8.5 * RATE_HZ)
    quiet = slice(round(line.start_s * RATE_HZ) - start - 4000, round(line.end_s * RATE_HZ) - start + 4000)
    tune[quiet] *= 0.1
    sound[0, start : start + len(tune)] += tune
    sound[0, round(line.start_s * RATE_HZ) :][: len(line.samples)] += line.samples
    return sound


def voicemail(call: dict[str, Any]) -> Samples:
    """One ring, the mailbox's greeting and beep, then the caller's message."""
    greeting, message = talk_of(call, first_s=4.5)
    beep, ring = tone((1000.0,), 0.5, 0.2), tone((440.0, 480.0), 2.0)
    beep_s = greeting.end_s + 0.5
    later = Said(who="A", text=message.text, start_s=beep_s + 1.2, samples=message.samples)
    machine = [Said(who="V", text="", start_s=s, samples=sound) for s, sound in ((1.0, ring), (beep_s, beep))]
    return mix([*machine, greeting, later], 0, tail_s=2.0)


def write_sound(path: Path, sound: Samples, codec: list[str]) -> None:
    """Encode (channels, n) at 16 kHz; the same input gives the same bytes."""
    source = ["-f", "f32le", "-ar", str(RATE_HZ), "-ac", str(len(sound)), "-i", "-"]
    exact = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"]
    if codec is FLAC:  # 13 bits, which nobody hears, make the file half as large
        sound = (np.round(sound * 4096) / 4096).astype(np.float32)
    raw = np.ascontiguousarray(sound.T, dtype="<f4").tobytes()
    subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *codec, *exact, path], input=raw, check=True)


def write_transcript(path: Path, call: dict[str, Any], lines: list[Said]) -> None:
    """The script with its times, as JSON, WebVTT or SubRip by the path's suffix."""
    named = [("agent" if line.who == "A" else "customer", line) for line in lines]
    if path.suffix == ".json":
        turns = [{"speaker": who, "text": s.text, "start_s": round(s.start_s, 2), "end_s": round(s.end_s, 2)} for who, s in named]
        text = json.dumps({"call_id": call["id"], "language": "en", "turns": turns}, indent=1) + "\n"
    elif path.suffix == ".vtt":
        cues = [f"{clock(s.start_s, '.')} --> {clock(s.end_s, '.')}\n<v {who.title()}>{s.text}\n" for who, s in named]
        text = "\n".join(["WEBVTT\n", *cues])
    else:
        cues = [f"{n}\n{clock(s.start_s, ',')} --> {clock(s.end_s, ',')}\n{who.title()}: {s.text}\n" for n, (who, s) in enumerate(named, 1)]
        text = "\n".join(cues)
    path.write_text(text, encoding="utf-8")


def clock(seconds: float, mark: str) -> str:
    """`00:01:02.500`, with the mark of the format before the milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"00:{minutes:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def record(call: dict[str, Any]) -> None:
    """Write one call's recording, and its transcript where the script asks for one."""
    path, kind = SAMPLE / call["file"], call["format"]
    codec = CODECS[path.suffix]
    if kind in ("hold-music", "voicemail"):
        write_sound(path, hold(call) if kind == "hold-music" else voicemail(call), codec)
        return
    lines = talk_of(call)
    # FLAC keeps every bit of the noise, so there it stays below the last bit.
    sound = mix(lines, call.get("agent_channel", 0), noise=3e-5 if path.suffix == ".flac" else 1.5e-4)
    if kind in ("mono", "fake-stereo"):
        one = sound.sum(axis=0, keepdims=True)
        sound = one if kind == "mono" else np.repeat(one, 2, axis=0)
    write_sound(path, sound, codec)
    if kind == "truncated":  # the header still promises the whole call
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 5])
    if "transcript" in call:
        write_transcript(path.with_suffix("." + call["transcript"]), call, lines)


def main(call_ids: list[str]) -> None:
    """Record the calls named, or all."""
    for call in read_scripts():
        if not call_ids or call["id"] in call_ids:
            record(call)


if __name__ == "__main__":
    main(sys.argv[1:])
