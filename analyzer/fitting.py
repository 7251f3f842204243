"""Fits the model to labelled calls: the heads, and as many of the encoder's upper layers as asked; early stop, resuming, temperatures."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from analyzer.batches import Batch, Words, allowed_mask, answers, drawn, gathered, held_loss, loss_of, tone_loss
from analyzer.examples import Example, Phrase
from analyzer.network import Heads
from analyzer.records import CAUSES, LABELS

if TYPE_CHECKING:
    from analyzer.network import Encoder

_SEEN_CALLS: Final = 1000
_HELD_AT_ONCE: Final = 64
_WARM_UP_STEPS: Final = 30
#: Share of the averaged weights that stays at each step, once there were enough steps: about the last hundred count.
_MEMORY: Final = 0.99
_HEAD_OF: Final = {question: (f"heads.heads.{question}.", *(("heads.cause.",) if question == "resolution" else ())) for question in LABELS}
_TEMPERATURES: Final = np.geomspace(0.5, 6.0, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What fitting gave: encoder and heads at their best held-out loss, a temperature per question, and how like training calls a call must be."""

    encoder: Encoder
    heads: Heads
    temperature: Mapping[str, float]
    min_similarity: float
    #: Share of each label among the whole labelled calls, per question.
    mix: Mapping[str, Mapping[str, float]]
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to fit; `tuned_layers` of the encoder's upper layers learn with the heads, at `encoder_rate`."""

    epochs: int = 40
    patience: int = 8
    batch: int = 32
    learning_rate: float = 1e-3
    tuned_layers: int = 0
    encoder_rate: float = 6e-5
    phrases_per_call: int = 3
    seed: int = 0
    #: Where the state after each epoch is kept, so that a run that was broken off goes on from there; `run` says whose state it is.
    keep: Path | None = None
    run: str = ""


def fit(
    learn: Sequence[Example],
    hold: Sequence[Example],
    encoder: Encoder,
    heads: Heads,
    *,
    schedule: Schedule,
    phrases: Sequence[Phrase] = (),
    progress: Callable[[int, int, float], None] | None = None,
) -> Fitted:
    """Fit `heads` (and the encoder's upper layers) in place to `learn`, stopping at the best loss on `hold`; the same seed gives the same weights.

    `progress(epoch, epochs, held_out_loss)` is called after every epoch.
    """
    texts = [turn.text for example in (*learn, *hold) for turn in example.turns] + [phrase.text for phrase in phrases]
    words = Words(encoder, texts, tuned=schedule.tuned_layers, listening=len(heads.listener.layers))
    if not len(heads.get_buffer("seen")):  # fresh heads: a model being adapted keeps the scale its weights were made for
        _settle_scale(words, learn, heads)
    descent = _Descent(words, heads, schedule, max(1, len({example.group or str(n) for n, example in enumerate(learn)})))
    with torch.random.fork_rng():
        torch.manual_seed(schedule.seed)
        descent.resume()
        while descent.epoch < schedule.epochs and descent.stale < schedule.patience:
            descent.run_epoch(learn, phrases)
            loss = descent.judge(hold)
            if progress is not None:
                progress(descent.epoch, schedule.epochs, loss)
    descent.restore_best()
    heads.eval()
    encoder.eval()
    with torch.no_grad():
        own = [example for example in learn if example.weight >= 1.0 and example.take == 0][-_SEEN_CALLS:]
        heads.seen = torch.cat([heads.get_buffer("seen"), _likenesses(words, own, heads)])[-_SEEN_CALLS:]
        nearest = sorted((_likenesses(words, hold, heads) @ heads.get_buffer("seen").T).amax(1).tolist())
    # Far below the least familiar held-out call: only what is of another kind altogether (another language, say) is refused.
    floor = nearest[0] - (1.0 - nearest[0]) if nearest else -1.0
    temperature = _temperatures(_batched(words, hold, heads), heads)
    return Fitted(mix=_mix(learn, hold), encoder=encoder, heads=heads, temperature=temperature, min_similarity=floor, epochs=descent.epoch)


def _settle_scale(words: Words, learn: Sequence[Example], heads: Heads) -> None:
    with torch.no_grad():
        turns = [turn.text for example in learn if example.take == 0 for turn in example.turns]
        features = torch.cat([words.features(turns[start : start + 2048]) for start in range(0, len(turns), 2048)])
    heads.get_buffer("mean").copy_(features.mean(0))
    heads.get_buffer("scale").copy_(features.std(0).clamp_min(1e-4))


def _mix(learn: Sequence[Example], hold: Sequence[Example]) -> dict[str, dict[str, float]]:
    whole = [example for example in (*learn, *hold) if example.take == 0 and example.weight >= 1.0]
    out = {}
    for question in ("courtesy", "closing"):
        counts = Counter(example.allowed[question][0] for example in whole if question in example.allowed)
        # One call more of each label than there were: a label nobody gave is rare, not impossible.
        out[question] = {label: (counts[label] + 1) / (counts.total() + len(LABELS[question])) for label in LABELS[question]}
    return out


def _likenesses(words: Words, calls: Sequence[Example], heads: Heads) -> Tensor:
    """Mean last-layer embedding of each call, unit length, (calls, hidden)."""
    out = [heads.get_buffer("seen").new_zeros(0, heads.get_buffer("seen").shape[1])]
    for start in range(0, len(calls), _HELD_AT_ONCE):
        part = calls[start : start + _HELD_AT_ONCE]
        features = words.features([turn.text for call in part for turn in call.turns])[:, -out[0].shape[1] :]
        out.append(functional.normalize(torch.stack([one.mean(0) for one in torch.split(features, [len(call.turns) for call in part])]), dim=1))
    return torch.cat(out)


class _Descent:
    """The state of a fitting: weights, optimiser, chance, the best so far. Kept on disk after each epoch where asked, and taken up from there."""

    def __init__(self, words: Words, heads: Heads, schedule: Schedule, groups: int) -> None:
        self.words, self.heads, self.schedule = words, heads, schedule
        self.rng = random.Random(schedule.seed)  # noqa: S311 - reproducible sampling, no secret
        self.epoch, self.stale = 0, 0
        self.best_loss: dict[str, float] = {}
        upper = words.encoder.layers[len(words.encoder.layers) - schedule.tuned_layers :] if schedule.tuned_layers else ()
        #: Everything that learns or is settled by learning, by name.
        self.learning: dict[str, Tensor] = {f"heads.{name}": tensor for name, tensor in heads.state_dict(keep_vars=True).items()}
        for number, layer in enumerate(upper, start=len(words.encoder.layers) - schedule.tuned_layers):
            self.learning |= {f"layers.{number}.{name}": tensor for name, tensor in layer.state_dict(keep_vars=True).items()}
        self.best, self.average = self._copy(), self._copy()
        heads.listener.requires_grad_(words.learning)
        learning = [name for name, tensor in self.learning.items() if tensor.requires_grad]
        words_rate = [name for name in learning if name.startswith(("layers.", "heads.listener."))]
        rest = [name for name in learning if name not in words_rate]
        self.parameters = [self.learning[name] for name in (*rest, *words_rate)]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [self.learning[name] for name in rest], "lr": schedule.learning_rate},
                {"params": [self.learning[name] for name in words_rate], "lr": schedule.encoder_rate},
            ],
            weight_decay=0.05,
        )
        steps = schedule.epochs * -(-groups // schedule.batch)
        self.pace = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: min(1.0, (step + 1) / _WARM_UP_STEPS) * max(0.02, 1 - step / (1.05 * steps))
        )

    def run_epoch(self, learn: Sequence[Example], phrases: Sequence[Phrase]) -> None:
        """Learn once from a take of every group."""
        self.heads.train()
        for calls in drawn(learn, self.rng, self.schedule.batch):
            said = self.rng.sample(phrases, min(len(phrases), self.schedule.phrases_per_call * self.schedule.batch))
            batch, tones = gathered(self.words, calls, self.heads, said)
            loss = torch.stack([loss_of(batch, question, self.heads, self.rng) for question in LABELS]).sum() + tone_loss(tones, said, self.heads)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()
            self.pace.step()
            self._follow()
        self.epoch += 1

    def _follow(self) -> None:
        """Draw the average of the weights along: it generalises better than the last step's (Polyak & Juditsky 1992)."""
        step = self.pace.last_epoch
        stay = min(_MEMORY, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, tensor in self.learning.items():
                self.average[name].lerp_(tensor, 1 - stay)

    def judge(self, hold: Sequence[Example]) -> float:
        """The held-out loss of the averaged weights; remembers the best of them and keeps the state on disk."""
        self.heads.eval()
        now = self._copy()
        self._put(self.average)
        held = _batched(self.words, hold, self.heads)
        losses = {question: held_loss(held, question, self.heads) for question in LABELS}
        total = sum(losses.values())
        self.stale += 1
        # Heads on an encoder that learns belong to it as it is; on one that does not, each head has its own best moment.
        for part, loss in {"": total}.items() if self.words.learning else losses.items():
            if loss < self.best_loss.get(part, math.inf):
                self.best_loss[part], self.stale = loss, 0
                others = tuple(name for question in LABELS if part and question != part for name in _HEAD_OF[question])
                self.best |= {name: tensor for name, tensor in self._copy().items() if not name.startswith(others)}
        self._put(now)
        self._keep()
        return total

    def restore_best(self) -> None:
        """Put the best weights back."""
        self._put(self.best)

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.learning.items()}

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self.learning.items():
                tensor.copy_(weights[name])

    def _keep(self) -> None:
        from safetensors.torch import save_file

        if self.schedule.keep is None:
            return
        tensors = {f"now/{name}": tensor for name, tensor in self._copy().items()} | {f"best/{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"average/{name}": tensor for name, tensor in self.average.items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"moments/{number}/{name}": tensor.clone() for name, tensor in moments.items()}
        tensors["chance"] = torch.get_rng_state()
        facts = {"run": self.schedule.run, "epoch": self.epoch, "stale": self.stale, "best_loss": self.best_loss, "rng": self.rng.getstate()}
        part = self.schedule.keep.with_suffix(".part")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata={"facts": json.dumps(facts)})
        part.replace(self.schedule.keep)

    def resume(self) -> None:
        """Take up the state kept by a run of the same data and options, if there is one."""
        from safetensors import safe_open

        if self.schedule.keep is None or not self.schedule.keep.is_file():
            return
        with safe_open(self.schedule.keep, framework="pt") as kept:
            facts: dict[str, Any] = json.loads(kept.metadata()["facts"])
            tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - it is no dict
        if facts["run"] != self.schedule.run:
            return
        self.epoch, self.stale, self.best_loss = facts["epoch"], facts["stale"], facts["best_loss"]
        version, numbers, rest = facts["rng"]
        self.rng.setstate((version, tuple(numbers), rest))
        self._put({name.removeprefix("now/"): tensor for name, tensor in tensors.items() if name.startswith("now/")})
        self.best, self.average = (
            {name.removeprefix(kind): tensor.clone() for name, tensor in tensors.items() if name.startswith(kind)} for kind in ("best/", "average/")
        )
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("moments/"):
                _, number, moment = name.split("/")
                state.setdefault(int(number), {})[moment] = tensor
        self.optimiser.load_state_dict({"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]})
        steps = int(next(iter(state.values()))["step"]) if state else 0
        self.pace.last_epoch = steps
        for group, base in zip(self.optimiser.param_groups, self.pace.base_lrs, strict=True):
            group["lr"] = base * self.pace.lr_lambdas[0](steps)
        torch.set_rng_state(tensors["chance"])


def _batched(words: Words, calls: Sequence[Example], heads: Heads) -> list[Batch]:
    with torch.no_grad():
        return [gathered(words, calls[start : start + _HELD_AT_ONCE], heads, ())[0] for start in range(0, len(calls), _HELD_AT_ONCE)]


def _temperatures(held: Sequence[Batch], heads: Heads) -> dict[str, float]:
    """Per question the temperature of least held-out loss; 1 where nothing is held out.

    After Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    out = dict.fromkeys((*LABELS, "cause"), 1.0)
    with torch.no_grad():
        for question in LABELS:
            logits, allowed, causes, wanted = [], [], [], []
            for batch in held:
                asked = [n for n, call in enumerate(batch.calls) if question in call.allowed]
                if not asked:
                    continue
                calls = [batch.calls[n] for n in asked]
                answer, _, summary = answers(batch, asked, question, heads)
                logits.append(answer)
                allowed.append(allowed_mask(calls, question))
                rows = [row for row, call in enumerate(calls) if question == "resolution" and "cause" in call.allowed]
                causes.append(heads.cause(summary[rows]))
                wanted += [[0.0 if cause in calls[row].allowed["cause"] else -1e9 for cause in CAUSES] for row in rows]
            if logits:
                out[question] = _coolest(torch.cat(logits), torch.cat(allowed))
            if wanted:
                out["cause"] = _coolest(torch.cat(causes), torch.tensor(wanted))
    return out


def _coolest(logits: Tensor, allowed: Tensor) -> float:
    losses = [float(-(torch.log_softmax(logits / t, 1) + allowed).logsumexp(1).mean()) for t in _TEMPERATURES]
    return round(float(_TEMPERATURES[int(np.argmin(losses))]), 4)
