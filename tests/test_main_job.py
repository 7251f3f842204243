"""The main job as a user does it: a folder in, scores in the store, links and a report out, and a kill on the way."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SAMPLE, Run

KEPT = ("rec-01.flac", "rec-02.wav", "rec-02.json", "rec-22-hold-music.wav", "rec-23-truncated.wav", "outcomes.csv", "agents.csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small part of the sample: two recordings (one with its transcript), hold music, a broken file, 60 earlier calls."""
    folder = tmp_path / "calls"
    folder.mkdir()
    for name in KEPT:
        shutil.copy(SAMPLE / name, folder)
    with (SAMPLE / "history.jsonl").open(encoding="utf-8") as file:
        (folder / "history.jsonl").write_text("".join(line for line, _ in zip(file, range(60), strict=False)), encoding="utf-8")
    with (SAMPLE / "calls.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "calls.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row for row in rows if row["file"] in KEPT)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_whole_job_and_again_without_doing_anything_twice(run: Run, folder: Path, tmp_path: Path) -> None:
    before = digests(folder)
    job = (
        "batch",
        folder,
        "--outcomes",
        folder / "outcomes.csv",
        "--window-days",
        30,
        "--report",
        "report.html",
        "--asr",
        "auto",
        "--format",
        "jsonl",
    )
    first = run(*job)
    assert first.returncode == 1, first.stderr  # the broken file
    scores = {one["call_id"]: one for one in map(json.loads, first.stdout.splitlines())}
    assert len(scores) == 63
    assert "63 calls scored" in first.stderr
    assert "truncated" in first.stderr
    music = next(one for call_id, one in scores.items() if "22" in call_id)
    assert {music[name]["label"] for name in ("courtesy", "resolution", "closing")} == {None}
    spoken = next(one for one in scores.values() if one["asr"].startswith("pocketsphinx") and one["closing"]["evidence"])
    assert spoken["closing"]["evidence"][0]["quote"]
    assert spoken["closing"]["evidence"][0]["start_s"] > 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("rec-01") >= 1

    again = run(*job)
    assert "0 calls scored" in again.stderr
    assert "63 were in the store already" in again.stderr
    assert again.stdout == first.stdout
    assert digests(folder) == before


def test_killed_on_the_way_it_goes_on_and_does_every_call_once(run: Run, folder: Path, tmp_path: Path) -> None:
    before = digests(folder)
    undisturbed = run("batch", folder, "--store", f"sqlite:///{tmp_path}/calm.db", "--format", "jsonl")
    command = [sys.executable, "-m", "analyzer", "batch", str(folder), "--store", f"sqlite:///{tmp_path}/killed.db"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while calls(tmp_path / "killed.db") < 20 and process.poll() is None:
        os.sched_yield()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = calls(tmp_path / "killed.db")
    assert 20 <= done < 63
    resumed = run("batch", folder, "--store", f"sqlite:///{tmp_path}/killed.db", "--format", "jsonl")
    assert f"{done} were in the store already" in resumed.stderr
    assert resumed.stdout == undisturbed.stdout
    assert calls(tmp_path / "killed.db") == 63
    assert digests(folder) == before


def calls(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(path, timeout=30) as db:
            return int(db.execute("SELECT count(*) FROM calls JOIN scores USING (transcript_key)").fetchone()[0])
    except sqlite3.OperationalError:  # the tables are not made yet
        return 0


def test_two_processes_give_the_same_scores_as_one(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "rec-01.flac").unlink()
    one = run("batch", folder, "--store", f"sqlite:///{tmp_path}/one.db", "--format", "jsonl")
    two = run("batch", folder, "--store", f"sqlite:///{tmp_path}/two.db", "--format", "jsonl", "-j", 2)
    assert one.stdout == two.stdout
    assert len(one.stdout.splitlines()) == 62


def test_planted_numbers_reach_no_file(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    said = "my card number is four one one one one one one one one one one one one one one one and my mail is jo dot bloggs at example dot com"
    turns = [{"speaker": "agent", "text": "Can I take the long number on your card please?"}, {"speaker": "customer", "text": said}]
    (folder / "call.json").write_text(json.dumps({"turns": turns}), encoding="utf-8")
    done = run("batch", folder, "--report", "report.html", "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != folder]
    assert {path.name for path in written} >= {"analyzer.db", "report.html"}
    for text in [done.stdout, done.stderr, *(path.read_bytes().decode("utf-8", "replace") for path in written)]:
        assert "one one one" not in text
        assert "bloggs" not in text
    assert json.loads(done.stdout)["redacted"]["card"] == 1
