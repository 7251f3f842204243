"""Who says what: words of several channels to turns in order, and which channel is the agent's, told from the words alone."""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from analyzer.errors import ModelError
from analyzer.records import Speaker, Turn, Word
from analyzer.voices import weights_dir

if TYPE_CHECKING:
    from analyzer.audio import Utterance

__all__ = ["tell_agent", "to_turns"]

#: A voice that pauses this long has ended its phrase.
PAUSE_S: Final = 0.8
#: Phrases of one voice further apart than this are two turns even if nobody else spoke.
SILENCE_S: Final = 3.0
#: At most this long and this many words: a "mm-hm" that takes no turn from the other.
BACKCHANNEL_S: Final = 1.0
BACKCHANNEL_WORDS: Final = 3


# Roles


def role_tokens(text: str) -> list[str]:
    """Words as a recogniser writes them: lower case, no punctuation but the apostrophe."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


def tell_agent(texts: Mapping[int, str]) -> tuple[int | None, float]:
    """Which channel (or voice) is the agent's, from all that each said, and how sure that is (0 to 1).

    Each side has log-odds s of being the agent from a logistic regression over its one- and two-word features; of several sides
    exactly one is taken to be the agent, so the probability of side i is exp(s_i) / sum_j exp(s_j). A side alone is the agent
    with probability 1 / (1 + exp(-s)); `None` with the confidence of its being the customer otherwise. Who speaks first counts nothing.

    Returns:
        the channel and the confidence, or `(None, 0.0)` where nobody said a word.
    """
    odds = {channel: _log_odds(tokens) for channel, text in texts.items() if (tokens := role_tokens(text))}
    if not odds:
        return None, 0.0
    if len(odds) == 1:
        ((channel, alone),) = odds.items()
        p = 1.0 / (1.0 + math.exp(-alone))
        return (channel, p) if p >= 0.5 else (None, 1.0 - p)
    top = max(odds.values())
    shares = {channel: math.exp(value - top) for channel, value in odds.items()}
    agent = max(shares, key=lambda channel: shares[channel])
    return agent, shares[agent] / sum(shares.values())


def _log_odds(tokens: Sequence[str]) -> float:
    bias, weights = _role_weights()
    counts = Counter(tokens) + Counter(" ".join(pair) for pair in itertools.pairwise(tokens))
    value = bias + sum(weights[feature] * math.log1p(count) for feature, count in counts.items() if feature in weights)
    return max(-30.0, min(30.0, value))


@functools.cache
def _role_weights() -> tuple[float, Mapping[str, float]]:
    path = weights_dir("roles") / "roles.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return float(raw["bias"]), {str(name): float(weight) for name, weight in raw["weights"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the role weights cannot be read: {error!r}", where=str(path), do="Install analyzer again.") from None


# Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phrase:
    """Words of one channel without a long pause; `loose` is the text of an utterance that came without words."""

    channel: int
    start_s: float
    end_s: float
    words: tuple[Word, ...] = ()
    loose: str = ""
    confidence: float | None = None

    @property
    def is_short(self) -> bool:
        count = len(self.words) or len(self.loose.split())
        return self.end_s - self.start_s <= BACKCHANNEL_S and count <= BACKCHANNEL_WORDS


def to_turns(utterances: Iterable[Utterance], agent: int | None) -> tuple[Turn, ...]:
    """Utterances of all channels, in any order, as turns ordered by `start_s`; no word is lost or doubled.

    Words of a channel are cut into phrases at pauses; a phrase during which another channel says something longer than a
    "mm-hm" is cut where that begins; neighbouring phrases of one channel make a turn, also across a "mm-hm" that falls within it.
    An utterance without words counts as one phrase with its own times. The confidence of a turn is the mean of its words'.

    Args:
        utterances: what was recognised.
        agent: the agent's channel; of the others the one with most words is the customer's. `None`: all are `unknown`.
    """
    phrases = _phrases(utterances)
    if not phrases:
        return ()
    cut = sorted((part for phrase in phrases for part in _cut(phrase, phrases)), key=lambda p: (p.start_s, p.end_s, p.channel, p.loose))
    groups: list[list[_Phrase]] = []
    for phrase in cut:
        target = _continues(phrase, groups)
        if target is None:
            groups.append([phrase])
        else:
            target.append(phrase)
    speakers = _speakers(cut, agent)
    return tuple(_turn(group, speakers) for group in groups)


def _phrases(utterances: Iterable[Utterance]) -> list[_Phrase]:
    words: dict[int, list[Word]] = {}
    out: list[_Phrase] = []
    for said in utterances:
        if said.words:
            words.setdefault(said.channel, []).extend(said.words)
        elif said.text.strip():
            end_s, text = max(said.start_s, said.end_s), " ".join(said.text.split())
            out.append(_Phrase(channel=said.channel, start_s=said.start_s, end_s=end_s, loose=text, confidence=said.confidence))
    for channel, own in words.items():
        own.sort(key=lambda word: (word.start_s, word.end_s, word.text))
        begin, reach = 0, own[0].end_s
        for index in range(1, len(own) + 1):
            if index == len(own) or own[index].start_s - reach >= PAUSE_S:
                out.append(_phrase(channel, own[begin:index]))
                begin = index
            if index < len(own):
                reach = max(reach, own[index].end_s)
    return out


def _phrase(channel: int, words: Sequence[Word]) -> _Phrase:
    start_s = words[0].start_s
    return _Phrase(channel=channel, start_s=start_s, end_s=max(start_s, *(word.end_s for word in words)), words=tuple(words))


def _cut(phrase: _Phrase, phrases: Iterable[_Phrase]) -> list[_Phrase]:
    """The phrase cut where another channel's real phrase begins that is over before this one is."""
    others = (p for p in phrases if p.channel != phrase.channel and not p.is_short)
    inner = sorted(p.start_s for p in others if phrase.start_s < p.start_s and p.end_s < phrase.end_s)
    parts: list[list[Word]] = [[]]
    for word in phrase.words:
        while inner and word.start_s >= inner[0]:
            inner.pop(0)
            if parts[-1]:
                parts.append([])
        parts[-1].append(word)
    return [_phrase(phrase.channel, part) for part in parts if part] or [phrase]


def _continues(phrase: _Phrase, groups: Sequence[list[_Phrase]]) -> list[_Phrase] | None:
    """The turn that the phrase goes on with, if it does: the last one, or its channel's last with only a "mm-hm" begun during it since."""
    for back, group in enumerate(reversed(groups)):
        end_s = max(part.end_s for part in group)
        if group[0].channel == phrase.channel:
            later = groups[len(groups) - back :]
            close = phrase.start_s - end_s < (PAUSE_S * 2 if later else SILENCE_S)
            return group if close and all(other[0].start_s < end_s for other in later) else None
        if len(group) > 1 or not group[0].is_short:
            return None
    return None


def _speakers(phrases: Iterable[_Phrase], agent: int | None) -> dict[int, Speaker]:
    if agent is None:
        return {}
    sizes: Counter[int] = Counter()
    for phrase in phrases:
        sizes[phrase.channel] += len(phrase.words) or len(phrase.loose.split())
    others = [channel for channel in sizes if channel != agent]
    out: dict[int, Speaker] = {agent: "agent"}
    if others:
        out[max(others, key=lambda channel: (sizes[channel], -channel))] = "customer"
    return out


def _turn(group: Sequence[_Phrase], speakers: Mapping[int, Speaker]) -> Turn:
    words = tuple(word for phrase in group for word in phrase.words)
    texts = [" ".join(word.text.strip() for word in phrase.words) if phrase.words else phrase.loose for phrase in group]
    return Turn(
        speaker=speakers.get(group[0].channel, "unknown"),
        text=" ".join(text for text in texts if text),
        start_s=group[0].start_s,
        end_s=max(phrase.end_s for phrase in group),
        channel=group[0].channel,
        confidence=_confidence(group),
        words=words,
    )


def _confidence(group: Sequence[_Phrase]) -> float | None:
    """The mean over words; an utterance without words counts its own confidence once per word of its text."""
    known = [word.confidence for phrase in group for word in phrase.words if word.confidence is not None]
    known += [p.confidence for p in group if not p.words and p.confidence is not None for _ in p.loose.split()]
    return sum(known) / len(known) if known else None
