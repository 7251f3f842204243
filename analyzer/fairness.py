"""Whether scores change with who seems to speak: the same calls with other names, spellings and phrasings, scored again."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, TypeAlias

import numpy as np

from analyzer.agreement import Interval, Ints, bootstrap
from analyzer.evaluation import Prediction
from analyzer.labels import LabelledCall
from analyzer.records import DIMENSIONS, LABELS, Transcript, Turn

#: Predictions per dimension of transcripts, in their order.
Score: TypeAlias = Callable[[Sequence[Transcript]], Sequence[Mapping[str, Prediction]]]
_PLACEHOLDER: Final = "[NAME]"
#: Which place of the lists a placeholder's name is taken from: one person per side.
_UNNAMED: Final = {"agent": 0, "customer": 1, "unknown": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One way to word a call otherwise: `kind` (`names`, `control`, `spelling`, `phrasing`), `name`, and what it does to a turn.

    It is compared with the calls as they are, or, where `reference` is given, with them worded so (`against` names that).
    """

    kind: str
    name: str
    rewrite: Callable[[Turn], str]
    against: str = "as said"
    reference: Callable[[Turn], str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What a version did to one dimension of the `n` calls whose words it changes.

    `figures` holds `flipped`, the share of calls whose answer (label or abstention) is another than in the wording compared with, and `change`,
    the mean change of the probability of the `worst_label`; empty where no call changed.
    """

    kind: str
    version: str
    against: str
    dimension: str
    worst_label: str
    n: int
    figures: Mapping[str, Interval]


def shifts(
    calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]], score: Score, *, resamples: int = 1000, seed: int = 0
) -> tuple[Shift, ...]:
    """Counterfactual flips: every version of `versions` per dimension. `predictions` are the calls' own, beside `calls`; `score` makes new ones.

    Intervals are percentile bootstraps over conversations. A flip share says little by itself, for any change of words flips some answers: compare it
    with the `control` version's.
    """
    out: list[Shift] = []
    references: dict[str, list[Mapping[str, Prediction]]] = {}
    for version in versions():
        before = [call.transcript if version.reference is None else reworded(call.transcript, version.reference) for call in calls]
        after = [reworded(call.transcript, version.rewrite) for call in calls]
        changed = [number for number in range(len(calls)) if after[number] != before[number]]
        if version.reference is not None and version.against not in references:
            references[version.against] = _again(calls, predictions, before, score)
        base = predictions if version.reference is None else references[version.against]
        made = _again(calls, predictions, after, score)
        pairs = [(calls[number].conversation, base[number], made[number]) for number in changed]
        out += [_shift(version, dimension, pairs, (resamples, seed)) for dimension in DIMENSIONS]
    return tuple(out)


def _again(
    calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]], worded: Sequence[Transcript], score: Score
) -> list[Mapping[str, Prediction]]:
    """Predictions of the calls so worded; a call whose words stayed keeps its own."""
    numbers = [number for number, (call, words) in enumerate(zip(calls, worded, strict=True)) if words != call.transcript]
    made = list(predictions)
    for number, one in zip(numbers, score([worded[number] for number in numbers]) if numbers else (), strict=True):
        made[number] = one
    return made


def _shift(
    version: Version, dimension: str, pairs: Sequence[tuple[str, Mapping[str, Prediction], Mapping[str, Prediction]]], sampling: tuple[int, int]
) -> Shift:
    both = [(unit, before[dimension], after[dimension]) for unit, before, after in pairs if dimension in before and dimension in after]
    worst = LABELS[dimension][0]
    flipped = np.array([_answer(before) != _answer(after) for _, before, after in both], dtype=np.float64)
    change = np.array([after.probabilities[worst] - before.probabilities[worst] for _, before, after in both], dtype=np.float64)

    def measure(rows: Ints) -> dict[str, float]:
        return {"flipped": float(flipped[rows].mean()), "change": float(change[rows].mean())}

    figures = bootstrap(measure, [unit for unit, _, _ in both], resamples=sampling[0], seed=sampling[1])
    return Shift(
        kind=version.kind,
        version=version.name,
        against=version.against,
        dimension=dimension,
        worst_label=worst,
        n=len(both),
        figures=figures,
    )


def _answer(made: Prediction) -> str | None:
    return None if made.abstained else max(made.probabilities, key=lambda label: made.probabilities[label])


def reworded(transcript: Transcript, rewrite: Callable[[Turn], str]) -> Transcript:
    """The transcript with every turn's text rewritten; the times of single words are given up where the words change."""
    turns = []
    for turn in transcript.turns:
        text = rewrite(turn)
        turns.append(turn if text == turn.text else dataclasses.replace(turn, text=text, words=()))
    return dataclasses.replace(transcript, turns=tuple(turns))


@cache
def versions() -> tuple[Version, ...]:
    """The versions of `data/fairness.toml`: every origin of names against the first, then the wordings in the file's order."""
    rules = tomllib.loads(resources.files("analyzer").joinpath("data/fairness.toml").read_text(encoding="utf-8"))
    first, *others = rules["names"]
    places = {name.lower(): place for origin in rules["names"] for place, name in enumerate(origin["given"])}
    english = _renaming(first["given"], places)
    names = [
        Version(kind="names", name=origin["origin"], rewrite=_renaming(origin["given"], places), against=first["origin"], reference=english)
        for origin in others
    ]
    wordings = [Version(kind=one["kind"], name=one["name"], rewrite=_wording(one["replace"])) for one in rules["wording"]]
    return (*names, *wordings)


def _renaming(given: Sequence[str], places: Mapping[str, int]) -> Callable[[Turn], str]:
    pattern = _whole(rf"({'|'.join(map(re.escape, places))})(['’]s)?")

    def rewrite(turn: Turn) -> str:
        text = pattern.sub(lambda found: _cased(given[places[found[1].lower()]], found[1]) + (found[2] or ""), turn.text)
        name = given[_UNNAMED[turn.speaker]]
        return text.replace(_PLACEHOLDER, name.lower() if text.replace(_PLACEHOLDER, "").islower() else name)

    return rewrite


def _wording(replace: Sequence[tuple[str, str]]) -> Callable[[Turn], str]:
    rules = [(_whole(pattern.replace("'", "['’]?")), new) for pattern, new in replace]

    def rewrite(turn: Turn) -> str:
        text = turn.text
        for pattern, new in rules:
            text = pattern.sub(lambda found, new=new: _cased(found.expand(new), found[0]), text)  # type: ignore[misc]
        if text == turn.text:
            return text
        text = re.sub(r"\s+(?=[.,?!])", "", re.sub(r"\s+", " ", text).strip())
        if not re.search(r"\w", text):
            return turn.text
        return text[0].upper() + text[1:] if turn.text.lstrip()[:1].isupper() else text

    return rewrite


def _whole(pattern: str) -> re.Pattern[str]:
    """Whole words: not inside a placeholder, a hyphened word, an address or "a.m."."""
    return re.compile(rf"(?<![\w\['’@/-])(?<!\w\.)(?:{pattern})(?![\w\]'’@/-]|\.\w)", re.I)


def _cased(new: str, old: str) -> str:
    if old.islower():
        return new.lower()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new
