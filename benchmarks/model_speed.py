"""Load time and time per call of the conversation model on transcripts of a labels file; one thread unless told otherwise.

python benchmarks/model_speed.py LABELS [--threads 1]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from analyzer.evaluation import read_labels
from analyzer.model import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    calls = [call.transcript for call in read_labels(given.labels)]
    wall, cpu = time.perf_counter(), time.process_time()
    model = load_model()
    print(f"load: {time.perf_counter() - wall:.2f} s wall, {time.process_time() - cpu:.2f} s CPU")
    model.read(calls[:1])
    wall, cpu = time.perf_counter(), time.process_time()
    model.read(calls)
    turns = sum(len(call.turns) for call in calls)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"read: {len(calls)} calls, {turns} turns: {1000 * wall / len(calls):.0f} ms wall, {1000 * cpu / len(calls):.0f} ms CPU a call")


if __name__ == "__main__":
    main()
