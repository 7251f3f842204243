"""A team's own questions about a call: must-says and no-nos with weights, versioned by digest."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final

from analyzer.config import digest as _digest
from analyzer.cues import KINDS, Cue
from analyzer.errors import ConfigError
from analyzer.records import Transcript, Turn

_QUESTION: Final[Mapping[str, type]] = {
    "id": str, "text": str, "kind": str, "phrase": str, "pattern": str, "cue": str, "speaker": str, "where": str,
    "weight": float, "critical": bool, "applies_if": str,
}  # fmt: skip
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {"kind": ("must_say", "no_no"), "cue": KINDS, "speaker": ("agent", "customer", "any")}
_WHERE: Final = re.compile(r"anywhere|(first|last)_([1-9]\d{0,3})_(?:(agent|customer)_)?turns")
_MAX_PATTERN_CHARS: Final = 300
#: A repeat around a repeat or around alternatives ("(a+)+", "(a|aa)*") can take for ever on an unlucky text.
_NESTED: Final = re.compile(r"[*+}|][^()]*\)\s*(?:[*+]|\{\d*,\d*\})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question; exactly one of `phrase`, `pattern` and `cue` is given."""

    id: str
    text: str
    kind: str
    phrase: str | None = None
    pattern: str | None = None
    cue: str | None = None
    speaker: str = "agent"
    where: str = "anywhere"
    weight: float = 1.0
    critical: bool = False
    applies_if: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """A named list of questions."""

    name: str
    questions: tuple[Question, ...]

    @property
    def digest(self) -> str:
        """16 hex digits that change with any question."""
        return _digest(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`yes` is good news for either kind of question, `no` bad; `turns` show it (none where what should be said is absent)."""

    question_id: str
    answer: str
    turns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """The weighted share of yes among the questions that apply, 0 to 1 (`None` where none does); the critical ones answered no."""

    score: float | None
    failed_critical: tuple[str, ...] = ()


def read_scorecard(path: Path) -> Scorecard:
    """The scorecard of a TOML file; `data/scorecard_example.toml` shows all of its keys.

    Raises:
        ConfigError: the file cannot be read or a question is wrong: which one, what, and the nearest right word.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), do="Give a scorecard: TOML in UTF-8.") from None
    _known(data, ("scorecard", "question"), str(path))
    head, questions = data.get("scorecard"), data.get("question")
    if not isinstance(head, dict) or not isinstance(head.get("name"), str):
        raise ConfigError("has no name", where=str(path), do='Begin with [scorecard] and name = "…".')
    _known(head, ("name",), f"{path}, [scorecard]")
    if not isinstance(questions, list) or not questions or not all(isinstance(raw, dict) for raw in questions):
        raise ConfigError("has no questions", where=str(path), do="Write at least one [[question]].")
    read = tuple(_question(raw, f"{path}, question {raw.get('id', place)!r}") for place, raw in enumerate(questions, start=1))
    names = [question.id for question in read]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError("two questions have this id", where=f"{path}, question {twice[0]!r}", do="Give each its own.")
    return Scorecard(name=head["name"], questions=read)


def answer(card: Scorecard, transcript: Transcript, cues: Sequence[Cue]) -> tuple[Answer, ...]:
    """Every question's answer: `yes`, `no` or `not_applicable` (its condition was not heard, or nobody spoke where it looks)."""
    return tuple(_answer(question, transcript.turns, cues) for question in card.questions)


def total(card: Scorecard, answers: Sequence[Answer]) -> Total:
    """The call's score on the card."""
    given = {item.question_id: item.answer for item in answers}
    counted = [question for question in card.questions if given.get(question.id) in ("yes", "no")]
    weights = sum(question.weight for question in counted)
    earned = sum(question.weight for question in counted if given[question.id] == "yes")
    failed = tuple(question.id for question in counted if question.critical and given[question.id] == "no")
    return Total(score=earned / weights if weights else None, failed_critical=failed)


def _answer(question: Question, turns: Sequence[Turn], cues: Sequence[Cue]) -> Answer:
    if question.applies_if is not None and not _condition(question.applies_if, turns, cues):
        return Answer(question_id=question.id, answer="not_applicable")
    places = _places(question, turns)
    if not places:
        return Answer(question_id=question.id, answer="not_applicable")
    if question.cue is not None:
        said = {cue.turn for cue in cues if cue.kind == question.cue}
    else:
        wanted = re.compile(question.pattern, re.I) if question.pattern is not None else _phrase(question.phrase or "")
        said = {number for number in places if wanted.search(turns[number].text)}
    hits = tuple(number for number in places if number in said)
    return Answer(question_id=question.id, answer="yes" if bool(hits) == (question.kind == "must_say") else "no", turns=hits)


def _places(question: Question, turns: Sequence[Turn]) -> list[int]:
    """The turns a question looks at: its window first, counted over everybody's turns or one side's, then its speaker's in there."""
    match = _WHERE.fullmatch(question.where)
    numbers = [n for n, turn in enumerate(turns) if match is None or match[3] in (None, turn.speaker)]
    if match is not None and match[1]:
        numbers = numbers[: int(match[2])] if match[1] == "first" else numbers[-int(match[2]) :]
    return [n for n in numbers if question.speaker in ("any", turns[n].speaker)]


def _condition(wanted: str, turns: Sequence[Turn], cues: Sequence[Cue]) -> bool:
    if wanted in KINDS:
        return any(cue.kind == wanted for cue in cues)
    return any(_phrase(wanted).search(turn.text) for turn in turns)


@cache
def _phrase(words: str) -> re.Pattern[str]:
    """The words in order whatever stands between them but letters, with or without their apostrophes."""
    parts = ("['’]?".join(map(re.escape, re.sub(r"['’]", "", word))) for word in re.findall(r"[\w'’]+", words))
    return re.compile(r"\b" + r"\W+".join(parts) + r"\b", re.I)


def _question(raw: Mapping[str, Any], where: str) -> Question:
    _known(raw, tuple(_QUESTION), where)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if _QUESTION[key] is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            values[key] = float(value)
        elif type(value) is _QUESTION[key] and value != "":
            values[key] = value
        else:
            raise ConfigError(f"{key} must be {_QUESTION[key].__name__}, found {value!r}", where=where, do="Mend the value.")
    if missing := [key for key in ("id", "text", "kind") if key not in values]:
        raise ConfigError(f"has no {missing[0]}", where=where, do=f"Write {missing[0]} = …")
    for key, known in _CHOICES.items():
        if key in values and values[key] not in known:
            raise ConfigError(f"{key} {values[key]!r} is unknown", where=where, do=_hint(values[key], known))
    if sum(key in values for key in ("phrase", "pattern", "cue")) != 1:
        raise ConfigError("needs exactly one of phrase, pattern and cue", where=where, do="Keep one of them.")
    if not _WHERE.fullmatch(values.get("where", "anywhere")):
        do = _hint(values["where"], ("anywhere", "first_3_turns", "last_3_turns", "first_3_agent_turns", "last_3_customer_turns"))
        raise ConfigError(f"where {values['where']!r} is unknown", where=where, do=do)
    if not 0 < values.get("weight", 1.0) <= 1000:
        raise ConfigError(f"weight is {values['weight']}", where=where, do="Choose a weight above 0 and up to 1000.")
    for key in ("phrase", "applies_if"):
        if key in values and not re.search(r"\w", values[key]):
            raise ConfigError(f"{key} holds no word", where=where, do="Write the words to listen for.")
    if "pattern" in values:
        _check_pattern(values["pattern"], where)
    return Question(**values)


def _check_pattern(pattern: str, where: str) -> None:
    try:
        compiled = re.compile(pattern, re.I)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"pattern is no regular expression: {error}", where=where, do="Mend the pattern.") from None
    if len(pattern) > _MAX_PATTERN_CHARS:
        raise ConfigError(f"pattern is {len(pattern)} characters long", where=where, do=f"Keep it under {_MAX_PATTERN_CHARS}.")
    if _NESTED.search(pattern):
        raise ConfigError(
            "pattern repeats a group that itself repeats or branches", where=where, do="It could run for ever; write it without the outer repeat."
        )
    if compiled.search(""):
        raise ConfigError("pattern matches no words at all", where=where, do="Write a pattern that needs at least one character.")


def _known(raw: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in raw:
        if key not in known:
            raise ConfigError(f"unknown key {key!r}", where=where, do=_hint(key, known))


def _hint(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(known)}."
