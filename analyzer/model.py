"""The conversation model: a checked model directory, and transcripts to calibrated probabilities with the turns that carried them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analyzer.abstention import reasons
from analyzer.errors import ModelError
from analyzer.records import CAUSES, LABELS, OPENING_LABELS, Transcript, Turn

if TYPE_CHECKING:
    from torch import Tensor

    from analyzer.network import Encoder, Heads

SCHEMA: Final = 1
CONFIG: Final = "config.json"
FILES: Final = ("encoder.safetensors", "heads.safetensors", "tokenizer.json")
_PICKLES: Final = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
#: How many of the customer's last turns the closing is read from, and of the first the opening.
CLOSING_TURNS: Final = 5
OPENING_TURNS: Final = 4
#: Share of what a turn says alone in its weight; the rest is what is missed without it.
_ALONE: Final = 0.2
#: Which speakers' turns each head is given.
SIDES: Final[Mapping[str, tuple[str, ...]]] = {"courtesy": ("agent",), "resolution": ("agent", "customer", "unknown"), "closing": ("customer",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the model makes of one call.

    `probabilities` holds calibrated probabilities for `courtesy`, `resolution`, `closing` and `opening`, each adding up to 1; `cause`
    those of the cause, should the resolution be partial or unresolved. `weights` has one number per turn and question, what the turn does to the
    probability p of the most probable label: 0.8 (p(all) - p(all but it)) + 0.2 (p(it alone) - p(nothing)), the second so that two turns that
    say the same do not hide each other. Negative where the turn speaks against the label, 0 where the head does not read it.
    `abstain` names the questions this call cannot answer, with the reason; `similarity` is the call's likeness (cosine, -1 to 1)
    to the nearest training call.
    """

    probabilities: Mapping[str, Mapping[str, float]]
    cause: Mapping[str, float]
    weights: Mapping[str, tuple[float, ...]]
    abstain: Mapping[str, str] = field(default_factory=dict)
    similarity: float = 1.0


@dataclass(frozen=True, slots=True)
class View:
    """The turns one head reads of one call: their numbers in the call, and their places."""

    turns: tuple[int, ...]
    places: tuple[int, ...]


def view(question: str, turns: Sequence[Turn]) -> View:
    """Which turns answer `question`, and where each stands among them (ids below `network.PLACES`; `PLACES` itself for "not said").

    The place depends on the read turns alone, so that nothing of the other side reaches a head that must not hear it.
    """
    from analyzer.network import NOWHERE, PLACES

    side = SIDES["closing" if question == "opening" else question]
    read = [number for number, turn in enumerate(turns) if turn.speaker in side]
    if question == "closing":
        read = read[-CLOSING_TURNS:]
        return View(tuple(read), tuple(range(len(read) - 1, -1, -1)))
    if question == "opening":
        read = read[:OPENING_TURNS]
        return View(tuple(read), (NOWHERE,) * len(read))
    last = max(len(read) - 1, 1)
    return View(tuple(read), tuple(min(PLACES - 1, number * PLACES // last) for number in range(len(read))))


class ConversationModel:
    """A loaded model. `stamp` is its name and the first 12 hex digits of its contents' SHA-256."""

    def __init__(self, *, stamp: str, encoder: Encoder, heads: Heads, config: Mapping[str, Any]) -> None:
        self.stamp = stamp
        self.encoder = encoder
        self.heads = heads
        self.config = config

    def read(self, transcripts: Sequence[Transcript], *, batch_size: int = 64) -> list[Reading]:
        """One reading per transcript, in order. Each turn is encoded once for all heads, `batch_size` turns at a time.

        What a call is read with changes nothing of its reading beyond rounding.
        """
        import torch

        if not transcripts:
            return []
        texts = [turn.text for transcript in transcripts for turn in transcript.turns]
        features = self.encoder.encode(texts, batch_size=batch_size)
        out, start = [], 0
        with torch.inference_mode():
            for transcript in transcripts:
                end = start + len(transcript.turns)
                out.append(self._read_one(transcript, features[start:end]))
                start = end
        return out

    def _read_one(self, transcript: Transcript, features: Tensor) -> Reading:
        import torch

        probabilities: dict[str, dict[str, float]] = {}
        weights: dict[str, tuple[float, ...]] = {}
        cause = torch.zeros(len(CAUSES))
        standard = self.heads.standardise(features)
        for question, labels in {**LABELS, "opening": OPENING_LABELS}.items():
            logits, summary = self._ask(question, transcript.turns, standard)
            answers = torch.softmax(logits / float(self.config["temperature"]["closing" if question == "opening" else question]), dim=-1)
            probabilities[question] = dict(zip(labels, _normal(answers[0]), strict=True))
            best = int(answers[0].argmax())
            read = view(question, transcript.turns).turns
            carried = answers[:, best]
            missed, alone = carried[0] - carried[2 : 2 + len(read)], carried[2 + len(read) :] - carried[1]
            shares = (1 - _ALONE) * missed + _ALONE * alone
            by_turn = dict(zip(read, shares.tolist(), strict=True))
            weights[question] = tuple(by_turn.get(number, 0.0) for number in range(len(transcript.turns)))
            if question == "resolution":
                cause = torch.softmax(self.heads.cause(summary[:1])[0] / float(self.config["temperature"]["cause"]), dim=-1)
        similarity = self._similarity(features)
        abstain = reasons(transcript)
        if similarity < float(self.config["min_similarity"]):
            for question in probabilities:
                abstain.setdefault(question, "the call is unlike anything the model was trained on")
        return Reading(
            probabilities=probabilities, cause=dict(zip(CAUSES, _normal(cause), strict=True)), weights=weights, abstain=abstain, similarity=similarity
        )

    def _ask(self, question: str, turns: Sequence[Turn], standard: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and summaries, a row each: all n turns read, none, all but the i-th for each i, the i-th alone for each i (2 + 2n rows)."""
        import torch

        from analyzer.network import SPEAKER_IDS

        seen = view(question, turns)
        count = len(seen.turns)
        numbers = torch.tensor(seen.turns or (0,), dtype=torch.long)
        # Left-out turns are masked rather than cut, so that every other turn keeps its place.
        single = torch.eye(count, dtype=torch.bool)
        mask = torch.cat([torch.ones(1, count, dtype=torch.bool), torch.zeros(1, count, dtype=torch.bool), ~single, single])
        if not count:
            mask = torch.zeros(2, 1, dtype=torch.bool)
        rows = len(mask)
        speakers = torch.tensor([SPEAKER_IDS[turns[int(number)].speaker] for number in numbers])
        places = torch.tensor(seen.places or (0,), dtype=torch.long)
        head = self.heads.heads["closing" if question == "opening" else question]
        logits, _, summary = head(standard[numbers].expand(rows, -1, -1), speakers.expand(rows, -1), places.expand(rows, -1), mask)
        return logits, summary

    def _similarity(self, features: Tensor) -> float:
        from torch.nn.functional import normalize

        seen = self.heads.get_buffer("seen")
        mine = normalize(features[:, -seen.shape[1] :].mean(0), dim=0)
        return float((seen @ mine).max())


def models_dir() -> Path:
    """Where the shipped models lie: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def load_model(name: str = "default") -> ConversationModel:
    """The shipped model of that name, or the model in a directory. Never touches the network.

    Raises:
        ModelError: no such model, a file missing or altered, another schema, or pickled files among them.
    """
    from safetensors.torch import load_file

    from analyzer.network import Encoder, Heads

    directory = find_model(name)
    config = check_model(directory)
    encoder = Encoder(directory, config["encoder"])
    weights = load_file(directory / "heads.safetensors")
    sizes = {question: len(labels) for question, labels in LABELS.items()} | {"cause": len(CAUSES)}
    heads = Heads(encoder.width, sizes, hidden=int(config["hidden"]))
    heads.seen = weights["seen"].clone()
    try:
        heads.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelError(f"the heads do not fit this version: {error}", where=str(directory), do="Train the model again.") from None
    heads.float().eval()
    return ConversationModel(stamp=stamp_of(directory), encoder=encoder, heads=heads, config=config)


def stamp_of(directory: Path) -> str:
    """A model's name and the first 12 hex digits of its contents' SHA-256, as its scores carry it."""
    return f"{directory.name}@sha256:{contents_digest(directory)[:12]}"


def find_model(name: str) -> Path:
    """The directory of a shipped model's name or of a path.

    Raises:
        ModelError: there is none; the shipped names are said.
    """
    shipped = models_dir() / name
    if name and Path(name).name == name and (shipped / CONFIG).is_file():
        return shipped
    path = Path(name)
    if name and path.is_dir():
        return path.resolve()
    names = ", ".join(sorted(entry.parent.name for entry in models_dir().glob(f"*/{CONFIG}"))) or "none"
    raise ModelError(
        f"{name!r} is not a model directory",
        where="--model",
        do=f"Give a shipped name ({names}) or the path of a directory written by `analyzer train`.",
    )


def check_model(directory: Path, files: tuple[str, ...] = FILES) -> dict[str, Any]:
    """The settings of a model directory, once every file has been compared with the size and SHA-256 they state.

    Raises:
        ModelError: what is wrong with which file.
    """
    again = "Copy the directory again, or train it again."
    for path in sorted(directory.iterdir()):
        if path.suffix.lower() in _PICKLES:
            raise ModelError(f"{path.name} may hold pickled code", where=str(directory), do="Remove it; models are safetensors and JSON only.")
    for name in (CONFIG, *files):
        if not (directory / name).is_file():
            raise ModelError(f"{name} is missing", where=str(directory), do=f"A model directory holds {', '.join((CONFIG, *files))}. {again}")
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        schema, listed = config["schema"], config["files"]
        stated = {name: (int(listed[name]["bytes"]), str(listed[name]["sha256"])) for name in files}
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{CONFIG} cannot be read: {error!r}", where=str(directory), do=again) from None
    if schema != SCHEMA:
        raise ModelError(
            f"model schema {schema!r} is not {SCHEMA}", where=str(directory), do="Train the model again with this version, or update analyzer."
        )
    for name, (size, sha256) in stated.items():
        path = directory / name
        if path.stat().st_size != size or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise ModelError(f"{name} is not the file {CONFIG} describes", where=str(directory), do=again)
    needed = ("encoder", "encoder_name", *(("hidden", "temperature", "min_similarity") if "heads.safetensors" in files else ()))
    missing = [key for key in needed if key not in config]
    if missing:
        raise ModelError(f"{missing[0]!r} is missing in {CONFIG}", where=str(directory), do=again)
    return dict(config)


def contents_digest(directory: Path) -> str:
    """SHA-256 of what decides a model's answers: `config.json`, which states the digest of every other file."""
    return hashlib.sha256((directory / CONFIG).read_bytes()).hexdigest()


def _normal(values: Tensor) -> list[float]:
    """Plain floats that add up to 1 in double precision."""
    numbers = [float(value) for value in values]
    total = sum(numbers)
    return [number / total for number in numbers]
