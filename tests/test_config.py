"""Settings: one file is the whole truth of a run, and a slip in it is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.config import Settings, digest, read_settings
from analyzer.errors import ConfigError

WRONG = [
    ("stroe = 'x'", "unknown key 'stroe'. Did you mean 'store'"),
    ("[outcomes]\nwindow = 3", "unknown key 'window'"),
    ("[outcomes]\nwindow_days = 'x'", "must be int, found str"),
    ("[outcomes]\nwindow_days = 0", "outcomes.window_days is 0"),
    ("[outcomes]\nadjust = 'queue'", "must be a list of text"),
    ("outcomes = 3", "must be a section"),
    ("[redaction]\nlevel = 'some'", "redaction level 'some' is unknown"),
    ("[audio", "cannot be read"),
    ("[audio]\nmax_duration_s = true", "must be float, found bool"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_settings_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_settings(tmp_path / "a.toml")


def test_a_missing_file_is_an_error_and_no_file_is_the_defaults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such settings file"):
        read_settings(tmp_path / "none.toml")
    assert read_settings(None) == Settings()


def test_values_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("store = 'sqlite:///x.db'\n[outcomes]\nadjust = ['queue']\n[audio]\nmax_duration_s = 60\n", encoding="utf-8")
    read = read_settings(tmp_path / "a.toml")
    assert (read.store, read.outcomes.adjust, read.audio.max_duration_s) == ("sqlite:///x.db", ("queue",), 60.0)


def test_the_digest_tells_settings_apart(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[redaction]\nlevel = 'strict'\n")
    assert digest(Settings()) == digest(Settings())
    assert digest(Settings()) != digest(read_settings(tmp_path / "a.toml"))
