"""vCon (draft-ietf-vcon-vcon-core), the IETF's container of conversations: read for its words, written with the scores as `analysis`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from analyzer.readers.assemble import Piece, Source, assemble, in_time, role_of
from analyzer.readers.fields import child, items, number, text_of
from analyzer.records import CallInfo, Speaker, Transcript, Turn, dumps
from analyzer.wire import parse_time, quoted

#: The syntax that draft-ietf-vcon-vcon-core-00 defines and that is written; other versions are read as far as their fields agree.
VERSION: Final = "0.3.0"
_TRANSCRIPT_TYPES: Final = ("transcript", "wtf_transcription")

#: Reads a document found inside a vCon, whatever its format.
ReadBody = Callable[[bytes | Mapping[str, Any], Source], Transcript]


def read_vcon(obj: Mapping[str, Any], source: Source, read_body: ReadBody) -> Transcript:
    """The words of one vCon: its first `transcript` analysis of each dialog, or else its text dialogs.

    Roles come from the parties' `role`; a label in the transcript names a party by its `name`. Several dialogs (legs) are put
    one after the other by their start. The id is the transcript's own, or else the vCon's `uuid`.

    Raises:
        TranscriptError: signed or encrypted, of an extension that must be supported, or without words.
    """
    if "payload" in obj or "ciphertext" in obj:
        raise source.wrong("this vCon is signed or encrypted", do="Export its unsigned form.")
    if needed := obj.get("must_support"):
        names = ", ".join(quoted(name) for name in needed) if isinstance(needed, list) else quoted(needed)
        raise source.wrong(f"this vCon demands the extensions {names}", "must_support", do="Export it without them.")
    parties = [party for _, party in items(obj, "parties", source)]
    dialogs = list(items(obj, "dialog", source))
    source = replace(source, call_id=text_of(obj, "uuid", source) or source.call_id, roles=_roles_by_name(parties))
    starts = [_start(dialog, place, source) for place, dialog in dialogs]
    begin = min((start for start in starts if start is not None), default=None)
    found = list(_transcripts(obj, source, read_body))
    if found:
        transcript = _joined(found, starts, begin)
    elif texts := list(_texts(dialogs, parties, begin, source)):
        transcript = assemble(in_time(texts), source)
    else:
        do = "Transcribe its recording first, or export the vCon with a transcript in 'analysis'."
        raise source.wrong("there are no words: no 'transcript' analysis and no text dialog", do=do)
    return replace(transcript, info=_info(transcript.info, parties, begin, text_of(obj, "subject", source)))


def write_vcon(transcript: Transcript, score: Mapping[str, Any] | None, *, created_at: datetime) -> dict[str, Any]:
    """A vCon of a (redacted) transcript, with the score object as a further analysis; `read_vcon` reads it back unchanged.

    The recording itself is not included: its dialog is there, as the draft allows for redacted content, without a body.
    The `uuid` (version 8) follows from the content, so that writing twice gives the same.
    """
    info = transcript.info
    ids = {"agent": info.agent_id, "customer": info.customer_id}
    speakers = [name for name in ("agent", "customer", "unknown") if any(turn.speaker == name for turn in transcript.turns)]
    parties = [{"role": name, "validation": "none", **({"uuid": ids[name]} if ids.get(name) else {})} for name in speakers]
    body = dumps(transcript.to_json())
    analyses = [("transcript", "transcript", body)]
    if score is not None:
        analyses.append(("call_score", "score", dumps(dict(score))))
    out: dict[str, Any] = {
        "vcon": VERSION,
        "uuid": str(_uuid8("".join(text for _, _, text in analyses))),
        "created_at": created_at.isoformat(),
        "redacted": {},
        "parties": parties,
        "dialog": [],
    }
    about: dict[str, Any] = {}
    if info.started_at is not None:  # a dialog must say when it started
        dialog = {"type": "recording", "start": info.started_at.isoformat(), "parties": list(range(len(parties)))}
        out["dialog"] = [dialog | ({} if transcript.duration_s is None else {"duration": round(transcript.duration_s, 4)})]
        about = {"dialog": 0}
    out["analysis"] = [
        {"type": kind, **about, "vendor": "analyzer", "schema": schema, "mediatype": "application/json", "encoding": "json", "body": text}
        for kind, schema, text in analyses
    ]
    return out


def _uuid8(text: str) -> uuid.UUID:
    # RFC 9562, 5.8: 122 bits of one's own, with version and variant set.
    bits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    bits = bits & ~(0xF << 76) | (0x8 << 76)
    return uuid.UUID(int=bits & ~(0x3 << 62) | (0x2 << 62))


def _role(party: Mapping[str, Any]) -> Speaker | None:
    for value in (party.get("role"), child(party, "meta").get("role")):
        if isinstance(value, str) and (role := role_of(value)) is not None:
            return role
    return None


def _roles_by_name(parties: list[Mapping[str, Any]]) -> dict[str, Speaker]:
    return {
        str(party["name"]).strip().casefold(): role for party in parties if isinstance(party.get("name"), str) and (role := _role(party)) is not None
    }


def _start(dialog: Mapping[str, Any], place: str, source: Source) -> datetime | None:
    return None if dialog.get("start") is None else parse_time(dialog["start"], where=f"{source.where}, {place}, start")


def _transcripts(obj: Mapping[str, Any], source: Source, read_body: ReadBody) -> Iterator[tuple[int | None, Transcript]]:
    seen: set[int | None] = set()
    for place, analysis in items(obj, "analysis", source):
        if analysis.get("type") not in _TRANSCRIPT_TYPES:
            continue
        about = analysis.get("dialog")
        dialog = about[0] if isinstance(about, list) and about else about
        dialog = dialog if isinstance(dialog, int) else None
        if dialog not in seen:  # a second vendor's transcript of the same dialog would double every word
            seen.add(dialog)
            yield dialog, read_body(_body(analysis, place, source), replace(source, where=f"{source.where}, {place}"))


def _body(holder: Mapping[str, Any], place: str, source: Source) -> bytes | Mapping[str, Any]:
    body = holder.get("body")
    if isinstance(body, dict):
        return body
    if not isinstance(body, str):
        do = "Only words inside the file are read; fetch what 'url' names and put it into 'body'."
        raise source.wrong("'body' is missing", place, do=do)
    if holder.get("encoding") != "base64url":
        return body.encode()
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise source.wrong("'body' is not base64url", place, do="Export the vCon again.") from None


def _joined(found: list[tuple[int | None, Transcript]], starts: list[datetime | None], begin: datetime | None) -> Transcript:
    first = found[0][1]
    if len(found) == 1:
        return first
    turns: list[Turn] = []
    for dialog, transcript in found:
        start = starts[dialog] if dialog is not None and 0 <= dialog < len(starts) else None
        shift_s = (start - begin).total_seconds() if start is not None and begin is not None else 0.0
        turns.extend(_shifted(turn, shift_s) for turn in transcript.turns)
    return replace(first, turns=tuple(sorted(turns, key=lambda turn: turn.start_s or 0.0)), duration_s=None)


def _shifted(turn: Turn, by_s: float) -> Turn:
    if turn.start_s is None or not by_s:
        return turn
    words = tuple(replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s) for word in turn.words)
    return replace(turn, start_s=turn.start_s + by_s, end_s=None if turn.end_s is None else turn.end_s + by_s, words=words)


def _texts(dialogs: list[tuple[str, Mapping[str, Any]]], parties: list[Mapping[str, Any]], begin: datetime | None, source: Source) -> Iterator[Piece]:
    for place, dialog in dialogs:
        if dialog.get("type") != "text" or dialog.get("body") is None:
            continue
        body = _body(dialog, place, source)
        try:
            text = body.decode() if isinstance(body, bytes) else dumps(body)
        except UnicodeDecodeError:
            raise source.wrong("'body' is not UTF-8 text", place, do="Export the vCon again.") from None
        start = _start(dialog, place, source)
        start_s = (start - begin).total_seconds() if start is not None and begin is not None else None
        duration_s = number(dialog, "duration", source, place)
        end_s = start_s + duration_s if start_s is not None and duration_s is not None else None
        yield Piece(label=_sender(dialog, parties), text=text, place=place, start_s=start_s, end_s=end_s)


def _sender(dialog: Mapping[str, Any], parties: list[Mapping[str, Any]]) -> str | None:
    """The label of who wrote a text: the originator, else the first party named."""
    sender = dialog.get("originator", dialog.get("parties"))
    while isinstance(sender, list) and sender:
        sender = sender[0]
    if not isinstance(sender, int) or not 0 <= sender < len(parties):
        return None
    return _role(parties[sender]) or f"speaker {sender}"


def _info(info: CallInfo, parties: list[Mapping[str, Any]], begin: datetime | None, subject: str | None) -> CallInfo:
    ids = {role: party["uuid"] for party in reversed(parties) if (role := _role(party)) is not None and isinstance(party.get("uuid"), str)}
    return replace(
        info,
        started_at=info.started_at or begin,
        agent_id=info.agent_id or ids.get("agent"),
        customer_id=info.customer_id or ids.get("customer"),
        reason=info.reason or subject,
    )
