"""Examples to tensors and losses: what an encoder makes of their words, in batches, and how far the heads' answers are from the raters'."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from analyzer.examples import Example, Phrase
from analyzer.model import view
from analyzer.network import LAYERS, MOST_STATES, NOWHERE, SPEAKER_IDS, Head, Heads, padded
from analyzer.records import CAUSES, LABELS

if TYPE_CHECKING:
    from analyzer.network import Encoder

_EVIDENCE_WEIGHT: Final = 0.5
_CAUSE_WEIGHT: Final = 0.3
_TURN_DROP: Final = 0.05
_NOWHERE_SHARE: Final = 0.3
_WINDOWS: Final = 48
_SETTLED: Final = 512


class Words:
    """What an encoder makes of the texts of a fitting. The part of it that does not learn is computed once and kept in half precision.

    Args:
        encoder: whose `tuned` upper layers learn with the listener; with 0 neither learns, and all they make of a text or a call is computed once.
        texts: all that will be asked for.
        listening: how many upper layers the listener has: it hears what the encoder makes of words below them.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], *, tuned: int, listening: int) -> None:
        self.encoder = encoder
        self.learning = tuned > 0
        self.middle = len(encoder.layers) - listening
        self.below = min(self.middle, len(encoder.layers) - tuned)
        self.number = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        self.parts: list[list[Tensor]] = [[] for _ in self.number]
        width_below = sum(layer <= self.below for layer in LAYERS) * (encoder.width // len(LAYERS))
        self.low = torch.zeros(len(self.number), width_below)
        self.tokens = torch.zeros(len(self.number), 1)
        self.heard: dict[int, Tensor] = {}
        windows = sorted(encoder.windows(list(self.number)), key=lambda window: len(window[1]))
        with torch.no_grad():
            for start in range(0, len(windows), _WINDOWS):
                self._lower(windows[start : start + _WINDOWS])
            self.settled = None if self.learning else self._settle()

    def _lower(self, windows: list[tuple[int, list[int]]]) -> None:
        ids, mask = padded([torch.tensor(row) for _, row in windows])
        owner = torch.tensor([number for number, _ in windows])
        sums, states = self.encoder.pool(self.encoder.embeddings(ids), mask, until=self.below)
        self.low.index_add_(0, owner, sums)
        self.tokens.index_add_(0, owner, mask.sum(1, keepdim=True).float())
        for (number, row), state in zip(windows, states, strict=True):
            self.parts[number].append(state[: len(row)].half())

    def _settle(self) -> Tensor:
        numbers = list(range(len(self.number)))
        return torch.cat([self._whole(numbers[start : start + _SETTLED])[0] for start in range(0, len(numbers), _SETTLED)])

    def features(self, texts: Sequence[str]) -> Tensor:
        """Features (len(texts), width) of texts that were given at the start; a gradient reaches the layers that learn."""
        return self.read(texts)[0]

    def read(self, texts: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """As `features`, and of each text the states of its word pieces that the listener hears, (tokens, hidden)."""
        numbers = [self.number[text] for text in texts]
        if self.settled is not None:
            return self.settled[numbers], {}
        distinct = {number: place for place, number in enumerate(dict.fromkeys(numbers))}
        features, states = self._whole(list(distinct))
        return features[[distinct[number] for number in numbers]], {text: states[distinct[self.number[text]]] for text in texts}

    def _whole(self, numbers: list[int]) -> tuple[Tensor, list[Tensor]]:
        windows = sorted(((place, part) for place, n in enumerate(numbers) for part in self.parts[n]), key=lambda window: len(window[1]))
        high = torch.zeros(len(numbers), self.encoder.width - self.low.shape[1])
        states: list[list[Tensor]] = [[] for _ in numbers]
        for start in range(0, len(windows), _WINDOWS):
            chunk = windows[start : start + _WINDOWS]
            words, mask = padded([part.float() for _, part in chunk])
            lower, words = self.encoder.pool(words, mask, below=self.below, until=self.middle)
            upper, _ = self.encoder.pool(words, mask, below=self.middle)
            high = high.index_add(0, torch.tensor([place for place, _ in chunk]), torch.cat([lower, upper], dim=1))
            for (place, part), state in zip(chunk, words, strict=True):
                states[place].append(state[: len(part)])
        whole = [torch.cat(parts)[:MOST_STATES] if parts else high.new_zeros(0, self.encoder.width // len(LAYERS)) for parts in states]
        return torch.cat([self.low[numbers], high], dim=1) / self.tokens[numbers].clamp_min(1.0), whole

    def meanings(self, calls: Sequence[Example], heads: Heads, states: Mapping[str, Tensor]) -> list[Tensor]:
        """What each turn means in its call, (turns, hidden) per call, as the listener of `heads` hears it; `states` as `read` gave them."""
        new = [call for call in calls if id(call) not in self.heard]
        words = [[states[turn.text] if self.learning else self._kept(turn.text) for turn in call.turns] for call in new]
        speakers = [torch.tensor([SPEAKER_IDS[turn.speaker] for turn in call.turns]) for call in new]
        places = [torch.tensor(view("resolution", call.turns).places) for call in new]
        heard = dict(zip(map(id, new), heads.listener(words, speakers, places), strict=True))
        if not self.learning:
            self.heard |= {number: meant.detach() for number, meant in heard.items()}
        return [heard[id(call)] if id(call) in heard else self.heard[id(call)] for call in calls]

    def _kept(self, text: str) -> Tensor:
        return torch.cat(self.parts[self.number[text]])[:MOST_STATES].float()


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls with the standardised features of their turns, one after the other, and what each turn means in its call.

    `starts` says where each call's turns begin, and last where they end.
    """

    calls: Sequence[Example]
    features: Tensor
    meant: Tensor
    starts: Sequence[int]


def drawn(learn: Sequence[Example], rng: random.Random, size: int) -> Iterator[list[Example]]:
    """Batches of `size` groups in random order, one take of each group."""
    groups: dict[str, dict[int, list[Example]]] = {}
    for number, example in enumerate(learn):
        groups.setdefault(example.group or str(number), {}).setdefault(example.take, []).append(example)
    order = list(groups.values())
    rng.shuffle(order)
    for start in range(0, len(order), size):
        yield [example for takes in order[start : start + size] for example in takes[rng.choice(sorted(takes))]]


def gathered(words: Words, calls: Sequence[Example], heads: Heads, said: Sequence[Phrase]) -> tuple[Batch, Tensor]:
    """The calls as a batch, and the standardised features of the utterances, (utterances, width). A gradient reaches all that learns."""
    texts = [turn.text for call in calls for turn in call.turns] + [phrase.text for phrase in said]
    features, states = words.read(texts)
    features = heads.standardise(features)
    starts = np.cumsum([0, *(len(call.turns) for call in calls)]).tolist()
    meant = torch.zeros(starts[-1], heads.get_buffer("seen").shape[1])
    asked = [n for n, call in enumerate(calls) if "resolution" in call.allowed and call.turns]
    if asked:
        rows = torch.cat([torch.arange(starts[n], starts[n + 1]) for n in asked])
        meant = meant.index_copy(0, rows, torch.cat(words.meanings([calls[n] for n in asked], heads, states)))
    return Batch(calls, features[: starts[-1]], meant, starts), features[starts[-1] :]


def loss_of(batch: Batch, question: str, heads: Heads, rng: random.Random) -> Tensor:
    """Mean loss of a question over the calls that were asked it: the labels', the evidence's and, for the resolution, the cause's."""
    asked = [n for n, call in enumerate(batch.calls) if question in call.allowed]
    if not asked:
        return torch.zeros(())
    calls = [batch.calls[n] for n in asked]
    logits, attention, summary = answers(batch, asked, question, heads, rng)
    weight = torch.tensor([call.weight for call in calls])
    loss = (-(torch.log_softmax(logits, 1) + allowed_mask(calls, question)).logsumexp(1) * weight).sum() / weight.sum()
    shown = torch.zeros_like(attention)
    for row, call in enumerate(calls):
        wanted = set(call.evidence.get(question, ()))
        for column, number in enumerate(view(question, call.turns).turns):
            shown[row, column] = float(number in wanted)
    pointed = shown.sum(1) > 0
    if pointed.any():
        loss = loss - _EVIDENCE_WEIGHT * ((attention * shown).sum(1)[pointed].clamp_min(1e-6)).log().sum() / len(calls)
    if question == "resolution":
        rows = [row for row, call in enumerate(calls) if "cause" in call.allowed]
        if rows:
            target = torch.tensor([CAUSES.index(calls[row].allowed["cause"][0]) for row in rows])
            loss = loss + _CAUSE_WEIGHT * functional.cross_entropy(heads.cause(summary[rows]), target)
    return loss


def allowed_mask(calls: Sequence[Example], question: str) -> Tensor:
    """0 where a call may have the label, far below where not, (calls, labels)."""
    return torch.tensor([[0.0 if label in call.allowed[question] else -1e9 for label in LABELS[question]] for call in calls])


def answers(batch: Batch, asked: Sequence[int], question: str, heads: Heads, rng: random.Random | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """One head over the calls numbered in `asked`, padded; with `rng` left-out turns and hidden places are drawn, as in training."""
    views = [view(question, batch.calls[n].turns) for n in asked]
    longest = max(1, *(len(seen.turns) for seen in views))
    numbers = torch.zeros(len(asked), longest, dtype=torch.long)
    speakers, places = torch.zeros_like(numbers), torch.zeros_like(numbers)
    mask = torch.zeros(len(asked), longest, dtype=torch.bool)
    for row, (n, seen) in enumerate(zip(asked, views, strict=True)):
        count = len(seen.turns)
        numbers[row, :count] = batch.starts[n] + torch.tensor(seen.turns, dtype=torch.long)
        speakers[row, :count] = torch.tensor([SPEAKER_IDS[batch.calls[n].turns[turn].speaker] for turn in seen.turns], dtype=torch.long)
        hidden = rng is not None and rng.random() < _NOWHERE_SHARE
        places[row, :count] = NOWHERE if hidden else torch.tensor(seen.places, dtype=torch.long)
        mask[row, :count] = True
        if rng is not None and count > 2:
            kept = {*batch.calls[n].evidence.get(question, ())}
            mask[row, [c for c in range(count) if seen.turns[c] not in kept and rng.random() < _TURN_DROP][: count - 2]] = False
    head = cast(Head, heads.heads[question])
    features = batch.features[numbers]
    if question == "resolution":
        features = torch.cat([features, batch.meant[numbers]], dim=-1)
    answer: tuple[Tensor, Tensor, Tensor] = head(head.turn_states(features, speakers, places), mask)
    return answer


def held_loss(held: Sequence[Batch], question: str, heads: Heads) -> float:
    """Mean loss per call that was asked the question."""
    losses = [loss for batch in held for loss in _losses(batch, question, heads)]
    return sum(losses) / max(1, len(losses))


def _losses(batch: Batch, question: str, heads: Heads) -> list[float]:
    asked = [n for n, call in enumerate(batch.calls) if question in call.allowed]
    if not asked:
        return []
    with torch.no_grad():
        logits, _, _ = answers(batch, asked, question, heads)
        allowed = allowed_mask([batch.calls[n] for n in asked], question)
        return [float(loss) for loss in -(torch.log_softmax(logits, 1) + allowed).logsumexp(1)]


def tone_loss(features: Tensor, said: Sequence[Phrase], heads: Heads) -> Tensor:
    """Mean loss of utterances whose tone people judged; features (utterances, width), standardised."""
    loss = torch.zeros(())
    for name, layer in heads.tones.items():
        rows = [row for row, phrase in enumerate(said) if phrase.question == name]
        if rows:
            wanted = torch.tensor([said[row].values for row in rows])
            made = layer(functional.dropout(features[rows], 0.1, heads.training))
            measure = functional.mse_loss if name == "politeness" else functional.binary_cross_entropy_with_logits
            loss = loss + measure(made, wanted)
    return loss
