"""What there is to learn from: calls with what raters said of them, and single utterances whose tone people judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from analyzer.records import Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A call to learn from.

    `allowed` maps each labelled question to the labels it may have (one, where a rater decided), `evidence` to the turns that carry it;
    `weight` scales its loss. Examples of one `group` share turns (a call and its parts, two versions of a call) and are learnt from together;
    of a group's `takes` (wordings of the same call) one is drawn at random in each epoch.
    """

    turns: tuple[Turn, ...]
    allowed: Mapping[str, tuple[str, ...]]
    evidence: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    weight: float = 1.0
    group: str = ""
    take: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """A single utterance with what people said of it: `values` beside the names of the tone `question` in `TONES`."""

    text: str
    question: str
    values: tuple[float, ...]
