"""What people say that shows how a call goes: spaCy matchers over the words of each turn, patterns in a data file."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cache
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, Final

from analyzer.deadlines import TIME, due
from analyzer.errors import ConfigError
from analyzer.records import Offer, Promise, Turn

KINDS: Final = (
    "greeting", "thanks", "apology", "empathy", "ownership", "permission", "name_use", "blame", "dismissal", "order", "interruption", "promise",
    "refusal", "confirmation", "churn_signal", "value_signal", "complaint", "repeat_contact", "vulnerability", "opt_out", "disclosure",
    "id_check", "praise", "displeasure", "no_no", "offer", "accept", "decline",
)  # fmt: skip
_KEYS: Final = ("name", "kind", "speaker", "phrases", "tokens", "unless", "needs")
_NEEDS: Final = ("time",)
_SPEAKERS: Final = ("agent", "customer", "any")
_MAX_FORMS: Final = 20_000
#: A run of words stands for about so many at most: past that it is looked up in pieces, which is cheap to load; whole runs are quick to match.
_RUN_FORMS: Final = 16
_GAP_WORDS: Final = 3
_UNLESS_WORDS: Final = 3
_REPLIES: Final = 2

_SIGN: Final = re.compile(r"\(|\)\??|\||[^\s,()|]+")
_WORD: Final = re.compile(r"\[[A-Z]+\]|[^\W_]+(?:['’][^\W_]+)*")
#: Contractions, with and without their apostrophe; what is a word of its own without it ("were", "well", "hell", "shed") is not here.
_ENDINGS: Final = {"'m": "am", "'re": "are", "'ll": "will", "'ve": "have", "'d": "would", "'s": "is"}
_BARE: Final = {
    "im": "i am", "ive": "i have", "youre": "you are", "youve": "you have", "youll": "you will", "theyre": "they are", "theyll": "they will",
    "theyve": "they have", "weve": "we have", "thats": "that is", "its": "it is", "whats": "what is", "hes": "he is", "shes": "she is",
    "itll": "it will", "thatll": "that will", "theres": "there is", "heres": "here is", "wheres": "where is", "lets": "let us", "let's": "let us",
    "cannot": "can not", "can't": "can not", "cant": "can not", "won't": "will not", "wont": "will not", "shan't": "will not", "ain't": "is not",
    "gonna": "going to", "wanna": "want to", "gotta": "got to", "oughta": "ought to", "ma'am": "ma am", "o'clock": "oclock", "ok": "okay",
    "shouldnt": "should not", "hes'": "he is", "couldve": "could have", "shouldve": "should have", "wouldve": "would have", "y'all": "you all",
}  # fmt: skip
_NEGATED: Final = ("do", "does", "did", "is", "are", "was", "were", "have", "has", "had", "would", "could", "should", "need", "must", "might")
#: "ill" is a sickness after these, and "i will" elsewhere unless the turn ends with it.
_SICK_AFTER: Final = frozenset((
    "is", "am", "are", "was", "were", "been", "be", "being", "very", "so", "really", "seriously", "mentally", "feel", "fell", "quite", "taken",
))  # fmt: skip
_CLAUSE_WORDS: Final = 16
_STOP: Final = re.compile(r"[?!;]|\.(?=\s|$)|,? (?:and|but|so|because|if|then) (?=(?:i|you|we|they|he|she|the|that|what|is|can|do)\b)", re.I)
#: What is done while the customer waits is no promise.
_NOW: Final = re.compile(r"^(?:right now|straight ?away|right away|shortly|immediately|in a moment|in due course)$|\b(?:minutes?|seconds?) *$", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """A rule's hit: characters `start_char` to `end_char` of turn `turn` (counted from 0)."""

    kind: str
    turn: int
    start_char: int
    end_char: int
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a cue file, its phrases as written."""

    name: str
    kind: str
    speaker: str
    phrases: tuple[str, ...] = ()
    tokens: tuple[tuple[Mapping[str, Any], ...], ...] = ()
    unless: tuple[str, ...] = ()
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class _Form:
    """What follows a phrase's first run of words: how many words may stand before each further run; and what ties it to the turn's start or end."""

    rule: int
    unless: bool
    at_start: bool
    at_end: bool
    further: tuple[tuple[int, frozenset[str]], ...]


class CueBook:
    """The rules of a cue file, ready to match."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        import spacy
        from spacy.matcher import Matcher, PhraseMatcher

        self.rules: Final = tuple(rules)
        self._vocab: Final = spacy.blank("en").vocab
        self._runs: Final = PhraseMatcher(self._vocab)
        self._tokens: Final = Matcher(self._vocab, validate=True)
        #: By the first run of words of a phrase; runs are all that is looked up, so that a thousand phrases cost what ten do.
        self._forms: Final[dict[str, list[_Form]]] = {}
        for number, rule in enumerate(self.rules):
            self._add(number, rule)

    def _add(self, number: int, rule: Rule) -> None:
        from spacy.tokens import Doc

        for unless, written in [(False, text) for text in rule.phrases] + [(True, text) for text in rule.unless]:
            (_, first), *further = _runs(written, rule.name)
            form = _Form(number, unless, written.startswith("^"), written.endswith("$"), tuple(further))
            for run in first:
                self._forms.setdefault(run, []).append(form)
            for run in first.union(*(runs for _, runs in further)):
                if run and run not in self._runs:
                    self._runs.add(run, [Doc(self._vocab, words=run.split())])
        for pattern in rule.tokens:
            try:
                self._tokens.add(str(number), [[dict(token) for token in pattern]])
            except Exception as error:  # spaCy raises ValueError, MatchPatternError and KeyError by turns
                raise _wrong(f"a token pattern is not spaCy's: {str(error).splitlines()[0]}", rule.name) from None

    def find(self, turns: Sequence[Turn]) -> tuple[Cue, ...]:
        """The cues of the turns, by turn and place; of one kind, the longest where they overlap."""
        return tuple(cue for number, turn in enumerate(turns) for cue in self._turn(number, turn))

    def _turn(self, number: int, turn: Turn) -> list[Cue]:
        words = _words(turn.text)
        matches = self._matches([word for word, _, _ in words]) if words else ()
        heard = {match for match in matches if self.rules[match[2]].speaker in ("any", turn.speaker)}
        kept: list[tuple[int, int, Rule]] = []
        for start, end, place, _ in sorted((match for match in heard if not match[3]), key=lambda match: (match[0] - match[1], match)):
            rule = self.rules[place]
            near = any(unless and place == other and low - _UNLESS_WORDS < end and start < high + _UNLESS_WORDS for low, high, other, unless in heard)
            missing = rule.needs == "time" and not _time_near(turn.text, words[start][1], words[end - 1][2])
            if not near and not missing and not any(rule.kind == other.kind and start < high and low < end for low, high, other in kept):
                kept.append((start, end, rule))
        return [
            Cue(kind=hit.kind, turn=number, start_char=words[start][1], end_char=words[end - 1][2], rule=hit.name)
            for start, end, hit in sorted(kept, key=lambda item: (item[0], item[1]))
        ]

    def _matches(self, words: list[str]) -> Iterator[tuple[int, int, int, bool]]:
        """First word, end, rule and whether it is an `unless`, of every form found in the words."""
        from spacy.tokens import Doc

        doc = Doc(self._vocab, words=words)
        found: dict[str, list[tuple[int, int]]] = {}
        for key, start, end in self._runs(doc):
            found.setdefault(self._vocab.strings[key], []).append((start, end))
        for run, places in found.items():
            for form in self._forms.get(run, ()):
                for start, end in places:
                    for stop in _ends(end, form.further, found, len(words)):
                        if not (form.at_start and start) and (not form.at_end or stop == len(words)):
                            yield start, stop, form.rule, form.unless
        for key, start, end in self._tokens(doc) if len(self._tokens) else ():
            yield start, end, int(self._vocab.strings[key]), False


def _ends(end: int, further: Sequence[tuple[int, frozenset[str]]], found: Mapping[str, list[tuple[int, int]]], size: int) -> Iterator[int]:
    """Where a form can end whose words up to `end` are found: each further run begins at most so many words on; the empty run is any words."""
    if not further:
        yield end
        return
    (gap, runs), *rest = further
    if "" in runs:
        yield from _ends(min(end + gap, size), rest, found, size)
    for run in runs & found.keys():
        for start, stop in found[run]:
            if end <= start <= end + gap:
                yield from _ends(stop, rest, found, size)


def read_cues(path: Path | None = None) -> CueBook:
    """The rules of a cue file, or those that come with the package.

    Raises:
        ConfigError: the file cannot be read, a rule has an unknown key, kind or speaker, or a pattern that cannot be; the rule is named.
    """
    if path is None:
        return _own()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), do="Give a cue file: TOML in UTF-8.") from None
    return CueBook(_rules(text, str(path)))


def find_cues(turns: Sequence[Turn], book: CueBook | None = None) -> tuple[Cue, ...]:
    """The cues in the turns, by the package's own rules unless a book is given; no two of one kind overlap."""
    return (book or _own()).find(turns)


def promises(turns: Sequence[Turn], cues: Sequence[Cue], started_at: datetime | None = None) -> tuple[Promise, ...]:
    """What the agent committed to: the clause from the cue on, and the time named in it; one promise a clause.

    `due_at` is told where a time is named and `started_at`, when the call began, is known.
    """
    out: list[Promise] = []
    done: dict[int, int] = {}
    for cue in cues:
        if cue.kind != "promise" or cue.start_char < done.get(cue.turn, 0):
            continue
        turn = turns[cue.turn]
        end = _clause_end(turn.text, cue.end_char)
        done[cue.turn] = end
        when = TIME.search(turn.text, cue.start_char, end)
        named = when[0].strip() if when else None
        due_at = due(named, started_at + timedelta(seconds=turn.start_s or 0.0)) if named and started_at else None
        out.append(Promise(turn=cue.turn, what=turn.text[cue.start_char : end].strip(" ,"), when=named, due_at=due_at))
    return tuple(out)


def offers(turns: Sequence[Turn], cues: Sequence[Cue]) -> tuple[Offer, ...]:
    """What the agent offered, and the customer's answer in their next turn or the one after ("how much?"), unless more is offered before."""
    answers: dict[int, str] = {}
    for cue in cues:
        if cue.kind in ("accept", "decline"):
            # "yes but no thank you": whoever declines anywhere has not accepted.
            answers[cue.turn] = "declined" if cue.kind == "decline" or answers.get(cue.turn) == "declined" else "accepted"
    last = {cue.turn: cue for cue in cues if cue.kind == "offer"}
    out = []
    for number, cue in last.items():
        until = min((other for other in last if other > number), default=len(turns))
        replies = [n for n in range(number + 1, until) if turns[n].speaker == "customer"][:_REPLIES]
        what = (text := turns[number].text)[cue.start_char : _clause_end(text, cue.end_char)].strip(" ,")
        out.append(Offer(turn=number, what=what, answer=next((answers[n] for n in replies if n in answers), "open")))
    return tuple(out)


def _time_near(text: str, start: int, end: int) -> bool:
    """Whether the clause of these characters, from the mark before them, names a time that is yet to come."""
    begin = max((text.rfind(mark, 0, start) for mark in (". ", "? ", "! ")), default=-1) + 1
    return any(not _NOW.search(match[0]) for match in TIME.finditer(text, begin, _clause_end(text, end)))


def _clause_end(text: str, start: int) -> int:
    """Where the clause at `start` ends: at a full stop, at the next "and i'll", or after so many words where nothing is punctuated."""
    end = stop.start() if (stop := _STOP.search(text, start)) else len(text)
    words = list(_WORD.finditer(text, start, end))
    return words[_CLAUSE_WORDS - 1].end() if len(words) > _CLAUSE_WORDS else end


def cues_digest() -> str:
    """The SHA-256 of the package's own rules: scores made by other rules are made again."""
    return hashlib.sha256(_own_text().encode()).hexdigest()


def _own_text() -> str:
    return resources.files("analyzer").joinpath("data/cues.toml").read_text(encoding="utf-8")


@cache
def _own() -> CueBook:
    return CueBook(_rules(_own_text(), "data/cues.toml"))


def _words(text: str) -> list[tuple[str, int, int]]:
    """The words in lower case with contractions spelled out, each with its characters in the text; both halves of a contraction have the whole."""
    out: list[tuple[str, int, int]] = []
    found = list(_WORD.finditer(text))
    for place, match in enumerate(found):
        word = match[0] if match[0].startswith("[") else match[0].lower().replace("’", "'")
        before = found[place - 1][0].lower() if place else ""
        if word == "ill" and before not in _SICK_AFTER and place + 1 < len(found):
            word = "i'll"
        out.extend((part, match.start(), match.end()) for part in _spelled_out(word))
    return out


@cache
def _contractions() -> Mapping[str, tuple[str, ...]]:
    plain = {short: tuple(full.split()) for short, full in _BARE.items()}
    return plain | {verb + ending: (verb, "not") for verb in _NEGATED for ending in ("n't", "nt")}


def _spelled_out(word: str) -> tuple[str, ...]:
    if word in (known := _contractions()):
        return known[word]
    head, mark, tail = word.rpartition("'")
    return (head, _ENDINGS[mark + tail]) if head and mark + tail in _ENDINGS else (word,)


def _runs(phrase: str, rule: str) -> list[tuple[int, frozenset[str]]]:
    """The runs of words of a phrase, one after the other, and how many words may stand before each; what may be absent is the empty run."""
    out: list[tuple[int, frozenset[str]]] = []
    forms: list[tuple[str, ...]]
    for part in (parts := phrase.removeprefix("^").removesuffix("$").split("...")):
        pieces = _pieces(iter(_SIGN.findall(part)), rule)
        if all(() in piece for piece in pieces) and (pieces or part is not parts[-1] or not out):
            raise _wrong(f"{phrase!r} can match without a word, or begins with ...", rule)
        gap, forms = _GAP_WORDS, [()]
        for piece in pieces:
            if () not in forms and len(forms) * len(piece) > _RUN_FORMS:
                out.append((gap, frozenset(map(" ".join, forms))))
                gap, forms = 0, [()]
            forms = _joined([forms, piece], rule)
        out.append((gap, frozenset(map(" ".join, forms))))
    return out


def _joined(pieces: list[list[tuple[str, ...]]], rule: str) -> list[tuple[str, ...]]:
    forms: list[tuple[str, ...]] = [()]
    for piece in pieces:
        forms = [a + b for a, b in product(forms, piece)]
        if len(forms) > _MAX_FORMS:
            raise _wrong("a phrase stands for too many", rule)
    return forms


def _pieces(signs: Iterator[str], rule: str, *, nested: bool = False) -> list[list[tuple[str, ...]]]:
    """The forms of each word and each bracket, one after the other; of what stands in a bracket, up to its end and all in one."""
    done: list[tuple[str, ...]] = []
    pieces: list[list[tuple[str, ...]]] = []
    for sign in signs:
        if sign == "(":
            pieces += _pieces(signs, rule, nested=True)
        elif sign == "|" and nested:
            done, pieces = done + _joined(pieces, rule), []
        elif sign in (")", ")?") and nested:
            return [done + _joined(pieces, rule) + [()] * (sign == ")?")]
        else:
            parts = tuple(part for part, _, _ in _words(sign))
            if not parts or sign.strip("^$") != sign:
                raise _wrong(f"{sign!r} is no word; ^ begins a phrase, $ ends it", rule)
            pieces.append([parts])
    if nested:
        raise _wrong("a bracket is not closed (... stands outside brackets)", rule)
    return pieces


def _wrong(what: str, rule: str) -> ConfigError:
    return ConfigError(what, where=f"cue rule {rule!r}", do="Mend the rule; the head of analyzer/data/cues.toml says how phrases are written.")


def _rules(text: str, where: str) -> list[Rule]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not TOML: {error}", where=where, do="Mend the file.") from None
    if extra := set(data) - {"rule", "words"}:
        raise ConfigError(f"unknown key {min(extra)!r}", where=where, do="A cue file holds [words] and [[rule]] sections only.")
    if not isinstance(data.get("rule"), list) or not data["rule"]:
        raise ConfigError("holds no [[rule]]", where=where, do="Write at least one.")
    words = data.get("words", {})
    if not isinstance(words, dict) or not all(isinstance(text, str) and text for text in words.values()):
        raise ConfigError("[words] must hold texts", where=where, do='Write each as name = "(one|other)".')
    rules = [_rule(raw, words, f"{where}, rule {place}") for place, raw in enumerate(data["rule"], start=1)]
    for place, rule in enumerate(rules):
        if rule.name in {other.name for other in rules[:place]}:
            raise _wrong("there are two rules of this name", rule.name)
    return rules


def _filled(phrase: str, words: Mapping[str, str], rule: str) -> str:
    """The phrase with each `{name}` as [words] has it; a word list may use those above it."""
    for name in reversed(list(words)):
        phrase = phrase.replace("{" + name + "}", f"({words[name]})")
    if left := re.search(r"\{.*?\}|[{}]", phrase):
        raise _wrong(f"{left[0]!r} is not in [words], or stands below the list that uses it", rule)
    return phrase


def _rule(raw: Mapping[str, Any], words: Mapping[str, str], where: str) -> Rule:
    name = raw.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError("has no name", where=where, do='Write name = "…".')
    for key in raw:
        if key not in _KEYS:
            close = get_close_matches(key, _KEYS, n=1)
            raise _wrong(f"unknown key {key!r}" + (f", did you mean {close[0]!r}?" if close else ""), name)
    for key, known in (("kind", KINDS), ("speaker", _SPEAKERS), ("needs", _NEEDS)):
        if (key in raw or key == "kind") and raw.get(key) not in known:
            close = get_close_matches(str(raw.get(key)), known, n=1)
            raise _wrong(f"{key} {raw.get(key)!r} is none of {', '.join(known)}" + (f"; did you mean {close[0]!r}?" if close else ""), name)
    for key in ("phrases", "unless"):
        if not isinstance(raw.get(key, []), list) or not all(isinstance(item, str) and item for item in raw.get(key, [])):
            raise _wrong(f"{key} must be a list of text", name)
    tokens = raw.get("tokens", [])
    if not isinstance(tokens, list) or not all(isinstance(p, list) and p and all(isinstance(token, dict) for token in p) for p in tokens):
        raise _wrong("tokens must be a list of spaCy patterns, each a list of tables", name)
    if not raw.get("phrases") and not tokens:
        raise _wrong("has neither phrases nor tokens", name)
    return Rule(
        name=name,
        kind=raw["kind"],
        speaker=raw.get("speaker", "any"),
        phrases=tuple(_filled(text, words, name) for text in raw.get("phrases", ())),
        tokens=tuple(tuple(pattern) for pattern in tokens),
        unless=tuple(_filled(text, words, name) for text in raw.get("unless", ())),
        needs=raw.get("needs"),
    )
