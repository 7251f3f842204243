"""WebVTT (https://www.w3.org/TR/webvtt1/) and SubRip (.srt): cues with times; who speaks stands in voice tags or before a colon."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from analyzer.readers.assemble import Piece, Source, assemble, is_anonymous, role_of
from analyzer.records import Transcript

_STAMP: Final = r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)[.,](\d{1,3})"
_TIMES: Final = re.compile(rf"\s*{_STAMP}\s*-->\s*{_STAMP}(?:\s.*)?")
_VOICE: Final = re.compile(r"<v(?:\.[^\s>]*)?[ \t]+([^>]+)>")
_TAG: Final = re.compile(r"</?[a-zA-Z][^>]*>|<\d[\d:.]*>|\{\\[^}]*\}")
#: "Agent: …", "[SPEAKER_00]: …", "Denise Ray: …"
_PREFIX: Final = re.compile(r"\s*(?:-\s*)?\[?([^\W\d_][\w .'’-]{0,40}?)\]?:(?:\s+|$)")


@dataclass(frozen=True, slots=True)
class _Cue:
    line: int
    start_s: float
    end_s: float
    lines: tuple[str, ...]


def read_webvtt(text: str, source: Source) -> Transcript:
    """One WebVTT file; `<v Name>` and `Name:` say who speaks. Raises `TranscriptError` naming the line."""
    return assemble(_pieces(list(_cues(text, source))), source, language=_language(text))


def read_srt(text: str, source: Source) -> Transcript:
    """One SubRip file; `Name:` says who speaks. Raises `TranscriptError` naming the line."""
    return assemble(_pieces(list(_cues(text, source))), source)


def _language(text: str) -> str | None:
    header = text.split("\n\n", 1)[0]
    match = re.search(r"^Language:\s*([A-Za-z]{2,3}(?:-\w+)*)\s*$", header, re.MULTILINE)
    return match[1] if match else None


def _cues(text: str, source: Source) -> Iterator[_Cue]:
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        if "-->" not in lines[number]:
            number += 1
            continue
        place = f"line {number + 1}"
        match = _TIMES.fullmatch(lines[number])
        if match is None:
            raise source.wrong("this is not a pair of times", place, do="Write it like 00:01:02.500 --> 00:01:04.000.")
        body_start = number + 1
        number = body_start
        while number < len(lines) and lines[number].strip() and "-->" not in lines[number]:
            number += 1
        groups = match.groups()
        yield _Cue(body_start, _seconds(groups[:4]), _seconds(groups[4:]), tuple(_without_next_id(lines, body_start, number)))


def _without_next_id(lines: list[str], start: int, end: int) -> list[str]:
    # Some writers leave out the blank line between cues: then the last line of the body is the next cue's number.
    ends_at_times = end < len(lines) and "-->" in lines[end]
    return lines[start : end - 1] if ends_at_times and end > start and lines[end - 1].strip().isdigit() else lines[start:end]


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = groups
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + int((fraction or "0").ljust(3, "0")) / 1000


def _pieces(cues: list[_Cue]) -> Iterator[Piece]:
    found = [match[1] for cue in cues if cue.lines and (match := _PREFIX.match(_plain(cue.lines[0])))]
    counts = Counter(found)
    # Any word may stand before a colon ("Right: here it is"); it is a name only where most cues begin with one, and it comes back.
    names = {name for name in found if counts[name] > 1} if len(found) * 2 > len(cues) else set()
    for cue in cues:
        for label, text in _voices(cue.lines, names=names):
            yield Piece(label=label, text=text, place=f"the cue at line {cue.line}", start_s=cue.start_s, end_s=cue.end_s)


def _voices(lines: tuple[str, ...], *, names: Collection[str]) -> list[tuple[str | None, str]]:
    """Who says what within one cue."""
    said: list[tuple[str | None, str]] = []
    label: str | None = None
    for line in lines:
        before, *tagged = _VOICE.split(line)
        parts = [(label, before), *((name.strip(), words) for name, words in zip(tagged[::2], tagged[1::2], strict=True))]
        for voice, raw in parts:
            label, words = voice, _plain(raw)
            prefix = _PREFIX.match(words)
            if prefix and (prefix[1] in names or role_of(prefix[1]) or is_anonymous(prefix[1])):
                label, words = prefix[1], words[prefix.end() :]
            if not words.strip():
                continue
            if said and said[-1][0] == label:
                said[-1] = (label, f"{said[-1][1]} {words.strip()}")
            else:
                said.append((label, words.strip()))
    return said


def _plain(text: str) -> str:
    return html.unescape(_TAG.sub("", _VOICE.sub("", text)))
