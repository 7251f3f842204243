"""What a batch finds in a folder, and what the calls table makes of it: each slip fails alone and is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analyzer.errors import InputError, TableError
from analyzer.readers.folder import Call, scan
from analyzer.readers.tables import EMPTY, CallsTable, overlay, read_agents, read_calls
from analyzer.records import CallInfo, Failure

TURNS = [{"speaker": "agent", "text": "Hello, how can I help?"}, {"speaker": "customer", "text": "My parcel is late."}]


def put(folder: Path, name: str, content: object = b"x") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def table(folder: Path, text: str) -> CallsTable:
    return read_calls(put(folder, "calls.csv", text.encode()))


def found(folder: Path, known: CallsTable = EMPTY, **options: object) -> tuple[dict[str, Call], list[str]]:
    calls, failures = {}, []
    for item in scan(folder, known, **options):  # type: ignore[arg-type]
        if isinstance(item, Failure):
            failures.append(item.message)
        else:
            calls[item.source.removeprefix(f"{folder.resolve()}/")] = item
    return calls, failures


def test_recordings_and_transcripts_are_found_and_companions_are_not(tmp_path: Path) -> None:
    put(tmp_path, "b.wav")
    put(tmp_path, "sub/a.MP3")
    put(tmp_path, "talk.json", {"turns": TURNS})
    put(tmp_path, "many.jsonl", "\n".join(json.dumps({"call_id": f"m{n}", "turns": TURNS}) for n in (1, 2)).encode())
    for name in ("README.md", "calls.csv", ".hidden.wav", ".git/x.wav"):
        put(tmp_path, name)
    calls, failures = found(tmp_path)
    assert {source: call.info.call_id for source, call in calls.items()} == {
        "b.wav": "b",
        "sub/a.MP3": "a",
        "talk.json": "talk",
        "many.jsonl#m1": "m1",
        "many.jsonl#m2": "m2",
    }
    assert failures == []


def test_a_ready_transcript_stands_for_its_recording_unless_an_engine_was_named(tmp_path: Path) -> None:
    put(tmp_path, "a.wav")
    put(tmp_path, "a.json", {"call_id": "other-name", "turns": TURNS})
    calls, _ = found(tmp_path)
    assert (list(calls), calls["a.wav"].info.call_id) == (["a.wav"], "a")
    assert calls["a.wav"].ready is not None
    calls, _ = found(tmp_path, ready=False)
    assert calls["a.wav"].ready is None


def test_the_calls_table_names_the_calls_and_what_is_known_of_them(tmp_path: Path) -> None:
    put(tmp_path, "2026/x1.wav")
    put(tmp_path, "c9.wav")
    known = table(
        tmp_path, "call_id,file,agent_id,started_at,leg,tenure_months,note\nc1,2026/x1.wav,a7,2026-03-02T10:15:00+00:00,2,14,new\nc9,,a8,,,,\n"
    )
    calls, failures = found(tmp_path, known)
    first = calls["2026/x1.wav"].info
    assert (first.call_id, first.agent_id, first.leg, dict(first.covariates)) == ("c1", "a7", 2, {"tenure_months": 14, "note": "new"})
    assert first.started_at is not None
    assert first.started_at.isoformat() == "2026-03-02T10:15:00+00:00"
    assert calls["c9.wav"].info.agent_id == "a8"
    assert failures == []


def test_what_is_wrong_fails_alone_and_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    for name in ("good.wav", "odd.xyz", "twice.wav", "sub/twice.wav", "bad.wav", "late.wav"):
        put(folder, name)
    put(folder, "broken.json", b"{")
    put(folder, "many.jsonl", (json.dumps({"call_id": "ok", "turns": TURNS}) + '\n{"turns": []}\n').encode())
    (folder / "out.wav").symlink_to(put(tmp_path, "outside.wav"))
    known = table(folder, "call_id,file,started_at\ngone,gone.wav,\nbad,bad.wav,\nbad,bad2.wav,\nlate,late.wav,2026-03-02T10:15:00\n")
    calls, failures = found(folder, known)
    assert set(calls) == {"good.wav", "twice.wav", "many.jsonl#ok"}
    wanted = [
        "line 4: the call id 'bad' stands also in calls.csv, line 3",
        "line 5: '2026-03-02T10:15:00' has no time zone",
        "broken.json: not JSON",
        "there are no turns",
        "odd.xyz: unknown extension '.xyz'",
        "out.wav: a symbolic link out of the folder",
        "sub/twice.wav: the call id 'twice' stands twice",
        "line 2: the file 'gone.wav' is not in the folder",
    ]
    assert len(failures) == len(wanted), failures
    for part in wanted:
        assert any(part in message for message in failures), (part, failures)


def test_files_can_be_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a.wav")
    put(tmp_path, "old/b.wav")
    assert list(found(tmp_path, exclude=["old/*"])[0]) == ["a.wav"]


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        list(scan(put(tmp_path, "a.wav")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "there is no column 'call_id'"),
        (b"call_id,resolution\na,closed\n", "the column 'resolution' is named like a part of a score"),
        (b"file\na.wav\n", "there is no column 'call_id'"),
        (b"call_id,call_id\na,b\n", "the column 'call_id' stands twice"),
        (b"call_id,agnet_id\na,b\n", "unknown column 'agnet_id'. Did you mean 'agent_id'"),
        (b"call_id,file\na\n", "line 2: 1 cells under 2 columns"),
        (b"call_id,file\n,a.wav\n", "line 2: call_id is empty"),
        (b"call_id,file\n\xff,a.wav\n", "not UTF-8 text"),
        (b'call_id,file\n"a,a.wav\n', "not CSV"),
    ],
)
def test_a_calls_table_that_is_none_is_refused_whole(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_calls(put(tmp_path, "calls.csv", text))


def test_agents_lend_their_columns_to_their_calls(tmp_path: Path) -> None:
    agents = read_agents(put(tmp_path, "agents.csv", b"agent_id,team,trained_at\na7,north,2026-02-01T00:00:00+00:00\na8,south,\n"))
    known = read_calls(put(tmp_path, "calls.csv", b"call_id,agent_id\nc1,a7\nc2,a8\nc3,a9\n"), agents)
    assert {call: dict(row.info.covariates) for call, row in known.rows.items()} == {
        "c1": {"agent_team": "north", "agent_trained_at": "2026-02-01T00:00:00+00:00"},
        "c2": {"agent_team": "south"},
        "c3": {},
    }
    with pytest.raises(TableError, match="has no time zone"):
        read_agents(put(tmp_path, "agents.csv", b"agent_id,trained_at\na7,2026-02-01T00:00:00\n"))
    with pytest.raises(TableError, match="the agent 'a7' stands twice"):
        read_agents(put(tmp_path, "agents.csv", b"agent_id\na7\na7\n"))


def test_the_table_wins_over_the_transcript_where_it_says_something() -> None:
    own = CallInfo(call_id="c", queue="billing", agent_id="a1", covariates={"x": 1, "y": 1})
    said = CallInfo(call_id="c", queue="sales", covariates={"y": 2})
    assert overlay(own, said) == CallInfo(call_id="c", queue="sales", agent_id="a1", covariates={"x": 1, "y": 2})


def test_files_of_one_name_in_two_folders_stay_two_calls(tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        put(tmp_path, f"{day}/call-1.json", {"turns": TURNS})
    sources = [item.source for day in ("monday", "tuesday") for item in scan(tmp_path / day)]
    assert sources == [f"{tmp_path.resolve()}/monday/call-1.json", f"{tmp_path.resolve()}/tuesday/call-1.json"]
