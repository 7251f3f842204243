"""Everything a user can get wrong, in one folder: each has its own message, and the good calls beside them are scored."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.conftest import SAMPLE, Run

TURNS = [{"speaker": "agent", "text": "Hello, how can I help?"}, {"speaker": "customer", "text": "My parcel is late."}]


def wav(path: Path, samples: np.ndarray, rate_hz: int = 8000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())


def video(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())


def cut(path: Path) -> None:
    whole = (SAMPLE / "rec-01.flac").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def as_json(obj: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(obj), encoding="utf-8")


def turns(**changes: object) -> Callable[[Path], object]:
    return as_json({"turns": [TURNS[0], TURNS[1] | changes]})


#: File name, how it is made, and a part of the message it must get.
BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("text.wav", lambda p: p.write_text("this is no sound at all\n" * 99), "is not a recording that can be decoded"),
    ("empty.wav", lambda p: p.write_bytes(b""), "is an empty file (0 bytes)"),
    ("cut.flac", cut, "truncated: "),
    ("no-samples.wav", lambda p: wav(p, np.zeros(0)), "holds no sound: 0 samples"),
    ("silent.wav", lambda p: wav(p, np.zeros(80_000)), "is silent: every sample is zero"),
    ("video.mp4", video, "is a video file"),
    ("dangling.wav", lambda p: p.symlink_to(p.parent / "nowhere.wav"), "cannot be read: No such file"),
    ("odd.xyz", lambda p: p.write_bytes(b"x"), "unknown extension '.xyz'"),
    ("missing-field.json", as_json({"turns": [{"speaker": "agent"}]}), "'text' is missing"),
    ("wrong-field.json", turns(strat_s=1.0), "unknown key 'strat_s'. Did you mean 'start_s'?"),
    ("wrong-type.json", turns(text=7), "'text' must be text, found a number"),
    ("disorder.json", as_json({"turns": [TURNS[0] | {"start_s": 9}, TURNS[1] | {"start_s": 2}]}), "turns are out of order"),
    ("stranger.json", turns(speaker="bob"), "unknown speaker 'bob'"),
    ("no-turns.json", as_json({"turns": []}), "there are no turns"),
    ("latin.json", lambda p: p.write_bytes('{"turns": [{"speaker": "agent", "text": "caf\xe9"}]}'.encode("latin-1")), "not UTF-8"),
    ("no-json.json", lambda p: p.write_text("{"), "not JSON"),
    ("no-words.vtt", lambda p: p.write_text(""), "empty"),
]
CALLS = "call_id,file\ngood,good.json\ngone,gone.wav\ntwice,a.wav\ntwice,b.wav\n"


def test_each_bad_input_has_its_own_message_and_the_batch_goes_on(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    for name, make, _ in BAD:
        make(folder / name)
    for name in ("good.json", "better.json"):
        as_json({"turns": TURNS})(folder / name)
    (folder / "calls.csv").write_text(CALLS, encoding="utf-8")
    done = run("batch", folder, "--format", "jsonl")
    assert done.returncode == 1, done.stderr
    assert [json.loads(line)["call_id"] for line in done.stdout.splitlines()] == ["better", "good"]
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    wanted = [(name, part) for name, _, part in BAD]
    wanted += [("calls.csv, line 3", "the file 'gone.wav' is not in the folder"), ("calls.csv, line 5", "'twice' stands also in calls.csv, line 4")]
    for name, part in wanted:
        assert [line for line in failed if name in line and part in line], f"{name}: {part}\n{done.stderr}"
    assert len(failed) == len(wanted)
    assert "Traceback" not in done.stderr


OUTCOMES = "customer_id,kind,occurred_at,amount,observed_until\n"
UNTIL = "2026-07-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OUTCOMES.replace("amount", "amuont"), "amuont"),
        (OUTCOMES + f"k1,reorder,31/12/2026,1,{UNTIL}\n", "31/12/2026"),
        (OUTCOMES + f"k1,reorder,2026-03-01T00:00:00,1,{UNTIL}\n", "zone"),
        (OUTCOMES + f"k1,reorder,2026-08-01T00:00:00+00:00,1,{UNTIL}\n", "observed_until"),
        (OUTCOMES + f",reorder,,,{UNTIL}\n", "customer_id"),
        (OUTCOMES, "no rows"),
    ],
)
def test_a_bad_outcomes_table_is_refused_with_its_place(run: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "outcomes.csv").write_text(text, encoding="utf-8")
    (tmp_path / "call.json").write_text(json.dumps({"call_id": "c", "turns": TURNS}), encoding="utf-8")
    scores = tmp_path / "scores.jsonl"
    assert run("score", "call.json", "--format", "jsonl", "-o", scores).returncode == 0
    done = run("link", "outcomes.csv", "--scores", scores)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert "outcomes.csv" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["score", "nothing.wav"], 1, "nothing.wav: does not exist"),
        (["score", "call.json", "--model", "no-such-model"], 2, "'no-such-model' is not a model directory"),
        (["score", "call.json", "--model", "half"], 2, "is missing"),
        (["score", "call.json", "--config", "none.toml"], 2, "no such settings file"),
        (["score", "call.wav", "--asr", "shouting"], 2, "there is no speech engine 'shouting'"),
        (["score", "call.json", "--format", "xml"], 2, "'xml'"),
        (["batch", "call.json"], 2, "not a folder"),
        (["link", "none.csv"], 2, "there is no store"),
        (["store", "status"], 2, "there is no store"),
        (["report", "--store", "sqlite:///newer.db"], 2, "written by a newer analyzer"),
        (["transcribe", "call.json", "--format", "csv"], 2, "a transcript is no table"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_wrong_command_says_what_to_do(run: Run, tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    import sqlite3

    from analyzer.store import Store

    (tmp_path / "call.json").write_text(json.dumps({"turns": TURNS}), encoding="utf-8")
    wav(tmp_path / "call.wav", np.ones(8000))
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    Store(f"sqlite:///{tmp_path}/newer.db").__exit__()
    with sqlite3.connect(tmp_path / "newer.db") as db:
        db.execute("UPDATE about SET value = '99' WHERE key = 'version'")
    done = run(*arguments)
    assert done.returncode == status, done
    assert message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_recording_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.audio import survey
    from analyzer.config import AudioSettings
    from analyzer.errors import AudioError

    def refuse(*_: object, **__: object) -> None:  # root reads whatever its mode says, so the refusal is made here
        raise PermissionError(13, "Permission denied")

    wav(tmp_path / "locked.wav", np.ones(8000))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match=r"locked\.wav: cannot be read: Permission denied\. Check the path and its permissions"):
        survey(tmp_path / "locked.wav", AudioSettings())
