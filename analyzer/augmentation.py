"""What happens to words on their way to the model: recognisers mishear, redactors blank out, turns merge and split, calls break off."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Final

from analyzer.examples import Example
from analyzer.records import Speaker, Turn

_CUTS: Final = 2
_MIN_CUT: Final = 4
_PART_WEIGHT: Final = 0.5
_FILLERS: Final = ("um", "uh", "er", "like")
_NAMED: Final = re.compile(r"\b([Tt]his is|[Mm]y name is|[Mm]y name's|Mrs\.?|Mr\.?|Ms\.?|Miss|[Ss]peaking with|[Ii]t's|I'm) ([A-Z][a-z]+)\b")
_NUMBER: Final = re.compile(r"\b(?:\d[ -]?){6,}\d\b")
_MERGED: Final = 0.2
_CUT_IN_TWO: Final = 0.1
_SWAPPED: Final = 0.02
_OTHER_SIDE: Final[Mapping[Speaker, Speaker]] = {"agent": "customer", "customer": "agent", "unknown": "unknown"}


@cache
def _misheard() -> dict[str, tuple[str, ...]]:
    """Words to what a recogniser wrote in their place ("" where it dropped them), heard on the project's own recordings."""
    path = resources.files("analyzer").joinpath("data", "misheard.json")
    return {word: tuple(heard) for word, heard in json.loads(path.read_text(encoding="utf-8")).items()}


def speech_shaped(text: str, *, errors: float, key: str) -> str:
    """The text as a redactor and a recogniser might leave it: placeholders, lower case, no punctuation, fillers, a share `errors` of the words wrong.

    Most wrong words are misheard as a recogniser did mishear them, or lost, some doubled. The same text and `key` give the same words.
    """
    rng = random.Random(f"{key}\n{text}")  # noqa: S311 - reproducible sampling, no secret
    words = re.sub(r"[^\w\s'\[\]]", " ", _blanked(text.replace("\u2019", "'"), rng).lower()).split()
    out: list[str] = []
    for word in words:
        if rng.random() < 0.02:
            out.append(rng.choice(_FILLERS))
        if rng.random() >= errors:
            out.append(word)
            continue
        kind = rng.random()
        if kind < 0.7:
            out += rng.choice(_misheard().get(word, ("",))).split()
        elif kind < 0.8:
            out += [word, word]
    placeholders = {name: f"[{name.upper()}]" for name in ("card", "name", "phone")}
    whole = " ".join(out or words)
    return re.sub(r"\[(\w+)\]", lambda found: placeholders.get(found[1], found[0].upper()), whole)


def _blanked(text: str, rng: random.Random) -> str:
    if rng.random() < 0.7:
        text = _NAMED.sub(r"\1 [NAME]", text)
    return _NUMBER.sub(lambda _: rng.choice(("[CARD]", "[PHONE]")), text)


def roughened(example: Example, *, take: int, errors: float, seed: int) -> Example:
    """A call as a recogniser and a channel mix-up might hand it over: speech-shaped words, turns merged, cut in two, now and then the wrong speaker.

    Evidence follows its turns. Two versions of a call that share turns share what happens to those.
    """
    turns: list[Turn] = []
    came_from: list[set[int]] = []
    for number, turn in enumerate(example.turns):
        rng = random.Random(f"{seed}/{take}\n{turn.text}")  # noqa: S311
        said = dataclasses.replace(turn, text=speech_shaped(turn.text, errors=errors, key=f"{seed}/{take}"))
        words = said.text.split()
        if turns and turns[-1].speaker == said.speaker and rng.random() < _MERGED:
            turns[-1] = dataclasses.replace(turns[-1], text=f"{turns[-1].text} {said.text}")
            came_from[-1].add(number)
        elif len(words) > 8 and rng.random() < _CUT_IN_TWO:
            cut = rng.randint(3, len(words) - 3)
            turns += [dataclasses.replace(said, text=" ".join(part)) for part in (words[:cut], words[cut:])]
            came_from += [{number}, {number}]
        else:
            if rng.random() < _SWAPPED:
                said = dataclasses.replace(said, speaker=_OTHER_SIDE[said.speaker])
            turns.append(said)
            came_from.append({number})
    evidence = {
        question: tuple(place for place, numbers in enumerate(came_from) if numbers & set(wanted)) for question, wanted in example.evidence.items()
    }
    return dataclasses.replace(example, turns=tuple(turns), evidence=evidence, take=take)


def shortened(example: Example, *, seed: int) -> list[Example]:
    """Shorter calls whose answers follow from the codebook, so that a style cannot stand in for the words that decide.

    A call cut off before its close is `neutral` in closing (not derived from calls that end grumbling: their anger may well be older than the close);
    a call without the turns that made the agent courteous or discourteous is `neutral` in courtesy.
    """
    rng = random.Random(f"{seed}/{example.take}/{len(example.turns)}/{example.turns[:1]}")  # noqa: S311
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
    return dataclasses.replace(example, turns=turns, allowed=allowed, evidence={}, weight=_PART_WEIGHT * example.weight)
