"""The conversation model: a checked model directory, and transcripts to calibrated probabilities with the turns that carried them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from analyzer.abstention import reasons
from analyzer.errors import ModelError
from analyzer.records import CAUSES, LABELS, OPENING_LABELS, Transcript, Turn

if TYPE_CHECKING:
    from torch import Tensor

    from analyzer.network import Encoder, Head, Heads

SCHEMA: Final = 1
CONFIG: Final = "config.json"
FILES: Final = ("encoder.safetensors", "heads.safetensors", "tokenizer.json")
_HUB: Final = "hf:"
_PICKLES: Final = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
#: How many of the customer's last turns the closing is read from, and of the first the opening.
CLOSING_TURNS: Final = 5
OPENING_TURNS: Final = 4
#: Share of what a turn says alone in what it does to the answer; the rest is what is missed without it.
_ALONE: Final = 0.2
#: What the head's attention counts beside that. Chosen on held-out calls: with it the two heaviest turns are the raters' far more often than by the
#: effect alone, and without them the answer moves about as far.
_ATTENTION: Final = 0.5
#: How many calls are read together.
_AT_ONCE: Final = 64
#: Of how many turns it is found out what the call would say without them.
_WEIGHED: Final = 32
#: Which speakers' turns each head is given.
SIDES: Final[Mapping[str, tuple[str, ...]]] = {"courtesy": ("agent",), "resolution": ("agent", "customer", "unknown"), "closing": ("customer",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the model makes of one call.

    `probabilities` holds calibrated probabilities for `courtesy`, `resolution`, `closing` and `opening`, each adding up to 1; `cause`
    those of the cause, should the resolution be partial or unresolved. `weights` has one number per turn and question: what the turn does to the
    probability p of the most probable label, 0.8 (p(all) - p(all but it)) + 0.2 (p(it alone) - p(nothing)), the second so that two turns that
    say the same do not hide each other, plus half the head's attention to it (0 to 1, all turns together 1), which was taught where raters point.
    Negative where the turn speaks against the label more than it is attended to, 0 where the head does not read it.
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
    from analyzer.network import NOWHERE

    side = SIDES["closing" if question == "opening" else question]
    read = [number for number, turn in enumerate(turns) if turn.speaker in side]
    if question == "closing":
        read = read[-CLOSING_TURNS:]
        return View(tuple(read), tuple(range(len(read) - 1, -1, -1)))
    if question == "opening":
        read = read[:OPENING_TURNS]
        return View(tuple(read), (NOWHERE,) * len(read))
    return View(tuple(read), tuple(_place(number, len(read)) for number in range(len(read))))


def _place(number: int, count: int) -> int:
    """Counted from the end for the last turns, where calls are decided; a third of the call for those before."""
    from analyzer.network import PLACES

    thirds = 3
    from_end = count - 1 - number
    return from_end if from_end < PLACES - thirds else PLACES - 1 - thirds * number // count


class ConversationModel:
    """A loaded model. `stamp` is its name and the first 12 hex digits of its contents' SHA-256."""

    def __init__(self, *, stamp: str, encoder: Encoder, heads: Heads, config: Mapping[str, Any]) -> None:
        self.stamp = stamp
        self.encoder = encoder
        self.heads = heads
        self.config = config

    def read(self, transcripts: Sequence[Transcript], *, batch_size: int = 64, shares: Mapping[str, float] | None = None) -> list[Reading]:
        """One reading per transcript, in order. Each turn is encoded once for all heads, `batch_size` turns at a time.

        `shares` maps labels of courtesy and closing to how common they are among such calls (0 or absent: as in training); the opening mood, which
        is not what a call ends with, is left as it is.

        What a call is read with changes nothing of its reading beyond rounding.
        """
        import torch

        lean = self._lean(shares or {})
        parts = [transcripts[start : start + _AT_ONCE] for start in range(0, len(transcripts), _AT_ONCE)]
        with torch.inference_mode():
            return [reading for part in parts for reading in self._read(part, lean, batch_size)]

    def _lean(self, shares: Mapping[str, float]) -> dict[str, Tensor]:
        """Per question what is added to the log-probabilities, (labels,): the log of each label's share in the field over its share in training.

        After Saerens, Latinne & Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities", eq. 2.4.
        """
        import torch

        out = {question: torch.zeros(len(labels)) for question, labels in LABELS.items()}
        for question, trained in self.config["mix"].items():
            given = {label: share for label, share in shares.items() if label in trained and share > 0}
            rest = (1 - sum(given.values())) / (1 - sum(trained[label] for label in given))
            out[question] = torch.tensor([math.log(given.get(label, rest * trained[label]) / trained[label]) for label in LABELS[question]])
        return out

    def _read(self, transcripts: Sequence[Transcript], lean: Mapping[str, Tensor], batch_size: int) -> list[Reading]:
        import torch

        from analyzer.network import SPEAKER_IDS

        texts = [turn.text for transcript in transcripts for turn in transcript.turns]
        until = len(self.encoder.layers) - len(self.heads.listener.layers)
        features, states = self.encoder.encode_words(texts, until=until, batch_size=batch_size)
        ends = [0, *itertools.accumulate(len(transcript.turns) for transcript in transcripts)]
        spoken = [n for n, transcript in enumerate(transcripts) if transcript.turns]
        meant = self.heads.listener(
            [states[ends[n] : ends[n + 1]] for n in spoken],
            [torch.tensor([SPEAKER_IDS[turn.speaker] for turn in transcripts[n].turns]) for n in spoken],
            [torch.tensor(view("resolution", transcripts[n].turns).places) for n in spoken],
        )
        by_call = dict(zip(spoken, meant, strict=True))
        nothing = features.new_zeros(0, self.heads.get_buffer("seen").shape[1])
        spans = itertools.pairwise(ends)
        return [
            self._read_one(transcript, features[start:end], by_call.get(n, nothing), lean)
            for n, (transcript, (start, end)) in enumerate(zip(transcripts, spans, strict=True))
        ]

    def _read_one(self, transcript: Transcript, features: Tensor, meant: Tensor, lean: Mapping[str, Tensor]) -> Reading:
        import torch

        probabilities: dict[str, dict[str, float]] = {}
        weights: dict[str, tuple[float, ...]] = {}
        cause = torch.zeros(len(CAUSES))
        standard = self.heads.standardise(features)
        for question, labels in {**LABELS, "opening": OPENING_LABELS}.items():
            heard = torch.cat([standard, meant], dim=1) if question == "resolution" else standard
            logits, summary, attention = self._ask(question, transcript.turns, heard)
            cool = logits / float(self.config["temperature"]["closing" if question == "opening" else question])
            answers = torch.softmax(cool + lean[question] if question in lean else cool, dim=-1)
            probabilities[question] = dict(zip(labels, _normal(answers[0]), strict=True))
            carried = answers[:, int(answers[0].argmax())]
            missed, alone = carried[0] - carried[2 : 2 + len(attention)], carried[2 + len(attention) :] - carried[1]
            shares = (1 - _ALONE) * missed + _ALONE * alone + _ATTENTION * carried.new_tensor(list(attention.values()))
            by_turn = dict(zip(attention, shares.tolist(), strict=True))
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

    def _ask(self, question: str, turns: Sequence[Turn], standard: Tensor) -> tuple[Tensor, Tensor, dict[int, float]]:
        """Logits and summaries, a row each: all read turns, none, all but each weighed turn, each alone; and the weighed turns with their attention.

        The turns weighed are the `_WEIGHED` to which the head attends most: the work grows with the call's length, not with its square.
        """
        import torch

        from analyzer.network import SPEAKER_IDS

        seen = view(question, turns)
        count = max(1, len(seen.turns))
        numbers = torch.tensor(seen.turns or (0,), dtype=torch.long)
        speakers = torch.tensor([SPEAKER_IDS[turns[number].speaker] for number in seen.turns] or [0])
        places = torch.tensor(seen.places or (0,), dtype=torch.long)
        head = cast("Head", self.heads.heads["closing" if question == "opening" else question])
        given = standard[numbers] if seen.turns else standard.new_zeros(1, standard.shape[1])
        states = head.turn_states(given[None], speakers[None], places[None])
        whole = torch.full((1, count), bool(seen.turns))
        logits, attention, summary = head(states, whole)
        weighed = sorted(attention[0].topk(min(_WEIGHED, len(seen.turns))).indices.tolist())
        # Left-out turns are masked rather than cut, so that every other turn keeps its place.
        single = torch.eye(count, dtype=torch.bool)[weighed]
        mask = torch.cat([torch.zeros(1, count, dtype=torch.bool), ~single & whole, single])
        rest, _, _ = head(states.expand(len(mask), -1, -1), mask)
        return torch.cat([logits, rest]), summary, {seen.turns[place]: float(attention[0, place]) for place in weighed}

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
    heads = Heads(config["encoder"], sizes, hidden=int(config["hidden"]), listening=int(config["listening"]))
    heads.seen = weights["seen"].clone()
    try:
        heads.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelError(f"the heads do not fit this version: {error}", where=str(directory), do="Train the model again.") from None
    heads.float().eval()
    return ConversationModel(stamp=stamp_of(directory), encoder=encoder, heads=heads, config=config)


def stamp_of(directory: Path) -> str:
    """A model's name and the first 12 hex digits of its contents' SHA-256, as its scores carry it."""
    name = directory.name
    if directory.parent.name == "snapshots":  # how the hub's cache keeps models--ORGANISATION--NAME/snapshots/REVISION
        name = directory.parent.parent.name.removeprefix("models--").replace("--", "/")
    return f"{name}@sha256:{contents_digest(directory)[:12]}"


def find_model(name: str) -> Path:
    """The directory of a shipped model's name, of a path, or of a repository on the Hugging Face hub (`hf:org/name`, `hf:org/name@revision`).

    Such a repository is fetched, with a progress bar, if it was not before; nothing else touches the network.

    Raises:
        ModelError: there is none; the shipped names are said. Or it cannot be fetched.
    """
    if name.startswith(_HUB):
        return _from_hub(name)
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
        do=f"Give a shipped name ({names}), the path of a directory written by `analyzer train`, or hf:ORGANISATION/NAME.",
    )


def _from_hub(name: str) -> Path:
    from analyzer.hub import cached, fetch

    repository, _, revision = name.removeprefix(_HUB).partition("@")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repository) is None:
        raise ModelError(f"{name!r} names no repository", where="--model", do="Write hf:ORGANISATION/NAME, or hf:ORGANISATION/NAME@REVISION.")
    try:
        return cached(repository, revision or None) or fetch(repository, (CONFIG, *FILES, "README.md"), revision or None)
    except OSError as error:
        do = "Check the name; or fetch it on a connected machine and give the directory's path."
        raise ModelError(f"{name!r} cannot be fetched: {error}", where="--model", do=do) from None


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
    needed = ("encoder", "encoder_name", *(("hidden", "listening", "mix", "temperature", "min_similarity") if "heads.safetensors" in files else ()))
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
