"""Labelled calls to a model directory: split, fit, write, measure beside the base, and have the card say what came of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analyzer.card import Provenance, Source, TrainingReport, calibration, compare, slices, write_card
from analyzer.config import digest
from analyzer.errors import ModelError, TableError, UsageError
from analyzer.evaluation import Prediction, evaluate
from analyzer.labels import LabelledCall, read_labels
from analyzer.model import CONFIG, FILES, SCHEMA, check_model, contents_digest, find_model, load_model
from analyzer.records import CAUSES, DIMENSIONS, LABELS

if TYPE_CHECKING:
    from analyzer.examples import Example, Phrase
    from analyzer.fitting import Fitted, Schedule
    from analyzer.model import ConversationModel
    from analyzer.network import Encoder, Heads

_ENCODER_FILES: Final = ("encoder.safetensors", "tokenizer.json")
_MIN_CALLS: Final = 20
_SETTLING_EPOCHS: Final = 8
#: Lent calls of this weight and more were labelled by raters; lighter ones say roughly what happened.
_DECIDED: Final = 0.5
#: So many of the encoder's layers are run once more over the whole call.
_LISTENING: Final = 2
#: Share of words misheard or lost in each further wording of a call.
_ERRORS: Final = (0.06, 0.18)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How to train. `base` is the model whose encoder (and, unless `fresh`, heads) training starts from.

    `hold_share` of the calls stop and calibrate the training, `measure_share` measure it (none when a file to measure on is given); both are drawn by
    customer where one is given, else by contact, else by call.
    """

    base: str = "default"
    fresh: bool = False
    seed: int = 0
    epochs: int = 40
    patience: int = 6
    learning_rate: float = 1e-3
    #: So many of the encoder's upper layers learn with the heads; 0 leaves the encoder as it is, which is quick and right for a few hundred calls.
    tuned_layers: int = 0
    batch: int = 16
    hidden: int = 128
    hold_share: float = 0.15
    measure_share: float = 0.15
    #: Further wordings per call: lower case, no punctuation, dropped words, placeholders for names and numbers.
    wordings: int = 1
    own: Source = field(default_factory=lambda: Source(name="the labelled calls given", licence="not stated", calls=0, use="all questions"))
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """What else to learn from than the labelled calls: calls of less weight or of looser labels, and single utterances whose tone people judged."""

    calls: Sequence[Example] = ()
    phrases: Sequence[Phrase] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Which calls serve for what; `apart` where those that measure stood in a file of their own."""

    learn: Sequence[LabelledCall]
    hold: Sequence[LabelledCall]
    measure: Sequence[LabelledCall]
    apart: bool

    @property
    def counts(self) -> dict[str, int]:
        return {"learn": len(self.learn), "hold": len(self.hold), "measure": len(self.measure)}


def train(
    labels: Path,
    out: Path,
    options: TrainingOptions | None = None,
    *,
    measure: Path | None = None,
    lent: Lent | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> TrainingReport:
    """Train from a labels file (see `labels.read_labels`) and write a complete model directory with its card.

    `measure` is a second labels file, kept out of training, to measure on. A base that answers questions (that has heads) is measured on the same
    calls, so that the report says what became better. `lent` is learnt from beside the labelled calls. `progress(epoch, epochs, held_out_loss)` is
    called after each epoch. The same seed on the same machine gives the same model. A run that was broken off left `OUT.unfinished.safetensors`
    beside the directory; called again with the same data and options it goes on from its last epoch.

    Raises:
        TableError: the labels cannot be read, are too few, or lack a question that the base model cannot answer either.
        ModelError: the base model is not usable.
        UsageError: the output directory holds something else.
    """
    chosen, lent = options or TrainingOptions(), lent or Lent()
    parts = _parts(labels, measure, chosen)
    if out.exists() and any(out.iterdir()) and not (out / CONFIG).is_file():
        raise UsageError("the folder is not empty and holds no model", where=str(out), do="Give a new folder.")
    base = find_model(chosen.base)
    old = load_model(str(base)) if _has_heads(base) else None
    kept = out.with_name(f"{out.name}.unfinished.safetensors")
    kept.parent.mkdir(parents=True, exist_ok=True)
    schedule = _schedule(chosen, kept, run=_identity(labels, base, chosen, lent))
    fitted, config = _fit(base, parts, lent, chosen, schedule, progress=progress)
    # Measured before anything is written: a model may be trained on in its own place.
    before = None if old is None else _predictions(old, parts.measure, fitted.mix)
    about = {"encoder_name": config["encoder_name"], "base": base.name, "seed": chosen.seed, "calls": parts.counts}
    write_model(out, base, config["encoder"], fitted, about=about)
    new = load_model(str(out))
    after = _predictions(new, parts.measure)
    report = TrainingReport(
        directory=out,
        stamp=new.stamp,
        base=None if old is None else old.stamp,
        epochs=fitted.epochs,
        calls=parts.counts,
        agreement=evaluate(parts.measure, after, seed=chosen.seed),
        changes={} if before is None else compare(parts.measure, before, after, seed=chosen.seed),
        calibration=calibration(parts.measure, after),
        slices=slices(parts.measure, after),
    )
    write_card(report, _provenance(parts, chosen, lent))
    kept.unlink(missing_ok=True)
    return report


def _parts(labels: Path, measure: Path | None, options: TrainingOptions) -> _Parts:
    calls = read_labels(labels)
    if len(calls) < _MIN_CALLS:
        raise TableError(f"{len(calls)} labelled calls are too few to train on", where=str(labels), do=f"Label at least {_MIN_CALLS} calls.")
    measured = read_labels(measure) if measure is not None else ()
    learn, hold, drawn = _split(calls, (options.hold_share, 0.0 if measured else options.measure_share), options.seed)
    return _Parts(learn=learn, hold=hold, measure=measured or drawn, apart=bool(measured))


def _identity(labels: Path, base: Path, options: TrainingOptions, lent: Lent) -> str:
    """What a run that was broken off must share with one that takes it up."""
    data = hashlib.sha256(labels.read_bytes()).hexdigest()
    return digest(data, contents_digest(base), dataclasses.replace(options, base=""), [len(lent.calls), len(lent.phrases)])


def _schedule(options: TrainingOptions, keep: Path, *, run: str) -> Schedule:
    from analyzer.fitting import Schedule

    return Schedule(
        epochs=options.epochs,
        patience=options.patience,
        batch=options.batch,
        learning_rate=options.learning_rate,
        tuned_layers=options.tuned_layers,
        seed=options.seed,
        keep=keep,
        run=run,
    )


def _predictions(
    model: ConversationModel, calls: Sequence[LabelledCall], mix: Mapping[str, Mapping[str, float]] | None = None
) -> list[dict[str, Prediction]]:
    """What a model answers; with the `mix` of labels that another one learnt from, as if its own calls had been mixed so."""
    shares = {label: share for held in (mix or {}).values() for label, share in held.items() if label != "neutral"}  # neutral has the rest
    return [
        {
            name: Prediction(probabilities=reading.probabilities[name], abstained=name in reading.abstain, evidence=_heaviest(reading.weights[name]))
            for name in DIMENSIONS
        }
        for reading in model.read([call.transcript for call in calls], shares=shares)
    ]


def _provenance(parts: _Parts, options: TrainingOptions, lent: Lent) -> Provenance:
    own = sum(parts.counts.values()) - (len(parts.measure) if parts.apart else 0)
    return Provenance(
        sources=(dataclasses.replace(options.own, calls=own), *options.sources),
        lent=len(lent.calls),
        phrases=len(lent.phrases),
        tuned_layers=options.tuned_layers,
        seed=options.seed,
        measured_apart=parts.apart,
    )


def _heaviest(weights: Sequence[float]) -> tuple[int, ...]:
    return tuple(sorted((n for n, weight in enumerate(weights) if weight > 0), key=lambda n: -weights[n]))


def export_encoder(source: Path, out: Path, *, name: str) -> None:
    """Write the encoder of a sentence-transformers directory (BERT class, mean pooling) as a base to train from, in half precision.

    Raises:
        ModelError: a file is missing.
    """
    import torch
    from safetensors.torch import load_file, save_file

    for needed in ("model.safetensors", "tokenizer.json", "config.json"):
        if not (source / needed).is_file():
            raise ModelError(
                f"{needed} is missing", where=str(source), do="Give the folder of a sentence-transformers model with safetensors weights."
            )
    out.mkdir(parents=True, exist_ok=True)
    weights = load_file(source / "model.safetensors")
    kept = {
        key: value.to(torch.float16).contiguous()
        for key, value in weights.items()
        if not key.startswith("pooler") and key != "embeddings.position_ids"
    }
    save_file(kept, out / "encoder.safetensors")
    (out / "encoder.safetensors").chmod(0o644)
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8")) | {"truncation": None, "padding": None}
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    given = json.loads((source / "config.json").read_text(encoding="utf-8"))
    dropped = {"_name_or_path", "architectures", "transformers_version", "gradient_checkpointing", "use_cache", "position_embedding_type"}
    bert = {key: value for key, value in given.items() if key not in dropped}
    _write_config(out, {"schema": SCHEMA, "encoder": bert, "encoder_name": name}, _ENCODER_FILES)


def write_model(directory: Path, base: Path, bert: Mapping[str, Any], fitted: Fitted, *, about: Mapping[str, Any]) -> None:
    """Write a model directory: tokenizer copied from `base`, encoder and heads in half precision, `config.json` with every file's digest last."""
    import torch
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    if (base / "tokenizer.json").resolve() != (directory / "tokenizer.json").resolve():
        shutil.copyfile(base / "tokenizer.json", directory / "tokenizer.json")
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in fitted.heads.state_dict().items()}
    save_file(weights, directory / "heads.safetensors")
    tuned = {name: tensor.to(torch.float16).contiguous() for name, tensor in fitted.encoder.state_dict().items()}
    save_file(tuned, directory / "encoder.safetensors")
    for name in ("heads.safetensors", "encoder.safetensors"):
        (directory / name).chmod(0o644)  # safetensors writes files that only their owner can read
    config = {
        "schema": SCHEMA,
        "encoder": dict(bert),
        "hidden": fitted.heads.cause.in_features // 2,
        "listening": len(fitted.heads.listener.layers),
        "temperature": dict(fitted.temperature),
        "mix": {question: dict(shares) for question, shares in fitted.mix.items()},
        "min_similarity": round(fitted.min_similarity, 4),
        **about,
    }
    _write_config(directory, config, FILES)


def _write_config(directory: Path, config: Mapping[str, Any], names: Iterable[str]) -> None:
    files = {
        name: {"bytes": (directory / name).stat().st_size, "sha256": hashlib.sha256((directory / name).read_bytes()).hexdigest()} for name in names
    }
    (directory / CONFIG).write_text(json.dumps({**config, "files": files}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _fit(
    base: Path,
    parts: _Parts,
    lent: Lent,
    options: TrainingOptions,
    schedule: Schedule,
    *,
    progress: Callable[[int, int, float], None] | None,
) -> tuple[Fitted, dict[str, Any]]:
    from analyzer.fitting import fit
    from analyzer.network import Encoder

    headless = not _has_heads(base)
    config = check_model(base, _ENCODER_FILES if headless else FILES)
    encoder = Encoder(base, config["encoder"])
    if headless or options.fresh:
        for name in DIMENSIONS:
            if not any(name in call.labels for call in (*parts.learn, *parts.hold)):
                raise TableError(f"no call is labelled for {name}", where="labels", do="Label some, or train from a model that answers it.")
        heads = fresh_heads(encoder, config["encoder"], hidden=options.hidden, seed=options.seed)
    else:
        heads = load_model(str(base)).heads
    examples = [example for call in parts.learn for example in to_examples(call, wordings=options.wordings, seed=options.seed)]
    held = [to_examples(call, wordings=0, seed=options.seed)[0] for call in parts.hold]
    fitted = fit([*examples, *lent.calls], held, encoder, heads, schedule=schedule, phrases=lent.phrases, progress=progress)
    if not schedule.tuned_layers:
        return fitted, config
    # The encoder has learned; the heads learn once more on it as it now is, each to its own best, from what raters decided, in one wording each.
    settling = dataclasses.replace(
        schedule, tuned_layers=0, epochs=_SETTLING_EPOCHS, batch=2 * schedule.batch, learning_rate=0.6 * schedule.learning_rate, keep=None
    )
    decided = [*_one_wording(examples, options.seed), *(call for call in lent.calls if call.weight >= _DECIDED)]
    return fit(decided, held, encoder, heads, schedule=settling, progress=progress), config


def _one_wording(examples: Sequence[Example], seed: int) -> list[Example]:
    rng = random.Random(seed)  # noqa: S311 - reproducible sampling, no secret
    takes: dict[str, list[int]] = {}
    for example in examples:
        takes.setdefault(example.group, []).append(example.take)
    drawn = {group: rng.choice(sorted(set(of_group))) for group, of_group in takes.items()}
    return [example for example in examples if example.take == drawn[example.group]]


def _has_heads(base: Path) -> bool:
    """Whether a base answers questions; one without heads is an encoder to start from."""
    return (base / "heads.safetensors").is_file()


def fresh_heads(encoder: Encoder, config: dict[str, Any], *, hidden: int, seed: int) -> Heads:
    """New heads; their listener begins as a copy of the encoder's upper layers."""
    import torch

    from analyzer.network import Heads

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = {name: len(labels) for name, labels in LABELS.items()} | {"cause": len(CAUSES)}
        heads = Heads(config, sizes, hidden=hidden, listening=_LISTENING)
        heads.listener.layers.load_state_dict(encoder.layers[-_LISTENING:].state_dict())
        return heads


def to_examples(call: LabelledCall, *, wordings: int, seed: int) -> list[Example]:
    """A labelled call in its own words and in `wordings` further ones, each with its shortened parts; disputed dimensions are not learnt from."""
    from analyzer.augmentation import roughened, shortened
    from analyzer.examples import Example

    allowed = {name: (label,) for name, label in call.labels.items() if name not in call.disputed}
    if call.cause is not None and "resolution" in allowed:
        allowed["cause"] = (call.cause,)
    whole = Example(turns=call.transcript.turns, allowed=allowed, evidence=call.evidence, group=call.pair or call.transcript.info.call_id)
    takes = [whole, *(roughened(whole, take=n + 1, errors=_ERRORS[n % len(_ERRORS)], seed=seed) for n in range(wordings))]
    return [example for take in takes for example in (take, *shortened(take, seed=seed))]


def _split(
    calls: Sequence[LabelledCall], shares: tuple[float, float], seed: int
) -> tuple[list[LabelledCall], list[LabelledCall], list[LabelledCall]]:
    """To learn from, to hold out, to measure on; calls of one customer (else contact, else call) stay together."""
    groups: dict[str, list[LabelledCall]] = {}
    for call in calls:
        groups.setdefault(call.transcript.info.customer_id or call.conversation, []).append(call)
    rng = random.Random(seed)  # noqa: S311 - reproducible sampling, no secret
    rest = sorted(groups)
    parts: list[list[LabelledCall]] = []
    for share in shares:
        drawn = set(rng.sample(rest, min(len(rest), max(share > 0, int(share * len(groups))))))
        parts.append([call for name in sorted(drawn) for call in groups[name]])
        rest = [name for name in rest if name not in drawn]
    parts.insert(0, [call for name in rest for call in groups[name]])
    if not parts[0]:
        raise TableError("all calls are of one customer", where="labels", do="Give calls of several customers, so that some can be held out.")
    return parts[0], parts[1], parts[2]
