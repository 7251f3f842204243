"""Write models/roles/roles.json: the words that tell agent from customer, as a logistic regression over one- and two-word features.

    python benchmarks/train_roles.py TRAIN.jsonl DEV.jsonl

Trained on each side of the calls, whole and cut short, clean and with simulated recognition errors, so that its confidence
knows how little a few garbled words say. Who speaks first is nowhere in it. Measured on the calls of DEV, which it never sees.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from analyzer.speakers import role_tokens, tell_agent

TARGET = Path(__file__).resolve().parents[1] / "models" / "roles"
SEED = 7
FEATURES = 4000


def read(path: Path) -> list[dict[str, list[str]]]:
    """Per call the turns of each side."""
    calls = []
    for line in path.read_text(encoding="utf-8").splitlines():
        turns = json.loads(line)["turns"]
        calls.append({side: [turn["text"] for turn in turns if turn["speaker"] == side] for side in ("agent", "customer")})
    return calls


def garble(text: str, rate: float, words: list[str], rng: random.Random) -> str:
    """Recognition errors: of the words wrong, six in ten are replaced, three dropped, one has another before it."""
    out = []
    for token in role_tokens(text):
        if rng.random() >= rate:
            out.append(token)
            continue
        kind = rng.random()
        if kind < 0.6:
            out.append(rng.choice(words))
        elif kind > 0.9:
            out += [rng.choice(words), token]
    return " ".join(out)


def sides(calls: list[dict[str, list[str]]], words: list[str], rng: random.Random) -> tuple[list[str], list[int]]:
    """Training rows: both sides of each call, five times over: whole and cut, clean and garbled."""
    texts, labels = [], []
    for call in calls:
        for rate, whole in ((0.0, True), (0.0, False), (0.15, True), (0.3, False), (0.5, False)):
            for label, side in ((1, "agent"), (0, "customer")):
                turns = call[side]
                if not whole:
                    length = rng.randint(1, len(turns))
                    begin = rng.randint(0, len(turns) - length)
                    turns = turns[begin : begin + length]
                texts.append(garble(" ".join(turns), rate, words, rng))
                labels.append(label)
    return texts, labels


def fit(calls: list[dict[str, list[str]]], rng: random.Random) -> dict[str, object]:
    words = [token for call in calls for turns in call.values() for text in turns for token in role_tokens(text)]
    texts, labels = sides(calls, words, rng)
    counter = CountVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False, ngram_range=(1, 2), min_df=25, max_features=FEATURES)
    matrix = counter.fit_transform(texts).astype(np.float64)
    matrix.data = np.log1p(matrix.data)
    model = LogisticRegression(C=0.1, max_iter=2000).fit(matrix, labels)
    names = counter.get_feature_names_out()
    weights = {str(name): round(float(weight), 4) for name, weight in zip(names, model.coef_[0], strict=True) if abs(weight) >= 5e-4}
    return {"bias": round(float(model.intercept_[0]), 4), "weights": dict(sorted(weights.items()))}


def measure(calls: list[dict[str, list[str]]], rate: float, turns: int | None, words: list[str]) -> str:
    """Accuracy over two sides, and how far the stated confidence is from it (expected calibration error, 10 bins)."""
    rng = random.Random(SEED + 1)
    right, sure = [], []
    for call in calls:
        agent = rng.randint(0, 1)  # which channel is the agent must not matter
        texts = {agent: "agent", 1 - agent: "customer"}
        told, confidence = tell_agent({channel: garble(" ".join(call[side][:turns]), rate, words, rng) for channel, side in texts.items()})
        right.append(told == agent)
        sure.append(confidence)
    hits, confidences = np.array(right), np.array(sure)
    bins = np.minimum((confidences * 10).astype(int), 9)
    error = sum(abs(hits[bins == b].mean() - confidences[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))
    return f"| {rate:.0%} | {turns or 'all'} | {hits.mean():.3f} | {confidences.mean():.3f} | {error:.3f} |"


def main() -> None:
    train, dev = read(Path(sys.argv[1])), read(Path(sys.argv[2]))
    model = fit(train, random.Random(SEED))
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "roles.json").write_text(json.dumps(model, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    words = list(Counter(t for call in train for turns in call.values() for text in turns for t in role_tokens(text)).elements())
    print(f"{len(model['weights'])} features; {len(train)} calls to train, {len(dev)} to measure")  # type: ignore[arg-type]
    print("| words wrong | turns a side | accuracy | mean confidence | calibration error |\n|---|---|---|---|---|")
    for rate in (0.0, 0.2, 0.4, 0.7):
        for turns in (None, 4, 2, 1):
            print(measure(dev, rate, turns, words))


if __name__ == "__main__":
    main()
