"""From the pieces of any foreign format to one transcript: who a label names, pieces joined to turns, order checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from analyzer.errors import TranscriptError
from analyzer.records import CallInfo, Speaker, Transcript, Turn, Word

#: Pieces of one voice that are less than this apart are one turn.
PAUSE_S: Final = 1.5
_ROLES: Final[Mapping[str, Speaker]] = {
    **dict.fromkeys(("agent", "operator", "representative", "rep", "advisor", "adviser", "csr", "call center agent", "call centre agent"), "agent"),
    **dict.fromkeys(("customer", "caller", "client"), "customer"),
}
_NUMBERED: Final = re.compile(r"(?:speaker|spk|ch|channel|voice)?[ _-]?(\d{1,3})", re.IGNORECASE)
_MAX_PIECES: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a transcript comes from: the place to name in errors, the id when it has none of its own, labels known from elsewhere."""

    where: str
    call_id: str
    roles: Mapping[str, Speaker] = field(default_factory=dict)

    def wrong(self, what: str, place: str = "", *, do: str) -> TranscriptError:
        """The error for something wrong at `place` within this source."""
        return TranscriptError(what, where=f"{self.where}, {place}" if place else self.where, do=do)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Something said by the voice `label` (`None`: the format does not say who); `place` names it in errors."""

    label: str | None
    text: str
    place: str
    start_s: float | None = None
    end_s: float | None = None
    confidence: float | None = None
    words: tuple[Word, ...] = ()


def role_of(label: str) -> Speaker | None:
    """`agent` or `customer` where the label is a word for one of them."""
    return _ROLES.get(label.strip().casefold())


def is_anonymous(label: str) -> bool:
    """Whether the label only numbers a voice: `SPEAKER_00`, `spk_1`, `ch_0`, `Speaker 2`."""
    return _NUMBERED.fullmatch(label.strip()) is not None


def assemble(pieces: Iterable[Piece], source: Source, **more: Any) -> Transcript:
    """Pieces, in the order given, as one transcript; `more` are further fields of `Transcript`, `info` among them.

    A label that names a role gives the speaker; any other gives `unknown` with the voice's number as `channel`, so that
    the roles can still be told from the words. Neighbouring pieces of one known voice, less than `PAUSE_S` apart, become one turn.

    Raises:
        TranscriptError: nothing was said, times are impossible or run backwards.
    """
    said = [piece for piece in pieces if piece.text.strip()]
    if not said:
        raise source.wrong("there are no turns", do="A transcript needs at least one turn with text; an export of a silent call has none.")
    if len(said) > _MAX_PIECES:
        raise source.wrong(f"{len(said):,} pieces of speech", do=f"A call has at most {_MAX_PIECES:,}; split the file by call.")
    _check_times(said, source)
    channels = _number(said, source.roles)
    turns = tuple(_turn(group, channels, source.roles) for group in _join(said))
    more.setdefault("info", CallInfo(call_id=source.call_id))
    return Transcript(turns=turns, **more)


def in_time(pieces: Iterable[Piece]) -> list[Piece]:
    """Pieces by start, for formats that list one voice after the other; pieces without times stay where they are relative to each other."""
    return sorted(pieces, key=lambda piece: piece.start_s or 0.0)


def phrases(words: Sequence[tuple[str | None, Word]], place: str) -> list[Piece]:
    """Labelled words to pieces: per voice, cut where it pauses for `PAUSE_S`, then by time, so that a short "mm-hm" does not cut a long answer.

    Words need not be in order.
    """
    groups: list[tuple[str | None, list[Word]]] = []
    open_group: dict[str | None, list[Word]] = {}
    for label, word in sorted(words, key=lambda item: item[1].start_s):
        group = open_group.get(label)
        if group is None or word.start_s - group[-1].end_s >= PAUSE_S:
            group = open_group[label] = []
            groups.append((label, group))
        group.append(word)
    return [
        Piece(
            label=label,
            text=" ".join(word.text for word in group),
            place=f"{place} at {group[0].start_s:.2f} s",
            start_s=group[0].start_s,
            end_s=max(word.end_s for word in group),
            confidence=mean_confidence(group),
            words=tuple(group),
        )
        for label, group in groups
    ]


def mean_confidence(words: Iterable[Word]) -> float | None:
    """The mean of the words' confidences, or `None` where none has one."""
    known = [word.confidence for word in words if word.confidence is not None]
    return sum(known) / len(known) if known else None


def _check_times(pieces: Sequence[Piece], source: Source) -> None:
    last: Piece | None = None
    for piece in pieces:
        if piece.start_s is None:
            continue
        if piece.end_s is not None and piece.end_s < piece.start_s:
            what = f"ends at {piece.end_s:.3f} s, before it starts at {piece.start_s:.3f} s"
            raise source.wrong(what, piece.place, do="Swap or mend the two times.")
        if last is not None and last.start_s is not None and piece.start_s < last.start_s:
            what = f"starts at {piece.start_s:.3f} s, before {last.place} at {last.start_s:.3f} s"
            raise source.wrong(what, piece.place, do="Put the pieces in the order of their times.")
        last = piece


def _number(pieces: Iterable[Piece], known: Mapping[str, Speaker]) -> dict[str, int]:
    """A number for each label that names no role: its own where it has one, else the first free one in order of appearance."""
    labels = [label for label in dict.fromkeys(p.label for p in pieces) if label is not None and _role(label, known) is None]
    numbered = {label: int(match[1]) for label in labels if (match := _NUMBERED.fullmatch(label.strip()))}
    if len(set(numbered.values())) < len(numbered):  # "ch_0" beside "spk_0": their own numbers would make two voices one
        numbered = {}
    taken = set(numbered.values())
    free = (number for number in range(len(labels) + len(taken)) if number not in taken)
    return {label: numbered[label] if label in numbered else next(free) for label in labels}


def _role(label: str, known: Mapping[str, Speaker]) -> Speaker | None:
    return known.get(label.strip().casefold()) or role_of(label)


def _join(pieces: Sequence[Piece]) -> list[list[Piece]]:
    groups: list[list[Piece]] = []
    for piece in pieces:
        last = groups[-1][-1] if groups else None
        if last is not None and piece.label is not None and piece.label == last.label and _close(last, piece):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _close(last: Piece, piece: Piece) -> bool:
    if last.end_s is None or piece.start_s is None:
        return (last.start_s is None) == (piece.start_s is None)
    return piece.start_s - last.end_s < PAUSE_S


def _turn(group: Sequence[Piece], channels: Mapping[str, int], known: Mapping[str, Speaker]) -> Turn:
    label = group[0].label
    role = _role(label, known) if label is not None else None
    ends = [piece.end_s for piece in group if piece.end_s is not None]
    confidences = [piece.confidence for piece in group if piece.confidence is not None]
    return Turn(
        speaker=role or "unknown",
        text=" ".join(" ".join(piece.text.split()) for piece in group),
        start_s=group[0].start_s,
        end_s=max(ends) if ends else None,
        channel=channels.get(label) if label is not None else None,
        confidence=sum(confidences) / len(confidences) if confidences else None,
        words=tuple(word for piece in group for word in piece.words),
    )
