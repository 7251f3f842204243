"""Personal data out of the words before anything is written: numbers, spoken or typed, addresses of all kinds, and names by their cues."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, TypeAlias

from analyzer.config import REDACTION_LEVELS
from analyzer.errors import UsageError
from analyzer.records import CallInfo, Scalar, Transcript, Turn, Word
from analyzer.spoken import DATE, NUMBER, NUMBER_WORDS, PLACEHOLDER, QUANTITY, Run, card_like, chains, is_date, luhn, phone_like, plain_digits, runs

#: Raised whenever the rules of this module or of `spoken` change, so that what was redacted by older rules is redacted anew.
REVISION: Final = 2

_PAYMENT: Final = frozenset({"card", "code", "expiry", "account"})
_STANDARD: Final = _PAYMENT | {"ssn", "dob", "phone", "email", "name", "address"}
_KINDS: Final[Mapping[str, frozenset[str]]] = {"none": frozenset(), "payment": _PAYMENT, "standard": _STANDARD, "strict": _STANDARD | {"number"}}

_EMAIL: Final = re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+|[\w.+%-]+@[\w-]+")
_SUFFIX: Final = r"(?:com|co|org|net|edu|gov|io|uk|ie|ca|au|us|de|fr|eu|info|biz|me|ac|nhs|nz|in)"
_SPOKEN_EMAIL: Final = re.compile(
    rf"\b(?:[\w']+[ ]+(?:dot|underscore|dash|hyphen|point|plus)[ ]+){{0,6}}(?:(?:[a-z]|\d+|{NUMBER})[ ]+){{0,24}}[\w'.]+[ ]+at[ ]+"
    rf"(?:(?:[a-z0-9][\w-]*[ ]+){{1,3}}?(?:dot|point)[ ]+(?:[a-z][\w-]*[ ]+(?:dot|point)[ ]+)?{_SUFFIX}(?:[ ]+(?:dot|point)[ ]+{_SUFFIX})?"
    r"|(?:gmail|hotmail|yahoo|outlook|icloud|aol|live|btinternet|googlemail|protonmail)(?:[ ]+com|\.[a-z.]+)?)\b",
    re.I,
)
_EMAIL_CUE: Final = re.compile(r"\be[ -]?mail(?: address)?(?: is|'s|:)?[ ,]+(?:(?:it'?s|that'?s|is|um|uh|so)[ ,]+)*", re.I)
_INSURANCE: Final = re.compile(r"\b(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b")
_POSTCODE: Final = re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2}\b")
_SPELLED: Final = re.compile(r"\b[a-z](?:[ ,.-]{1,3}(?:double )?[a-z]\b(?! ?')){2,}", re.I)
_CODED: Final = re.compile(
    rf"\b(?:[a-z]|{NUMBER}|alpha|bravo|charlie|delta|echo|foxtrot|golf|hotel|india|juliet|kilo|lima|mike|november|oscar|papa|quebec|romeo|sierra|tango|"
    r"uniform|victor|whiskey|x-?ray|yankee|zulu)(?:[ ,.-]+(?:as in|for \w+)?[ ,.-]*(?:[a-z]{1,2}\d*|\d+[a-z]*|"
    rf"{NUMBER}|alpha|bravo|charlie|delta|echo|foxtrot|golf|hotel|india|juliet|kilo|lima|mike|november|oscar|papa|quebec|romeo|sierra|tango|uniform|victor|"
    r"whiskey|x-?ray|yankee|zulu)\b){3,}",
    re.I,
)
#: How many turns a question is remembered: "the long number?" "one second" "right it's" "four one one one".
_MEMORY_TURNS: Final = 4
#: In these turns people say who they are.
_OPENING_TURNS: Final = 2
#: Fields of a call that people type freely; ids stay as they are.
_INFO_TEXTS: Final = ("direction", "queue", "reason", "disposition", "ended_by")
_ISO_DATE: Final = re.compile(r"(?:19|20)\d\d-[01]\d-[0-3]\d(?:[T ][0-2]\d:[0-5]\d.{0,16})?")

#: Start, end and kind of a phrase that says what a number is; the kind is empty where a placeholder ends what was said before.
_Cue: TypeAlias = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class _Span:
    """Part of a turn to be replaced."""

    turn: int
    start: int
    end: int
    kind: str


def redaction_digest() -> str:
    """What the outcome of `redact` depends on besides the words: the SHA-256 (hex) of the rules, those of the data file and `REVISION`."""
    return hashlib.sha256(f"{REVISION}\n{_rules()}".encode()).hexdigest()


def redact(transcript: Transcript, level: str = "standard") -> Transcript:
    """The transcript with personal data replaced by `[CARD]`, `[CODE]`, `[EXPIRY]`, `[ACCOUNT]`, `[SSN]` (also national insurance), `[DOB]`,
    `[PHONE]`, `[EMAIL]`, `[NAME]`, `[ADDRESS]`, and at `strict` `[NUMBER]` for any further number of six or more digits.

    `payment` replaces the first four kinds only, `none` nothing. Numbers are recognised in spoken form too, across turns, and by what is said
    about them; names and addresses by cues alone ("my name is", "surname"), so many are missed. Words inside a replaced span become one `Word`
    over its time; a turn's words that cannot be laid over its text are dropped, so that they never hold what the text does not. The texts of
    `info` (reason, queue, covariates …, but no ids) are treated likewise, each by itself. Replacements are added to `transcript.redacted` per
    kind. Redacting twice is redacting once.

    Raises:
        UsageError: there is no such level.
    """
    if level not in REDACTION_LEVELS:
        raise UsageError(f"redaction level {level!r} is unknown", where="redaction level", do=f"Choose one of {', '.join(REDACTION_LEVELS)}.")
    if not (kinds := _KINDS[level]):
        return transcript
    counts = Counter(transcript.redacted)
    turns = tuple(_with_words_of_text(turn) for turn in _replaced(transcript.turns, kinds, counts))
    return dataclasses.replace(transcript, info=_about_call(transcript.info, kinds, counts), turns=turns, redacted=dict(counts))


def _replaced(turns: tuple[Turn, ...], kinds: frozenset[str], counts: Counter[str]) -> tuple[Turn, ...]:
    # What is replaced changes what stands beside it, so until nothing more is found; every round leaves less to find.
    while spans := _find([plain_digits(turn.text) for turn in turns], kinds):
        counts.update(span.kind for group in spans.values() for span in group)
        turns = tuple(_replace(turn, spans[number]) if number in spans else turn for number, turn in enumerate(turns))
    return turns


def _with_words_of_text(turn: Turn) -> Turn:
    return turn if not turn.words or next(_aligned(turn), None) else dataclasses.replace(turn, words=())


def _about_call(info: CallInfo, kinds: frozenset[str], counts: Counter[str]) -> CallInfo:
    def clean(value: Scalar) -> Scalar:
        if not isinstance(value, str) or _ISO_DATE.fullmatch(value):
            return value
        return _replaced((Turn(speaker="unknown", text=value),), kinds, counts)[0].text

    texts: dict[str, Any] = {name: clean(getattr(info, name)) for name in _INFO_TEXTS}
    return dataclasses.replace(info, covariates={name: clean(value) for name, value in info.covariates.items()}, **texts)


def _find(texts: Sequence[str], kinds: frozenset[str]) -> dict[int, list[_Span]]:
    """Spans to replace, by turn and in order, none overlapping another; the earlier recogniser wins."""
    taken: defaultdict[int, list[_Span]] = defaultdict(list)
    for finder in (_emails, _dates, _coded, _typed, _spoken, _addresses, _names):
        for span in finder(texts):
            if not any(span.start < other.end and other.start < span.end for other in taken[span.turn]):
                taken[span.turn].append(span)
    # A kind that this level leaves in place still is what it is: at `payment` a phone number is no card.
    kept = {turn: sorted((span for span in spans if span.kind in kinds), key=lambda span: span.start) for turn, spans in taken.items()}
    return {turn: spans for turn, spans in kept.items() if spans}


def _replace(turn: Turn, spans: Sequence[_Span]) -> Turn:
    text, words = turn.text, list(_aligned(turn))
    for span in reversed(spans):
        mark = f"[{span.kind.upper()}]"
        inside = [n for n, (_, start, end) in enumerate(words) if start < span.end and span.start < end]
        if inside:
            first, last = words[inside[0]][0], words[inside[-1]][0]
            whole = Word(text=mark, start_s=first.start_s, end_s=max(first.end_s, last.end_s))
            # Its place is out of reach of the spans still to come, also where one word holds two of them.
            words[inside[0] : inside[-1] + 1] = [(whole, words[inside[0]][1], words[inside[-1]][2])]
        text = text[: span.start] + mark + text[span.end :]
    return dataclasses.replace(turn, text=text, words=tuple(word for word, _, _ in words))


def _aligned(turn: Turn) -> Iterator[tuple[Word, int, int]]:
    """Each word with its place in the turn's text; nothing when one of them is not there."""
    places, low, at = [], _folded(turn.text), 0
    for word in turn.words:
        said = _folded(word.text.strip())
        if (start := low.find(said, at)) < 0:
            return
        at = start + len(said)
        places.append((word, start, at))
    # A number the words hold but the text lines up past would stay: nothing but spaces and marks may lie between words.
    covered = sum(end - start for _, start, end in places)
    if covered >= sum(1 for char in turn.text if char.isalnum()):
        yield from places


def _folded(text: str) -> str:
    """Without regard to case, each character in its place ("ß" and "İ" would grow)."""
    return "".join(low if len(low := char.casefold()) == 1 else char for char in text)


# --- numbers -----------------------------------------------------------------------------------------------------------------------------------


def _spoken(texts: Sequence[str]) -> Iterator[_Span]:
    """Chains of number words, spoken or typed, by what the talk before them asks for."""
    cues = [_number_cues(text) for text in texts]
    known: list[tuple[str, str]] = []
    rest: list[Run] = []
    for chain in chains(texts, [run for number, text in enumerate(texts) for run in runs(number, text)]):
        digits = "".join(run.digits for run in chain)
        kind = _kind(digits, chain, texts, cues)
        if kind is None:
            rest.extend(chain)
            continue
        known.append((digits, kind))
        for run in chain:
            cues[run.turn] = sorted([*cues[run.turn], (run.start, run.end, "card" if kind == "card" else "")])
            yield _Span(run.turn, run.start, run.end, kind)
    # What was given is often read back, in full or by halves.
    for run in rest:
        for digits, kind in known:
            if len(run.digits) >= 4 and not run.amount and run.digits in digits:
                yield _Span(run.turn, run.start, run.end, kind)
                break


def _kind(digits: str, chain: Sequence[Run], texts: Sequence[str], cues: Sequence[Sequence[_Cue]]) -> str | None:
    """What a chain of digits is, by its length, its check digit and the nearest cue; None when it is nobody's secret."""
    size, first = len(digits), chain[0]
    if size < 3 or (first.amount and size < 12):
        return None
    if card_like(digits):  # whatever it is said to be: people pay "for order, the number is …"
        return "card"
    about = _about(first, chain[-1], texts, cues)
    if about == "other":
        return "number" if size >= 6 else None
    if 13 <= size <= 19 and (about == "card" or luhn(digits)):
        return "card"
    if about in ("card", "expiry", "code") and 7 <= size <= 20:
        return "card"
    lengths = {"code": (3, 8), "expiry": (3, 6), "account": (5, 18), "ssn": (4, 10), "phone": (7, 15), "zip": (5, 9), "dob": (6, 8)}
    if about in lengths and lengths[about][0] <= size <= lengths[about][1]:
        return {"zip": "address"}.get(about, about)
    if phone_like(digits):
        return "phone"
    return "number" if size >= 6 else None


def _about(first: Run, last: Run, texts: Sequence[str], cues: Sequence[Sequence[_Cue]]) -> str:
    """The kind of the nearest cue: before the number in its turn, right after it ("… is my card number"), or in the turns before."""
    if before := [kind for _, end, kind in cues[first.turn] if end <= first.start]:
        return before[-1]
    after = [(start, kind) for start, _, kind in cues[last.turn] if start >= last.end]
    if after and re.fullmatch(
        r"[\s,]*(?:is|was|are|that's|thats|for|on)? ?(?:the|my|his|her|our)? ?", texts[last.turn][last.end : after[0][0]], re.I
    ):
        return after[0][1]
    for number in range(first.turn - 1, max(-1, first.turn - 1 - _MEMORY_TURNS), -1):
        if cues[number]:
            return cues[number][-1][2]
    return ""


def _number_cues(text: str) -> list[_Cue]:
    """Where the text says what a number is; a placeholder ends what was said before it."""
    found = [(match.start(), match.end(), match.lastgroup or "") for match in _lists().numbers.finditer(text)]
    marks = [(match.start(), match.end(), "card" if match[0] == "[CARD]" else "") for match in PLACEHOLDER.finditer(text)]
    return sorted(found + marks)


def _typed(texts: Sequence[str]) -> Iterator[_Span]:
    """What Presidio's recognisers see in typed digits; loaded only where there are enough of them."""
    for number, text in enumerate(texts):
        if sum(char.isdigit() for char in text) < 7:
            continue
        cues = _number_cues(text)
        for kind, recogniser in _presidio():
            for hit in recogniser.analyze(text, recogniser.supported_entities, None) or ():
                near = [name for _, end, name in cues if end <= hit.start]
                other = bool(near) and (near[-1] == "other" or (kind == "phone" and near[-1] not in ("phone", "")))
                if hit.score >= 0.4 and (not other or (kind == "card" and card_like(re.sub(r"\D", "", text[hit.start : hit.end])))):
                    yield _Span(number, hit.start, hit.end, kind)


@cache
def _presidio() -> tuple[tuple[str, Any], ...]:
    # Recognisers alone, no engine: an engine would fetch a language model. Its e-mail recogniser would fetch a suffix list.
    from presidio_analyzer.predefined_recognizers import CreditCardRecognizer, IbanRecognizer, PhoneRecognizer, UsSsnRecognizer

    phone = PhoneRecognizer(supported_regions=("US", "GB"))
    return (("card", CreditCardRecognizer()), ("account", IbanRecognizer()), ("ssn", UsSsnRecognizer()), ("phone", phone))


# --- dates, codes, addresses, names --------------------------------------------------------------------------------------------------------------


def _dates(texts: Sequence[str]) -> Iterator[_Span]:
    """A date of birth or of expiry: the first date after its cue, in the same turn or the next two."""
    wanted: tuple[str, int] | None = None
    for number, text in enumerate(texts):
        cues = [cue for cue in _number_cues(text) if cue[2] in ("dob", "expiry", "other", "")]
        marks = [(start, end, kind) for start, end, kind in cues]
        if wanted and number - wanted[1] <= 2:
            marks.insert(0, (0, 0, wanted[0]))
        for place, (_, end, kind) in enumerate(marks):
            stop = marks[place + 1][0] if place + 1 < len(marks) else len(text)
            if kind not in ("dob", "expiry"):
                wanted = None
                continue
            wanted = (kind, number) if end else wanted
            for match in DATE.finditer(text, end, stop):
                if is_date(match[0], expiry=kind == "expiry") and not QUANTITY.match(text, match.end()):
                    yield _Span(number, match.start(), match.end(), kind)
                    wanted = None
                    break


def _coded(texts: Sequence[str]) -> Iterator[_Span]:
    """Letters with digits: national insurance numbers and postcodes."""
    cues: list[list[_Cue]] = []
    for number, text in enumerate(texts):
        yield from (_Span(number, match.start(), match.end(), "ssn") for match in _INSURANCE.finditer(text))
        yield from (_Span(number, match.start(), match.end(), "address") for match in _POSTCODE.finditer(text))
        for match in _CODED.finditer(text):
            cues = cues or [_number_cues(said) for said in texts]
            run = Run(number, match.start(), match.end(), "", False)
            if (about := _about(run, run, texts, cues)) in ("ssn", "zip"):
                yield _Span(number, match.start(), match.end(), "address" if about == "zip" else about)


def _emails(texts: Sequence[str]) -> Iterator[_Span]:
    for number, text in enumerate(texts):
        if "@" in text:
            yield from (_Span(number, match.start(), match.end(), "email") for match in _EMAIL.finditer(text))
        if " at " not in text.lower():
            continue
        for match in _SPOKEN_EMAIL.finditer(text):
            cue = [said.end() for said in _EMAIL_CUE.finditer(text, 0, match.end()) if said.end() <= match.start()]
            near = bool(cue) and len(text[cue[-1] : match.start()].split()) <= 8 and not re.search(r"[.?!]\s", text[cue[-1] : match.start()])
            yield _Span(number, cue[-1] if near else match.start(), match.end(), "email")


def _addresses(texts: Sequence[str]) -> Iterator[_Span]:
    lists = _lists()
    for number, text in enumerate(texts):
        low = text.lower()
        if not any(word in low for word in lists.street_words):
            continue
        for match in lists.street.finditer(text):
            asked = lists.address_cue.search(" ".join((*texts[max(0, number - 1) : number], text[: match.start()])))
            middle = [word.lower() for word in match["name"].split()]
            if any(word in lists.never for word in middle) or QUANTITY.match(" " + match["name"]):
                continue
            if match["kind"].lower() in lists.streets or asked or match["kind"][0].isupper():
                yield _Span(number, match.start(), match.end(), "address")


def _names(texts: Sequence[str]) -> Iterator[_Span]:
    """Names after their cues; once heard with a capital, wherever they stand with one."""
    lists, heard = _lists(), set[str]()
    for number, text in enumerate(texts):
        for cue in lists.name_cue.finditer(text):
            if (name := _name_at(text, cue.end(), weak=cue["weak"] is not None, opening=number < _OPENING_TURNS)) is not None:
                yield _Span(number, *name, "name")
                heard.update(word for word in re.findall(r"[^\W\d_][\w'’-]*", text[slice(*name)]) if word[0].isupper() and len(word) > 2)
        for match in _SPELLED.finditer(text):
            before = " ".join((*texts[max(0, number - 2) : number], text[: match.start()]))
            if lists.name_asked.search(before) or "[NAME]" in before:
                yield _Span(number, match.start(), match.end(), "name")
    if heard:
        again = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, heard), key=len, reverse=True))})\b")
        for number, text in enumerate(texts):
            yield from (_Span(number, match.start(), match.end(), "name") for match in again.finditer(text))


def _name_at(text: str, at: int, *, weak: bool, opening: bool) -> tuple[int, int] | None:
    """Where a first and perhaps a last name stand, by their capitals; in text without capitals, by not being an everyday word."""
    lists, cased = _lists(), bool(re.search(r"\b[A-Z][a-z]", text))
    words = lists.name.match(text, at)
    if words is None:
        return None
    found = list(re.finditer(r"[^\W\d_][\w'’-]*", words[0]))
    kept = 0
    while kept < len(found) and found[kept][0].lower() not in lists.never and (found[kept][0][0].isupper() or not cased):
        kept += 1
    if not kept:
        return None
    end = at + found[kept - 1].end()
    if weak and not cased and not (opening or re.match(r"\s+(?:speaking|calling|here|from)\b", text[end:])):
        return None
    return at + found[0].start(), end


@dataclass(frozen=True, slots=True)
class _Lists:
    numbers: re.Pattern[str]
    name_cue: re.Pattern[str]
    name_asked: re.Pattern[str]
    name: re.Pattern[str]
    never: frozenset[str]
    street: re.Pattern[str]
    street_words: tuple[str, ...]
    streets: frozenset[str]
    address_cue: re.Pattern[str]


def _rules() -> str:
    return resources.files("analyzer").joinpath("data/redaction.toml").read_text(encoding="utf-8")


@cache
def _lists() -> _Lists:
    """The data file `data/redaction.toml`, compiled once."""
    data = tomllib.loads(_rules())
    kinds = "|".join(f"(?P<{kind}>{'|'.join(phrases)})" for kind, phrases in sorted(data["numbers"].items(), key=_rank))
    before, weak, titles = ("|".join(data["names"][key]) for key in ("before", "weak", "titles"))
    streets, places = data["addresses"]["streets"], data["addresses"]["places"]
    house = rf"(?:(?:flat|apartment|apt|unit) {NUMBER}\w?,? )?\b{NUMBER}(?:[ -]{NUMBER})*[a-z]?,?"
    return _Lists(
        numbers=re.compile(rf"\b(?:{kinds})\b", re.I),
        name_cue=re.compile(rf"\b(?:{before}|(?P<weak>{weak})|(?:{titles})\b\.?),?\s+(?:(?:it's|is|uh|um|er|(?:{titles})\.?)\s+)*", re.I),
        name_asked=re.compile(r"\b(?:sur ?name|name|spel\w+|called)\b", re.I),
        name=re.compile(r"[^\W\d_][\w'’-]*(?:\s+[^\W\d_][\w'’-]*)?"),
        never=frozenset(data["names"]["never"].split()) | NUMBER_WORDS,
        street=re.compile(rf"{house}\s(?P<name>[a-z][\w'’]*(?:\s[a-z][\w'’]*){{0,2}}?)\s(?P<kind>{'|'.join((*streets, *places))})\b", re.I),
        street_words=(*streets, *places),
        streets=frozenset(streets),
        address_cue=re.compile(rf"\b(?:{'|'.join(data['addresses']['before'])})\b", re.I),
    )


def _rank(item: tuple[str, object]) -> int:
    """Longer words of other numbers first ("gift card order number"): `other` and `code` hide inside `card` phrases otherwise."""
    return ("code", "expiry", "account", "ssn", "dob", "zip", "other", "phone", "card").index(item[0])
