"""The README stays true: its commands and its Python run, its settings are accepted, its help is the program's.

`python -m tests.test_readme` writes the help of every verb into the README anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.config import read_settings
from tests.conftest import ROOT, SAMPLE

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
VERBS = (
    "",
    "score",
    "transcribe",
    "batch",
    "link",
    "report",
    "train",
    "evaluate",
    "scorecard check",
    "store status",
    "models list",
    "models fetch",
    "models path",
    "models verify",
    "doctor",
)
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = [line.split("  #")[0] for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("make ")]


def help_of(verb: str) -> str:
    command = ["analyzer", *verb.split(), "--help"]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True).stdout.strip()


def help_section() -> str:
    parts = [f"```text\n$ analyzer {verb} --help\n{help_of(verb)}\n```\n".replace("analyzer  --help", "analyzer --help") for verb in VERBS]
    return "<details><summary>The help of every verb</summary>\n\n" + "\n".join(parts) + "\n</details>"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything the README names is there, under the README's names."""
    place = tmp_path_factory.mktemp("readme")
    (place / "recordings_sample").symlink_to(SAMPLE)
    (place / "FOLDER").mkdir()
    with (SAMPLE / "history.jsonl").open(encoding="utf-8") as file:
        lines = [next(file) for _ in range(24)]
    (place / "FOLDER" / "calls.jsonl").write_text("".join(lines), encoding="utf-8")
    (place / "calls.jsonl").write_text("".join(lines), encoding="utf-8")
    ids = [json.loads(line)["call_id"] for line in lines]
    (place / "calls.csv").write_text("call_id,queue\n" + "".join(f"{one},billing\n" for one in ids), encoding="utf-8")
    shutil.copy(SAMPLE / "outcomes.csv", place)
    shutil.copy(ROOT / "tests" / "data" / "labelled_calls.jsonl", place / "labels.jsonl")
    shutil.copy(ROOT / "analyzer" / "data" / "scorecard_example.toml", place / "scorecard.toml")
    score = [sys.executable, "-m", "analyzer", "score", "calls.jsonl", "--format", "jsonl", "-o", "scores.jsonl"]
    subprocess.run(score, cwd=place, check=True, capture_output=True)
    return place


def test_the_readme_opens_with_the_two_commands() -> None:
    assert [line.split("  #")[0].strip() for line in blocks("sh")[0].splitlines()] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"make ([a-z-]+)", TEXT)) - {"scores"}
    assert {name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()


def test_every_command_runs(place: Path) -> None:
    listed = commands()
    assert len(listed) >= 10
    for line in listed:
        done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=place, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert done.stdout.strip() or done.stderr.strip(), line


def test_every_python_block_runs(place: Path) -> None:
    for block in blocks("python"):
        done = subprocess.run([sys.executable, "-c", block], cwd=place, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_every_settings_block_is_accepted(tmp_path: Path) -> None:
    for block in blocks("toml"):
        (tmp_path / "a.toml").write_text(block, encoding="utf-8")
        assert read_settings(tmp_path / "a.toml")


def test_the_help_in_the_readme_is_the_programs() -> None:
    section = TEXT.split("<!-- help -->\n")[1].split("\n<!-- /help -->")[0]
    assert section == help_section(), "run `python -m tests.test_readme`"


def test_every_link_leads_to_a_file() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


if __name__ == "__main__":
    before, rest = TEXT.split("<!-- help -->\n")
    after = rest.split("<!-- /help -->")[1]
    README.write_text(f"{before}<!-- help -->\n{help_section()}\n<!-- /help -->{after}", encoding="utf-8")
