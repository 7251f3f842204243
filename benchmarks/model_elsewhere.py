"""Measures a model on talk from elsewhere: helpdesk dialogues, telephone-operator calls, role-played tasks. Nothing here is trained on.

    python benchmarks/model_elsewhere.py FOLDER [--model default]

FOLDER holds STC3.valid.jsonl.xz, BT_dev.jsonl.xz and STAR.valid.jsonl.xz (whichever are there).
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from analyzer.model import ConversationModel, Reading, load_model
from analyzer.records import CallInfo, Transcript, Turn


def conversations(path: Path) -> list[dict[str, Any]]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read(model: ConversationModel, rows: list[dict[str, Any]]) -> list[Reading]:
    names = {"other": "unknown"}
    return model.read(
        [
            Transcript(
                info=CallInfo(call_id=row["id"]),
                turns=tuple(Turn(speaker=names.get(turn["speaker"], turn["speaker"]), text=turn["text"]) for turn in row["turns"]),
            )
            for row in rows
        ]
    )


def done(reading: Reading) -> float:
    """How likely the need was met, given that it can be told."""
    p = reading.probabilities["resolution"]
    return p["resolved"] / (1 - p["unclear"] + 1e-9)


def mood(reading: Reading) -> float:
    p = reading.probabilities["closing"]
    return p["singing"] - p["grumbling"]


def auc(name: str, truth: list[bool], scores: list[float]) -> None:
    print(f"{name}: AUC {roc_auc_score(truth, scores):.3f} ({len(truth)} conversations, {np.mean(truth):.0%} yes)")


def helpdesk(model: ConversationModel, rows: list[dict[str, Any]]) -> None:
    readings = read(model, rows)
    for name, key, score in (("STC3 task done", "A_mean", done), ("STC3 satisfaction from closing", "S_mean", mood)):
        pairs = [(row["labels"][key] > 0, score(reading)) for row, reading in zip(rows, readings, strict=True) if abs(row["labels"][key]) >= 0.3]
        auc(name, [yes for yes, _ in pairs], [value for _, value in pairs])


def operator(model: ConversationModel, rows: list[dict[str, Any]]) -> None:
    readings = read(model, rows)
    best = [{name: max(p, key=lambda label, p=p: p[label]) for name, p in reading.probabilities.items()} for reading in readings]
    rude = [one["courtesy"] == "discourteous" for one, row in zip(best, rows, strict=True) if row["labels"]["courtesy"] != "discourteous"]
    routine = [one["closing"] for one, row in zip(best, rows, strict=True) if row["labels"]["closing"] == "neutral"]
    print(f"BT called discourteous falsely: {np.mean(rude):.1%} of {len(rude)}")
    print(f"BT routine closings called grumbling or singing: {np.mean([label != 'neutral' for label in routine]):.1%} of {len(routine)}")
    for name in ("courtesy", "resolution", "closing"):
        right = [one[name] == row["labels"][name] for one, row in zip(best, rows, strict=True)]
        answered = np.mean([name not in reading.abstain for reading in readings])
        print(f"BT {name} right: {np.mean(right):.1%}, answered {answered:.1%}")


def role_play(model: ConversationModel, rows: list[dict[str, Any]]) -> None:
    readings = read(model, rows)
    finished: list[tuple[bool, float]] = []
    annoyed: list[tuple[bool, float]] = []
    for row, reading in zip(rows, readings, strict=True):
        asked = row["labels"]["user_questionnaire"]
        tasks = [yes for question, yes in asked.items() if question.startswith("Did the AI Assistant") and "calm" not in question]
        moods = [yes for question, yes in row["labels"]["wizard_questionnaire"].items() if "annoyed" in question]
        if tasks:
            finished.append((all(tasks), done(reading)))
        if moods:
            annoyed.append((moods[0], -mood(reading)))
    auc("STAR task done", *map(list, zip(*finished, strict=True)))  # type: ignore[arg-type]
    auc("STAR user annoyed", *map(list, zip(*annoyed, strict=True)))  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="default")
    given = parser.parse_args()
    model = load_model(given.model)
    print(model.stamp)
    for name, measure in (("STC3.valid", helpdesk), ("BT_dev", operator), ("STAR.valid", role_play)):
        path = given.folder / f"{name}.jsonl.xz"
        if path.is_file():
            measure(model, conversations(path))


if __name__ == "__main__":
    main()
