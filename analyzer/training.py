"""Labelled calls to a model directory: split, fit, calibrate, measure, and the card that says what came of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analyzer.errors import ModelError, TableError, UsageError
from analyzer.evaluation import Agreement, LabelledCall, Prediction, evaluate, read_labels
from analyzer.model import CONFIG, FILES, SCHEMA, check_model, find_model, load_model
from analyzer.records import CAUSES, DIMENSIONS, LABELS

if TYPE_CHECKING:
    from analyzer.fitting import Example, Fitted
    from analyzer.network import Heads

_ENCODER_FILES: Final = ("encoder.safetensors", "tokenizer.json")
_MIN_CALLS: Final = 20
_CUTS: Final = 2
_MIN_CUT: Final = 4
_PART_WEIGHT: Final = 0.5
_FILLERS: Final = ("um", "uh", "er", "like")
_NAMED: Final = re.compile(r"\b([Tt]his is|[Mm]y name is|[Mm]y name's|Mrs\.?|Mr\.?|Ms\.?|Miss|[Ss]peaking with|[Ii]t's|I'm) ([A-Z][a-z]+)\b")
_NUMBER: Final = re.compile(r"\b(?:\d[ -]?){6,}\d\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where training data came from, for the model card."""

    name: str
    licence: str
    calls: int
    use: str


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
    hidden: int = 96
    hold_share: float = 0.15
    measure_share: float = 0.15
    #: Further wordings per call: lower case, no punctuation, dropped words, placeholders for names and numbers.
    wordings: int = 1
    own: Source = field(default_factory=lambda: Source(name="the labelled calls given", licence="not stated", calls=0, use="all questions"))
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """What a run gave: the directory, its stamp, how many calls served for what, and agreement on calls it never saw."""

    directory: Path
    stamp: str
    epochs: int
    calls: Mapping[str, int]
    agreement: Mapping[str, Agreement]


def train(
    labels: Path,
    out: Path,
    options: TrainingOptions | None = None,
    *,
    measure: Path | None = None,
    lent: Sequence[Example] = (),
    progress: Callable[[int, int, float], None] | None = None,
) -> TrainingReport:
    """Train from a labels file (see `evaluation.read_labels`) and write a complete model directory with its card.

    `measure` is a second labels file, kept out of training, to measure on. `lent` are further examples of less weight than the labelled calls.
    `progress(epoch, epochs, held_out_loss)` is called after each epoch. The same seed on the same machine gives the same model.

    Raises:
        TableError: the labels cannot be read, are too few, or lack a question that the base model cannot answer either.
        ModelError: the base model is not usable.
        UsageError: the output directory holds something else.
    """
    chosen = options or TrainingOptions()
    calls = read_labels(labels)
    if len(calls) < _MIN_CALLS:
        raise TableError(f"{len(calls)} labelled calls are too few to train on", where=str(labels), do=f"Label at least {_MIN_CALLS} calls.")
    if out.exists() and any(out.iterdir()) and not (out / CONFIG).is_file():
        raise UsageError("the folder is not empty and holds no model", where=str(out), do="Give a new folder.")
    measured = list(read_labels(measure)) if measure is not None else []
    shares = (chosen.hold_share, 0.0 if measured else chosen.measure_share)
    learn, hold, test = _split(calls, shares, chosen.seed)
    test = measured or test
    base = find_model(chosen.base)
    fitted, config = _fit(base, learn, hold, chosen, (lent, progress))
    about = {
        "encoder_name": config["encoder_name"],
        "base": base.name,
        "seed": chosen.seed,
        "calls": {"learn": len(learn), "hold": len(hold), "measure": len(test)},
    }
    write_model(out, base, config["encoder"], fitted, about=about)
    model = load_model(str(out))
    readings = model.read([call.transcript for call in test])
    predictions = [
        {name: Prediction(probabilities=reading.probabilities[name], abstained=name in reading.abstain) for name in DIMENSIONS}
        for reading in readings
    ]
    agreement = evaluate(test, predictions, seed=chosen.seed)
    report = TrainingReport(directory=out, stamp=model.stamp, epochs=fitted.epochs, calls=about["calls"], agreement=agreement)
    (out / "README.md").write_text(_card(chosen, report, lent=len(lent), measured_apart=bool(measured)), encoding="utf-8")
    return report


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
    """Write a model directory: encoder and tokenizer copied from `base`, heads in half precision, `config.json` with every file's digest last."""
    import torch
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    for name in _ENCODER_FILES:
        if (base / name).resolve() != (directory / name).resolve():
            shutil.copyfile(base / name, directory / name)
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in fitted.heads.state_dict().items()}
    save_file(weights, directory / "heads.safetensors")
    (directory / "heads.safetensors").chmod(0o644)  # safetensors writes files that only their owner can read
    config = {
        "schema": SCHEMA,
        "encoder": dict(bert),
        "hidden": fitted.heads.cause.in_features // 2,
        "temperature": dict(fitted.temperature),
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
    base: Path, learn: Sequence[LabelledCall], hold: Sequence[LabelledCall], options: TrainingOptions, extra: tuple[Sequence[Example], Any]
) -> tuple[Fitted, dict[str, Any]]:
    from analyzer.fitting import Schedule, fit
    from analyzer.network import Encoder

    lent, progress = extra
    headless = not (base / "heads.safetensors").is_file()
    config = check_model(base, _ENCODER_FILES if headless else FILES)
    encoder = Encoder(base, config["encoder"])
    if headless or options.fresh:
        for name in DIMENSIONS:
            if not any(name in call.labels for call in (*learn, *hold)):
                raise TableError(f"no call is labelled for {name}", where="labels", do="Label some, or train from a model that answers it.")
        heads = _fresh(encoder.width, options)
    else:
        heads = load_model(str(base)).heads
    rng = random.Random(options.seed)  # noqa: S311 - reproducible sampling, no secret
    examples = [to_example(call, rng, options.wordings) for call in learn]
    held = [to_example(call, rng, 0) for call in hold]
    examples += [part for example in examples for part in shortened(example, rng)]
    schedule = Schedule(epochs=options.epochs, patience=options.patience, learning_rate=options.learning_rate, seed=options.seed)
    return fit([*examples, *lent], held, encoder, heads, schedule=schedule, progress=progress), config


def _fresh(width: int, options: TrainingOptions) -> Heads:
    import torch

    from analyzer.network import Heads

    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        sizes = {name: len(labels) for name, labels in LABELS.items()} | {"cause": len(CAUSES)}
        return Heads(width, sizes, hidden=options.hidden)


def to_example(call: LabelledCall, rng: random.Random, wordings: int) -> Example:
    """A labelled call as an example of full weight; disputed dimensions are not learnt from."""
    from analyzer.fitting import Example

    allowed = {name: (label,) for name, label in call.labels.items() if name not in call.disputed}
    if call.cause is not None and "resolution" in allowed:
        allowed["cause"] = (call.cause,)
    variants = tuple(tuple(speech_shaped(turn.text, rng) for turn in call.transcript.turns) for _ in range(wordings))
    return Example(turns=call.transcript.turns, allowed=allowed, evidence=call.evidence, variants=variants)


def shortened(example: Example, rng: random.Random) -> list[Example]:
    """Shorter calls whose answers follow from the codebook, so that a style cannot stand in for the words that decide.

    A call cut off before its close is `neutral` in closing (not derived from calls that end grumbling: their anger may well be older than the close);
    a call without the turns that made the agent courteous or discourteous is `neutral` in courtesy.
    """
    out: list[Example] = []
    count = len(example.turns)
    closing, courtesy = example.allowed.get("closing", ("",))[0], example.allowed.get("courtesy", ("",))[0]
    if closing in ("neutral", "singing"):
        latest = min([int(0.8 * count), *example.evidence.get("closing", ())])
        for _ in range(_CUTS if latest > _MIN_CUT else 0):
            allowed = {"closing": ("neutral",)} | ({"courtesy": ("neutral",)} if courtesy == "neutral" else {})
            out.append(_part(example, range(rng.randint(_MIN_CUT, latest)), allowed))
    deciding = set(example.evidence.get("courtesy", ()))
    if courtesy in ("discourteous", "courteous") and deciding:
        out.append(_part(example, [n for n in range(count) if n not in deciding], {"courtesy": ("neutral",)}))
    return out


def _part(example: Example, numbers: Sequence[int], allowed: Mapping[str, tuple[str, ...]]) -> Example:
    turns = tuple(example.turns[n] for n in numbers)
    variants = tuple(tuple(wording[n] for n in numbers) for wording in example.variants)
    return dataclasses.replace(example, turns=turns, variants=variants, allowed=allowed, evidence={}, weight=_PART_WEIGHT)


def speech_shaped(text: str, rng: random.Random, *, drop: float = 0.08) -> str:
    """The text as a redactor and a recogniser might leave it.

    Names and long numbers become placeholders; lower case, no punctuation, words lost (`drop` of them) and fillers gained.
    """
    if rng.random() < 0.7:
        text = _NAMED.sub(r"\1 [NAME]", text)
    text = _NUMBER.sub(lambda _: rng.choice(("[CARD]", "[PHONE]")), text)
    words = re.sub(r"[^\w\s'\[\]]", " ", text.lower()).split()
    out: list[str] = []
    for word in words:
        if len(words) > 2 and rng.random() < drop:
            continue
        if rng.random() < 0.02:
            out.append(rng.choice(_FILLERS))
        out.append(word)
    return " ".join(out or words)


def _split(
    calls: Sequence[LabelledCall], shares: tuple[float, float], seed: int
) -> tuple[list[LabelledCall], list[LabelledCall], list[LabelledCall]]:
    """To learn from, to hold out, to measure on; calls of one customer (else contact, else call) stay together."""
    groups: dict[str, list[LabelledCall]] = {}
    for call in calls:
        info = call.transcript.info
        groups.setdefault(info.customer_id or info.contact_id or info.call_id, []).append(call)
    names = sorted(groups)
    random.Random(seed).shuffle(names)  # noqa: S311
    parts: tuple[list[LabelledCall], ...] = ([], [], [])
    for name in names:
        part = next((n + 1 for n, share in enumerate(shares) if len(parts[n + 1]) < round(share * len(calls))), 0)
        parts[part].extend(groups[name])
    if not parts[0]:
        raise TableError("all calls are of one customer", where="labels", do="Give calls of several customers, so that some can be held out.")
    return parts[0], parts[1], parts[2]


def _card(options: TrainingOptions, report: TrainingReport, *, lent: int, measured_apart: bool) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    def number(value: float | None) -> str:
        return "n/a" if value is None else f"{value:.3f}"

    def show(one: Agreement, name: str) -> str:
        figure = one.figures.get(name)
        if figure is None:
            return "n/a"
        return number(figure.value) + (f" ({number(figure.low)} to {number(figure.high)})" if figure.low is not None else "")

    # Markdown, not HTML: escaping would spell out the characters of the names.
    environment = Environment(loader=PackageLoader("analyzer"), undefined=StrictUndefined, autoescape=False)  # noqa: S701
    config = json.loads((report.directory / CONFIG).read_text(encoding="utf-8"))
    total = report.calls["learn"] + report.calls["hold"] + (0 if measured_apart else report.calls["measure"])
    return (
        environment.get_template("model_card.md").render(
            name=report.directory.name,
            encoder=config["encoder_name"],
            stamp=report.stamp,
            sources=[dataclasses.replace(options.own, calls=total), *options.sources],
            calls=report.calls,
            measured_apart=measured_apart,
            lent=lent,
            seed=options.seed,
            epochs=report.epochs,
            agreement=report.agreement,
            show=show,
            number=number,
        )
        + "\n"
    )
