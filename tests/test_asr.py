"""Which speech engine is taken and why; what an engine that cannot run says; pocketsphinx end to end on sound without words."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from analyzer import asr
from analyzer.asr import on_disk
from analyzer.asr.guards import invented
from analyzer.audio import Segment
from analyzer.errors import EngineError


@pytest.fixture(autouse=True)
def _empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def cache_faster(root: Path, size: str) -> Path:
    folder = root / "hub" / f"models--Systran--faster-whisper-{size}" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (folder / name).write_bytes(b"{}")
    return folder


def test_auto_without_a_whisper_is_pocketsphinx_and_says_how_to_get_one() -> None:
    resolved = asr.resolve("auto")
    assert resolved.transcriber.stamp.startswith("pocketsphinx:")
    assert "analyzer models fetch whisper:small.en" in resolved.why
    assert "demonstration" in (resolved.transcriber.notice or "")
    hush = Segment(channel=1, start_s=5.0, samples=np.zeros(16_000, dtype=np.float32))
    assert list(resolved.transcriber.transcribe([hush], language="en")) == []
    with pytest.raises(EngineError, match="English only"):
        list(resolved.transcriber.transcribe([hush], language="de"))


def test_best_whisper_is_the_larger_one_that_knows_the_language(tmp_path: Path) -> None:
    cache_faster(tmp_path, "base.en")
    cache_faster(tmp_path, "tiny")
    pt = tmp_path / "cache" / "whisper" / "small.en.pt"
    pt.parent.mkdir(parents=True)
    pt.write_bytes(b"")
    assert on_disk.best_whisper("en") == ("openai-whisper", "small.en")
    assert on_disk.best_whisper("de") == ("whisper", "tiny")
    pt.unlink()
    assert on_disk.best_whisper("en") == ("whisper", "base.en")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nope", "no speech engine"),
        ("whisper:", "no speech engine"),
        ("pocketsphinx:x", "no speech engine"),
        ("whisper", "analyzer models fetch"),
        ("whisper:/no/such/folder", "Known names"),
        ("openai-whisper:/no/such.pt", "Known names"),
    ],
)
def test_a_wrong_spec_says_what_to_do(spec: str, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        asr.resolve(spec)


def test_an_incomplete_folder_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineError, match=r"model\.bin, tokenizer\.json missing"):
        asr.resolve(f"whisper:{tmp_path}")


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"dims": _Touch(trap), "model_state_dict": {}}, protocol=2))
    with pytest.raises(EngineError, match="not a Whisper checkpoint"):
        asr.resolve(f"openai-whisper:{tmp_path / 'evil.pt'}")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("figures", "expected"),
    [((0.9, -1.5, 1.2), True), ((0.9, -0.2, 1.2), False), ((0.1, -1.5, 1.2), False), ((0.0, -0.1, 3.0), True), ((0.0, -0.1, 2.4), False)],
)
def test_inventions_are_told_from_speech(figures: tuple[float, float, float], expected: bool) -> None:
    assert invented(*figures) is expected
