"""What the tests share: the models loaded once, and the command line run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analyzer.model import ConversationModel, load_model

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "recordings_sample"
Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Two workers of the test run share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def default_model() -> ConversationModel:
    return load_model("default")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run("score", "x.json")`: the installed command, in a folder of its own, without a terminal."""

    def call(*arguments: object, stdin: str | None = None, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "analyzer", *map(str, arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=cwd, check=False, timeout=300)

    return call
