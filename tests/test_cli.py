"""The command line as scripts and people use it: formats, streams, exit status, and nothing that moves a terminal."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from analyzer.cli import show
from tests.conftest import ROOT, Run

CALL = {
    "call_id": "c-1",
    "queue": "billing",
    "turns": [
        {"speaker": "agent", "text": "Good morning, billing, how can I help you today?"},
        {"speaker": "customer", "text": "You charged me twice for the same order."},
        {"speaker": "agent", "text": "I am so sorry, that must be annoying. I have refunded it just now, and I will watch the next bill myself."},
        {"speaker": "customer", "text": "Oh that is wonderful, thank you so much, you have been so helpful."},
    ],
}


def test_one_call_from_a_file_and_from_stdin_are_alike(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(CALL), encoding="utf-8")
    from_file, from_stdin = run("score", "x.json"), run("score", "-", stdin=json.dumps(CALL))
    assert (from_file.returncode, from_stdin.returncode) == (0, 0)
    assert from_file.stdout == from_stdin.stdout
    one = json.loads(from_file.stdout)
    assert (one["schema"], one["call_id"], one["queue"], one["closing"]["label"]) == (1, "c-1", "billing", "singing")
    assert one["closing"]["evidence"][0]["quote"] in CALL["turns"][3]["text"]  # type: ignore[index]


def test_many_calls_one_a_line_and_the_bad_line_named(run: Run, tmp_path: Path) -> None:
    lines = [json.dumps(CALL | {"call_id": f"c-{n}"}) for n in range(3)]
    (tmp_path / "many.jsonl").write_text("\n".join([lines[0], "{", *lines[1:]]), encoding="utf-8")
    done = run("score", "many.jsonl", "--format", "jsonl")
    assert done.returncode == 1
    assert [json.loads(line)["call_id"] for line in done.stdout.splitlines()] == ["c-0", "c-1", "c-2"]
    assert "many.jsonl" in done.stderr
    assert "line 2" in done.stderr


def test_a_spreadsheet_runs_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(CALL | {"queue": "=cmd|' /C calc'!A0", "+bad": "-1+1"}), encoding="utf-8")
    done = run("score", "x.json", "--format", "csv", "-o", "out.csv")
    assert (done.returncode, done.stdout) == (0, "")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8")))
    assert row["queue"].startswith("'=")
    assert row["'+bad"] == "'-1+1"
    assert row["closing"] == "singing"
    assert abs(sum(float(value) for name, value in row.items() if name.startswith("closing_p_")) - 1) < 1e-6


def test_names_move_no_terminal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(CALL | {"call_id": "c\x1b[2J\x1b]0;owned\x07\u202e"}), encoding="utf-8")
    for done in (run("score", "x.json", "--format", "table"), run("score", "gone\x1b[31m.wav")):
        assert "\x1b" not in done.stdout + done.stderr
        assert "\x07" not in done.stdout + done.stderr
        assert "\u202e" not in done.stdout + done.stderr


def test_the_transcript_is_printed_redacted(run: Run, tmp_path: Path) -> None:
    turns = [{"speaker": "customer", "text": "my card is four one one one one one one one one one one one one one one one"}]
    (tmp_path / "x.json").write_text(json.dumps({"turns": turns}), encoding="utf-8")
    done = run("transcribe", "x.json", "--format", "table")
    assert done.returncode == 0, done.stderr
    assert "[CARD]" in done.stdout
    assert "one one" not in done.stdout


def test_linking_scores_of_a_file(run: Run, tmp_path: Path) -> None:
    scored = run("score", "-", "--format", "json", stdin=json.dumps(CALL))
    one = json.loads(scored.stdout)
    lines = []
    for number in range(40):
        closing = {"label": "singing", "probabilities": {"grumbling": 0.0, "neutral": 0.0, "singing": 1.0}, "abstained": False, "evidence": []}
        if number % 2:
            closing |= {"label": "grumbling", "probabilities": {"grumbling": 1.0, "neutral": 0.0, "singing": 0.0}}
        own = {"call_id": f"c{number}", "customer_id": f"k{number}", "agent_id": f"a{number % 7}", "started_at": "2026-03-02T10:15:00+00:00"}
        lines.append(json.dumps(one | own | {"closing": closing}))
    (tmp_path / "scores.jsonl").write_text("\n".join(lines), encoding="utf-8")
    events = ["customer_id,kind,occurred_at,amount,observed_until"]
    events += [f"k{n},reorder,{'2026-03-09T00:00:00+00:00' if n % 4 == 0 else ''},,2026-09-01T00:00:00+00:00" for n in range(40)]
    (tmp_path / "outcomes.csv").write_text("\n".join(events), encoding="utf-8")
    done = run("link", "outcomes.csv", "--scores", "scores.jsonl", "--window-days", 30, "--format", "json")
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert out["join"]["linked"] == 40
    closing_effect = next(effect for effect in out["effects"] if effect["dimension"] == "closing")
    assert closing_effect["contrast"] == "grumbling - singing"
    assert closing_effect["n_events"] == 10
    assert closing_effect["sentence"]
    assert closing_effect["estimate"] is None  # no event at all among the grumbling: no number is made up
    refused = run("link", "outcomes.csv", "--scores", "scores.jsonl", "--adjust", "resolution")
    assert refused.returncode == 2
    assert "resolution" in refused.stderr


def test_models_and_doctor_say_what_is_here(run: Run, tmp_path: Path) -> None:
    listed = {row["name"]: row for row in json.loads(run("models", "list").stdout)}
    assert {"default", "pocketsphinx"} <= set(listed)
    assert run("models", "path", "default").stdout.strip() == str(ROOT / "models" / "default")
    assert "complete and unaltered" in run("models", "verify").stdout
    assert "not on this disk" in run("models", "path", "whisper:tiny.en").stderr
    doctor = run("doctor", "--format", "json")
    assert doctor.returncode == 0, doctor.stdout
    assert {row["state"] for row in json.loads(doctor.stdout)} == {"ok"}
    assert list(tmp_path.iterdir()) == []


def test_cells_that_are_formulas_get_an_apostrophe() -> None:
    text = show.rows_csv([{"a": "=1+1", "b": "plain", "c": -1.5}, {"a": "@x", "d": None}])
    assert text == "a,b,c,d\n'=1+1,plain,-1.5,\n'@x,,,\n"
