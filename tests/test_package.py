"""The wheel carries all it needs: built, unpacked and used from another directory, without the checkout and without sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import ROOT

GUARD = """
import socket
def refuse(*args, **kwargs):
    raise RuntimeError("a socket was opened")
class Refused(socket.socket):
    __init__ = refuse
socket.socket, socket.create_connection, socket.getaddrinfo = Refused, refuse, refuse
import analyzer, sys
assert analyzer.__file__.startswith(sys.argv[1]), analyzer.__file__
sys.argv = ["analyzer", *sys.argv[2:]]
from analyzer.cli import main
main()
"""


def test_the_wheel_scores_a_call_from_another_directory(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = archive.namelist()
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "recordings_sample/"))]
    turns = [
        {"speaker": "agent", "text": "Good morning, you are through to billing. How can I help?"},
        {"speaker": "customer", "text": "I was charged twice for the same order and I would like it back."},
        {"speaker": "agent", "text": "I am sorry about that. I have refunded the second charge just now."},
        {"speaker": "customer", "text": "Oh that is wonderful, you have been so helpful, thank you."},
    ]
    (tmp_path / "call.json").write_text(json.dumps({"turns": turns}), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-P", "-c", GUARD, str(site), "score", "call.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["closing"]["label"] == "singing"
