"""Fits the heads to labelled calls on features of a frozen encoder: batches, loss, early stop, temperatures."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from analyzer.model import view
from analyzer.network import NOWHERE, SPEAKER_IDS, Heads
from analyzer.records import CAUSES, LABELS, Turn

if TYPE_CHECKING:
    from analyzer.network import Encoder

_EVIDENCE_WEIGHT: Final = 0.2
_TURN_DROP: Final = 0.1
_NOWHERE_SHARE: Final = 0.3
_LENT_PER_OWN: Final = 2
_SEEN_CALLS: Final = 1000
_TEMPERATURES: Final = np.geomspace(0.5, 6.0, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A call to learn from. `allowed` maps each labelled question to the labels it may have (one, where a rater decided);
    `variants` are further wordings of the same turns (speech-shaped, redacted); `weight` scales its loss."""

    turns: tuple[Turn, ...]
    allowed: Mapping[str, tuple[str, ...]]
    evidence: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    variants: tuple[tuple[str, ...], ...] = ()
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What fitting gave: the heads at their best held-out loss, a temperature per question, and the likeness below which a call is a stranger."""

    heads: Heads
    temperature: Mapping[str, float]
    min_similarity: float
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to fit."""

    epochs: int = 40
    patience: int = 8
    batch: int = 32
    learning_rate: float = 1e-3
    seed: int = 0


class _Call:
    """One example's features, one tensor per wording."""

    def __init__(self, example: Example, wordings: list[Tensor]) -> None:
        self.example = example
        self.wordings = wordings
        self.views = {question: view(question, example.turns) for question in LABELS}
        self.speakers = torch.tensor([SPEAKER_IDS[turn.speaker] for turn in example.turns])


def fit(
    learn: Sequence[Example],
    hold: Sequence[Example],
    encoder: Encoder,
    heads: Heads,
    *,
    schedule: Schedule,
    progress: Callable[[int, int, float], None] | None = None,
) -> Fitted:
    """Fit `heads` in place to `learn`, stopping each head at its best loss on `hold`; the same seed gives the same heads.

    `progress(epoch, epochs, held_out_loss)` is called after every epoch.
    """
    features = _encode([*learn, *hold], encoder)
    turns = torch.cat([call[0] for call in features[: len(learn)]])
    if not len(heads.get_buffer("seen")):  # fresh heads: a model being adapted keeps the scale its weights were made for
        heads.mean = turns.mean(0)
        heads.scale = turns.std(0).clamp_min(1e-4)
    calls = [_Call(example, [heads.standardise(one) for one in wordings]) for example, wordings in zip([*learn, *hold], features, strict=True)]
    learners, held = calls[: len(learn)], calls[len(learn) :]
    with torch.random.fork_rng():
        torch.manual_seed(schedule.seed)
        epochs = _descend(learners, held, heads, schedule, progress)
    heads.eval()
    own = [number for number, example in enumerate(learn) if example.weight >= 1.0]
    raw = torch.stack([torch.nn.functional.normalize(features[n][0][:, -_last(heads) :].mean(0), dim=0) for n in own])
    heads.seen = torch.cat([heads.get_buffer("seen"), raw])[-_SEEN_CALLS:]
    held_raw = [torch.nn.functional.normalize(call[0][:, -_last(heads) :].mean(0), dim=0) for call in features[len(learn) :]]
    nearest = sorted(float((heads.get_buffer("seen") @ one).max()) for one in held_raw)
    # Far below the least familiar held-out call: only what is of another kind altogether (another language, say) is refused.
    floor = nearest[0] - (1.0 - nearest[0]) if nearest else -1.0
    return Fitted(heads=heads, temperature=_temperatures(held, heads), min_similarity=floor, epochs=epochs)


def _last(heads: Heads) -> int:
    return int(heads.get_buffer("seen").shape[1])


def _encode(examples: Sequence[Example], encoder: Encoder) -> list[list[Tensor]]:
    """Per example the features of the turns, then of each variant."""
    texts = [text for one in examples for wording in (tuple(turn.text for turn in one.turns), *one.variants) for text in wording]
    features = encoder.encode(texts)
    out: list[list[Tensor]] = []
    start = 0
    for one in examples:
        rows = []
        for _ in range(1 + len(one.variants)):
            rows.append(features[start : start + len(one.turns)])
            start += len(one.turns)
        out.append(rows)
    return out


def _descend(learners: list[_Call], held: list[_Call], heads: Heads, schedule: Schedule, progress: Callable[[int, int, float], None] | None) -> int:
    rng = random.Random(schedule.seed)  # noqa: S311 - reproducible sampling, no secret
    best = dict.fromkeys(LABELS, math.inf)
    state = copy.deepcopy(heads.state_dict())
    optimiser = torch.optim.AdamW(heads.parameters(), lr=schedule.learning_rate, weight_decay=0.05)
    stale, epoch = 0, 0
    for epoch in range(1, schedule.epochs + 1):
        heads.train()
        order = _draw(learners, rng)
        for start in range(0, len(order), schedule.batch):
            batch = order[start : start + schedule.batch]
            loss = torch.stack([_loss(batch, question, heads, rng) for question in LABELS]).sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(heads.parameters(), 1.0)
            optimiser.step()
        heads.eval()
        losses = {question: _held_loss(held, question, heads) for question in LABELS}
        stale += 1
        for question, value in losses.items():
            if value < best[question]:
                best[question], stale = value, 0
                part = (f"heads.{question}.", "cause.") if question == "resolution" else (f"heads.{question}.",)
                state |= {name: tensor.clone() for name, tensor in heads.state_dict().items() if name.startswith(part)}
        if progress is not None:
            progress(epoch, schedule.epochs, sum(losses.values()))
        if stale >= schedule.patience:
            break
    heads.load_state_dict(state)
    return epoch


def _draw(learners: list[_Call], rng: random.Random) -> list[_Call]:
    """Every fully weighted call, and no more than twice as many of the others, in random order: lent examples must not drown the raters' own."""
    own = [call for call in learners if call.example.weight >= 1.0]
    lent = [call for call in learners if call.example.weight < 1.0]
    drawn = own + rng.sample(lent, min(len(lent), _LENT_PER_OWN * len(own)))
    return rng.sample(drawn, len(drawn))


def _loss(batch: list[_Call], question: str, heads: Heads, rng: random.Random) -> Tensor:
    asked = [call for call in batch if question in call.example.allowed]
    if not asked:
        return torch.zeros(())
    logits, attention, summary = _run(asked, question, heads, rng)
    weight = torch.tensor([call.example.weight for call in asked])
    loss = (-(torch.log_softmax(logits, 1) + _allowed(asked, question)).logsumexp(1) * weight).sum() / len(asked)
    shown = torch.zeros_like(attention)
    for row, call in enumerate(asked):
        wanted = set(call.example.evidence.get(question, ()))
        for column, number in enumerate(call.views[question].turns):
            shown[row, column] = float(number in wanted)
    pointed = shown.sum(1) > 0
    if pointed.any():
        loss = loss - _EVIDENCE_WEIGHT * ((attention * shown).sum(1)[pointed].clamp_min(1e-6)).log().sum() / len(asked)
    if question == "resolution":
        rows = [row for row, call in enumerate(asked) if "cause" in call.example.allowed]
        if rows:
            target = torch.tensor([CAUSES.index(asked[row].example.allowed["cause"][0]) for row in rows])
            loss = loss + 0.3 * torch.nn.functional.cross_entropy(heads.cause(summary[rows]), target)
    return loss


def _allowed(calls: list[_Call], question: str) -> Tensor:
    return torch.tensor([[0.0 if label in call.example.allowed[question] else -1e9 for label in LABELS[question]] for call in calls])


def _run(calls: list[_Call], question: str, heads: Heads, rng: random.Random | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """One head over many calls, padded; with `rng` a wording, left-out turns and hidden places are drawn, as in training."""
    longest = max(1, *(len(call.views[question].turns) for call in calls))
    width = calls[0].wordings[0].shape[1]
    features = torch.zeros(len(calls), longest, width)
    speakers = torch.zeros(len(calls), longest, dtype=torch.long)
    places = torch.zeros(len(calls), longest, dtype=torch.long)
    mask = torch.zeros(len(calls), longest, dtype=torch.bool)
    for row, call in enumerate(calls):
        seen = call.views[question]
        numbers = torch.tensor(seen.turns, dtype=torch.long)
        count = len(numbers)
        wording = call.wordings[0] if rng is None else rng.choice(call.wordings)
        features[row, :count] = wording[numbers]
        speakers[row, :count] = call.speakers[numbers]
        hidden = rng is not None and rng.random() < _NOWHERE_SHARE
        places[row, :count] = NOWHERE if hidden else torch.tensor(seen.places, dtype=torch.long)
        mask[row, :count] = True
        if rng is not None and count > 2:
            mask[row, [n for n in range(count) if rng.random() < _TURN_DROP][: count - 2]] = False
    answer: tuple[Tensor, Tensor, Tensor] = heads.heads[question](features, speakers, places, mask)
    return answer


def _held_loss(held: list[_Call], question: str, heads: Heads) -> float:
    asked = [call for call in held if question in call.example.allowed]
    if not asked:
        return 0.0
    with torch.inference_mode():
        logits, _, _ = _run(asked, question, heads)
        return float(-(torch.log_softmax(logits, 1) + _allowed(asked, question)).logsumexp(1).mean())


def _temperatures(held: list[_Call], heads: Heads) -> dict[str, float]:
    """Per question the temperature of least held-out loss; 1 where nothing is held out.

    After Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    out = dict.fromkeys((*LABELS, "cause"), 1.0)
    with torch.inference_mode():
        for question in LABELS:
            asked = [call for call in held if question in call.example.allowed]
            if not asked:
                continue
            logits, _, summary = _run(asked, question, heads)
            allowed = _allowed(asked, question)
            out[question] = _coolest(logits, allowed)
            rows = [row for row, call in enumerate(asked) if question == "resolution" and "cause" in call.example.allowed]
            if rows:
                wanted = [[0.0 if cause in asked[row].example.allowed["cause"] else -1e9 for cause in CAUSES] for row in rows]
                out["cause"] = _coolest(heads.cause(summary[rows]), torch.tensor(wanted))
    return out


def _coolest(logits: Tensor, allowed: Tensor) -> float:
    losses = [float(-(torch.log_softmax(logits / t, 1) + allowed).logsumexp(1).mean()) for t in _TEMPERATURES]
    return round(float(_TEMPERATURES[int(np.argmin(losses))]), 4)
