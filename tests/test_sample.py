"""The sample keeps its promises: formats, labels, tables that fit together, size."""

from __future__ import annotations

import csv
import importlib
from collections import Counter, defaultdict
from datetime import datetime
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer.audio import decode
from analyzer.config import AudioSettings
from analyzer.errors import AudioError
from analyzer.outcomes import read_outcomes
from analyzer.readers import read_transcripts
from analyzer.readers.tables import read_agents, read_calls
from analyzer.records import LABELS, Transcript
from analyzer.wire import loads, parse_time, transcript_from_json

SAMPLE = Path(__file__).parent.parent / "recordings_sample"
RECORDINGS = {".flac", ".wav", ".mp3", ".ogg"}
COLUMNS = "call_id,file,agent_id,customer_id,started_at,direction,queue,reason,contact_id,leg,disposition,ended_by"
FLAC, TELEPHONE = ("flac", 16_000, 2), ("pcm_mulaw", 8_000, 2)
SPECIAL = {
    "rec-17-mp3": ("mp3", 16_000, 2),
    "rec-18-opus": ("opus", 48_000, 2),
    "rec-19-mono": ("flac", 16_000, 1),
    "rec-20-fake-stereo": FLAC,
    "rec-21-voicemail": TELEPHONE,
    "rec-22-hold-music": TELEPHONE,
    "rec-23-truncated": TELEPHONE,
}


def rows(name: str) -> list[dict[str, str]]:
    with (SAMPLE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sound(path: Path) -> tuple[str, int, int, float]:
    """Codec, rate, channels and seconds, decoded to the end."""
    import av

    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        seconds = sum(frame.samples / frame.sample_rate for frame in file.decode(stream))
        codec = {"mp3float": "mp3", "libopus": "opus"}.get(stream.codec_context.name, stream.codec_context.name)
        return codec, stream.rate, stream.channels, seconds


@pytest.fixture(scope="module")
def history() -> list[Transcript]:
    lines = (SAMPLE / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [transcript_from_json(loads(line, where=f"line {number}"), where=f"line {number}") for number, line in enumerate(lines, 1)]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(SAMPLE / "make"))
    return {name: importlib.import_module(name) for name in ("record", "tables")}


def test_the_recordings_have_their_formats_and_lengths() -> None:
    heard = {path.stem: sound(path) for path in SAMPLE.iterdir() if path.suffix in RECORDINGS}
    ordinary = {stem: found for stem, found in heard.items() if stem not in SPECIAL}
    assert len(ordinary) >= 16
    assert Counter(found[:3] for found in ordinary.values()) == {FLAC: len(ordinary) / 2, TELEPHONE: len(ordinary) / 2}
    assert {stem: heard[stem][:3] for stem in SPECIAL} == SPECIAL
    whole = {stem: found[3] for stem, found in heard.items() if stem not in ("rec-21-voicemail", "rec-23-truncated")}
    assert all(40 <= seconds <= 150 for seconds in whole.values()), whole
    assert sum(found[3] for found in heard.values()) <= 25 * 60


def test_both_sides_speak_on_channels_of_their_own_and_fake_stereo_does_not() -> None:
    def channels(name: str) -> NDArray[np.float32]:
        return np.concatenate([block.samples for block in decode(SAMPLE / name, AudioSettings())], axis=1)

    two = channels("rec-02.wav")
    active = np.abs(two) > 0.02
    assert active.sum(axis=1).min() > 16_000
    assert (active[0] & active[1]).sum() < 0.05 * active.any(axis=0).sum()
    fake = channels("rec-20-fake-stereo.flac")
    assert (fake[0] == fake[1]).all()


def test_the_truncated_file_promises_more_than_it_holds() -> None:
    path = SAMPLE / "rec-23-truncated.wav"
    raw = path.read_bytes()
    data = raw.index(b"data")
    assert int.from_bytes(raw[data + 4 : data + 8], "little") > len(raw) - data - 8
    with pytest.raises(AudioError):
        list(decode(path, AudioSettings()))


def test_all_nine_pairs_of_courtesy_and_closing_and_several_resolutions_are_scripted(make: dict[str, ModuleType]) -> None:
    labels = [row for row in rows("scripted_labels.csv") if row["call_id"] not in SPECIAL]
    assert {(row["courtesy"], row["closing"]) for row in labels} == set(product(LABELS["courtesy"], LABELS["closing"]))
    assert {row["resolution"] for row in rows("scripted_labels.csv")} == set(LABELS["resolution"])
    scripted = {call["id"]: call for call in make["record"].read_scripts()}
    for row in rows("scripted_labels.csv"):
        assert {name: scripted[row["call_id"]][name] for name in LABELS} == {name: row[name] for name in LABELS}
    labelled = {row["call_id"] for row in rows("scripted_labels.csv")}
    assert labelled == set(scripted) - {"rec-23-truncated"}
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    assert all(f"| {r['call_id']} | {r['courtesy']} | {r['resolution']} | {r['closing']} |" in readme for r in rows("scripted_labels.csv"))


def test_at_least_four_base_voices_speak(make: dict[str, ModuleType]) -> None:
    voices = make["record"].VOICES
    used = {call[side] for call in make["record"].read_scripts() for side in ("agent", "customer")}
    assert len({(voices[name].program, voices[name].name) for name in used}) >= 4


def test_some_calls_have_words_over_words_and_some_an_agent_on_channel_1(make: dict[str, ModuleType]) -> None:
    calls = make["record"].read_scripts()
    over = [call["id"] for call in calls if any(after is not None for after, _, _ in make["record"].lines_of(call["talk"]))]
    assert "rec-10" in over
    assert 2 <= sum(call.get("agent_channel", 0) for call in calls) < len(calls) / 2


def test_ready_transcripts_lie_beside_four_recordings_and_say_what_was_scripted(make: dict[str, ModuleType]) -> None:
    scripted = {call["id"]: call for call in make["record"].read_scripts()}
    beside = [path for path in SAMPLE.iterdir() if path.suffix in {".json", ".vtt", ".srt"} and path.stem in scripted]
    assert len(beside) == 4
    for path in beside:
        (found,) = read_transcripts(path)
        assert isinstance(found, Transcript)
        names = {"A": "agent", "C": "customer"}
        script = [(names[who], words) for _, who, words in make["record"].lines_of(scripted[path.stem]["talk"])]
        assert [(turn.speaker, turn.text) for turn in found.turns] == script
        assert all(turn.start_s is not None and turn.end_s is not None for turn in found.turns)


def test_the_tables_fit_together(history: list[Transcript]) -> None:
    assert (SAMPLE / "calls.csv").read_text(encoding="utf-8").splitlines()[0] == COLUMNS
    agents = read_agents(SAMPLE / "agents.csv")
    table = read_calls(SAMPLE / "calls.csv", agents)
    assert not table.failures
    assert set(table.by_file) == {path.name for path in SAMPLE.iterdir() if path.suffix in RECORDINGS}
    ids = [*table.rows, *(call.info.call_id for call in history)]
    assert len(ids) == len(set(ids))
    followed = {row["customer_id"] for row in rows("outcomes.csv")}
    assert len(followed) == 60
    assert {row.info.customer_id for row in table.rows.values()} <= followed
    assert {row.info.agent_id for row in table.rows.values()} | {call.info.agent_id for call in history} <= set(agents)
    assert 10 <= len(agents) <= 14
    assert len({row["team"] for row in rows("agents.csv")}) == 3
    assert sum(bool(row["trained_at"]) for row in rows("agents.csv")) == 3
    legs = defaultdict(list)
    for row in table.rows.values():
        legs[row.info.contact_id].append((row.info.leg, row.info.customer_id))
    assert sorted(legs["x-repair"])[0][1] == sorted(legs["x-repair"])[1][1]
    assert [leg for leg, _ in sorted(legs["x-repair"])] == [1, 2]


def test_history_is_long_enough_and_hides_the_labels(history: list[Transcript]) -> None:
    followed = {row["customer_id"] for row in rows("outcomes.csv")}
    assert len(history) >= 400
    assert sum(call.info.customer_id in followed for call in history) >= 300
    assert len({call.info.customer_id for call in history} - followed) >= 20
    for call in history:
        assert not call.info.covariates
        assert all((call.info.started_at, call.info.agent_id, call.info.queue, call.info.reason, call.info.contact_id, call.info.ended_by))


def test_outcomes_follow_their_rules(history: list[Transcript]) -> None:
    outcomes = read_outcomes(SAMPLE / "outcomes.csv")
    assert set(outcomes.kinds) == {"churn", "reorder", "repeat_call", "spend"}
    table = rows("outcomes.csv")
    assert {row["observed_until"] for row in table} == {"2026-07-01T00:00:00+00:00"}
    assert {row["observed_from"] for row in table} == {"2025-12-01T00:00:00+00:00"}
    per_kind = Counter((row["customer_id"], row["kind"]) for row in table)
    assert len(per_kind) == 60 * 4
    assert all(per_kind[row["customer_id"], row["kind"]] == 1 for row in table if not row["occurred_at"] or row["kind"] == "churn")
    assert all(bool(row["amount"]) == (bool(row["occurred_at"]) and row["kind"] in ("reorder", "spend")) for row in table)
    recorded = {(row["customer_id"], row["started_at"]) for row in rows("calls.csv")}
    called = {(call.info.customer_id or "", call.info.started_at.isoformat()) for call in history if call.info.started_at} | recorded
    left = {row["customer_id"]: parse_time(row["occurred_at"], where="") for row in table if row["kind"] == "churn" and row["occurred_at"]}
    assert all(datetime.fromisoformat(at) < left[who] for who, at in called if who in left)
    assert {(r["customer_id"], r["occurred_at"]) for r in table if r["kind"] == "repeat_call" and r["occurred_at"]} <= called


def test_the_tables_are_what_the_script_makes(make: dict[str, ModuleType], history: list[Transcript]) -> None:
    tables = make["tables"]
    world = tables.World(make["record"].read_scripts())
    world.run()
    assert tables.outcome_rows(world.customers[: tables.FOLLOWED]) == [list(row.values()) for row in rows("outcomes.csv")]
    assert tables.call_rows(make["record"].read_scripts(), world.callers) == [list(row.values()) for row in rows("calls.csv")]
    assert sorted(call["call_id"] for call in world.history) == sorted(call.info.call_id for call in history)


def test_it_says_that_it_is_made_up_and_stays_small() -> None:
    assert "made up" in (SAMPLE / "about.txt").read_text(encoding="utf-8")
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    assert "synthetic" in readme.splitlines()[0]
    assert all(voice in readme for voice in ("cmu_us_slt_arctic_hts", "rms", "awb", "kal16"))
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if "__pycache__" not in path.parts and path.is_file()) < 25_000_000
