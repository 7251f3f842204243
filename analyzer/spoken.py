"""Spoken numbers and dates: the digits that number words and typed figures say, which of them belong together, and what their form tells."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_UNITS: Final = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
}  # fmt: skip
_TEENS: Final = {
    "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14",
    "fifteen": "15", "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19",
}  # fmt: skip
_TENS: Final = {
    "twenty": "2", "thirty": "3", "forty": "4", "fourty": "4", "fifty": "5", "sixty": "6", "seventy": "7", "eighty": "8", "ninety": "9",
}  # fmt: skip
NUMBER_WORDS: Final = frozenset({*_UNITS, *_TEENS, *_TENS})
#: Heard as digits only between digits: "nought", and what recognisers make of "four", "two", "eight", "one".
_BETWEEN: Final = {"oh": "0", "o": "0", "nought": "0", "naught": "0", "nil": "0", "ought": "0"}
_MISHEARD: Final = {
    "for": "4",
    "fore": "4",
    "to": "2",
    "too": "2",
    "ate": "8",
    "won": "1",
    "tree": "3",
    "free": "3",
    "fife": "5",
    "niner": "9",
    "sex": "6",
}
_TIMES: Final = {"double": 2, "triple": 3, "treble": 3, "quadruple": 4}
_FILLERS: Final = frozenset(
    ["uh", "um", "er", "erm", "ah", "hmm", "mm", "then", "and", "dash", "hyphen", "space", "comma", "next", "so", "let's", "see",
     "yeah", "yes", "okay", "ok", "is", "it's", "that's", "got"]
)  # fmt: skip
NUMBER: Final = rf"(?:\d+|{'|'.join((*_UNITS, *_TEENS, *_TENS))}|oh|double|triple|hundred|thousand)"
_MONTHS: Final = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_ORDINALS: Final = (
    "(?:(?:twenty|thirty)[ -])?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)|tenth|eleventh|twelfth|"
    "thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth"
)
_DATE_PART: Final = rf"(?:{_MONTHS}|{_ORDINALS}|\d{{1,2}}(?:st|nd|rd|th)|{NUMBER})\b"
#: A date in full or in part, in words or figures.
DATE: Final = re.compile(rf"\b{_DATE_PART}(?:[ ,./-]+(?:(?:the|of|and|in|on|slash|stroke|dash) +)*{_DATE_PART})*", re.I)
QUANTITY: Final = re.compile(
    r"\s*(?:%|°|(?:percent|per cent|pounds?|quid|p|pence|dollars?|bucks?|cents?|euros?|grand|k|minutes?|mins?|hours?|days?|nights?|weeks?|"
    r"months?|years?|"
    r"am|pm|a\.m|p\.m|o'?clock|miles?|met(?:er|re)s?|kilos?|kilomet\w+|cent\w*met\w+|inch(?:es)?|f(?:ee|oo)t|gigs?|gigabytes?|megs?|megabytes?|watts?|volts?|"
    r"litres?|liters?|gallons?|grams?|degrees|times|people|units?|pieces|boxes|points|working|business|calendar|kilowatt\w*|million|billion)\b)",
    re.I,
)
_TOKEN: Final = re.compile(r"\[[A-Z]+\]|\d+|[^\W\d_]+(?:['’][^\W\d_]+)*")
PLACEHOLDER: Final = re.compile(r"\[[A-Z]+\]")
_BACKCHANNEL_WORDS: Final = 4


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring number words of one turn and the digits they say; `amount` when they count or price something."""

    turn: int
    start: int
    end: int
    digits: str
    amount: bool


def plain_digits(text: str) -> str:
    """The text with every digit of another script or width as its ASCII digit; characters keep their places."""
    if text.isascii():
        return text
    return "".join(char if char.isascii() or (value := unicodedata.digit(char, None)) is None else str(value) for char in text)


def luhn(digits: str) -> bool:
    """The check digit of ISO/IEC 7812-1, annex B."""
    doubled = [int(d) * (1 + n % 2) for n, d in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(n // 10 + n % 10 for n in doubled) % 10 == 0


def card_like(digits: str) -> bool:
    """A length and a first digit that payment cards have (ISO/IEC 7812: 2 to 6), and the check digit.

    Of 15 digits only 34 and 37: an IMEI has 15 and the same check digit.
    """
    return bool(re.fullmatch(r"3[47]\d{13}|[2-6](?:\d{12,13}|\d{15,18})", digits)) and luhn(digits)


def phone_like(digits: str) -> bool:
    """North American (area and exchange begin with 2 to 9) or British (0 and ten or nine more) numbering plans, country code or not."""
    return bool(re.fullmatch(r"1?[2-9]\d{2}[2-9]\d{6}|0[1-37-9]\d{8,9}|(?:00)?44[1-37-9]\d{8,9}", digits))


def _counts_up(said: str, digits: str) -> bool:
    """Somebody counts: one by one from one to ten, or further to at most twenty."""
    return said != digits and any(digits == "".join(map(str, range(1, last + 1))) for last in range(10, 21))


def is_date(said: str, *, expiry: bool) -> bool:
    """Whether what `DATE` found says enough for a date; of an expiry two numbers do."""
    parts = re.findall(r"[^\W_]+", said)
    named = bool(re.search(rf"\b(?:{_MONTHS})\b", said, re.I))
    return len(parts) >= 2 and (named or expiry or len(parts) >= 3) and any(re.fullmatch(rf"{NUMBER}|\d+\w\w|{_ORDINALS}", p, re.I) for p in parts)


def runs(number: int, text: str) -> Iterator[Run]:
    """The runs of number words in the text of turn `number`, over single fillers ("four one uh one"), in order, without mere counting to ten."""
    tokens = list(_TOKEN.finditer(text))
    words = [token[0].lower().replace("’", "'") for token in tokens]
    at = 0
    while at < len(tokens):
        start, digits, said = at, "", 0
        end = at
        while at < len(tokens) and (at == start or _joins(text[tokens[at - 1].end() : tokens[at].start()])):
            value, step = _digits(words, at, inside=bool(digits))
            if value is None:
                if not digits or words[at] not in _FILLERS or at + 1 >= len(words) or at - end > 1:
                    break
                at += 1
                continue
            digits, said, at = digits + value, said + 1, at + step
            end = at
        at = max(end, start + 1)
        if not digits:
            continue
        begin, stop = tokens[start].start(), tokens[end - 1].end()
        if not _counts_up(text[begin:stop], digits):
            yield Run(number, begin, stop, digits, _is_amount(text, begin, stop))


def _digits(words: Sequence[str], at: int, *, inside: bool) -> tuple[str | None, int]:
    """The digits that the word at `at` says and how many words that takes; what only may be a digit counts where the next word is one."""
    word, after = words[at], words[at + 1] if at + 1 < len(words) else ""
    if word.isascii() and word.isdigit():
        return word, 1
    if word in _UNITS:
        return _UNITS[word], 1
    if word in _TEENS:
        return _TEENS[word], 1
    if word in _TENS:
        return (_TENS[word] + _UNITS[after], 2) if _UNITS.get(after, "0") != "0" else (_TENS[word] + "0", 1)
    if word in _TIMES and (value := _UNITS.get(after) or _BETWEEN.get(after) or (after if re.fullmatch("[0-9]", after) else None)):
        return value * _TIMES[word], 2
    if word in ("hundred", "thousand") and inside:
        return "00" if word == "hundred" else "000", 1
    next_is_digit = after in _UNITS or after in _TENS or after in _TEENS or after in _TIMES or (after.isascii() and after.isdigit())
    if word in _BETWEEN and (inside or next_is_digit or after in _BETWEEN):
        return _BETWEEN[word], 1
    if word in _MISHEARD and inside and (next_is_digit or after in _BETWEEN):
        return _MISHEARD[word], 1
    return None, 1


def _joins(gap: str) -> bool:
    return bool(re.fullmatch(r"[\s,.\-‐‑–—()…]{0,4}", gap))


def _is_amount(text: str, start: int, end: int) -> bool:
    """A price, a measure or a time of day rather than a number that names something."""
    said = text[start:end]
    if re.search(r"[£$€#]\s?$", text[:start]) or QUANTITY.match(text, end) or re.search(r"\d:$", text[:start]) or re.match(r":\d", text[end:]):
        return True
    return (
        bool(re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d{1,2}", said) or re.search(r"\b(?:hundred|thousand)\b", said, re.I))
        and len(said.split()) <= 5
    )


def chains(texts: Sequence[str], runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Runs that go on: within a turn over a few fillers, into a later turn over backchannels only."""
    chain: list[Run] = []
    for run in runs:
        # No card is longer than 19 digits: what follows is its reading back.
        if chain and (sum(len(part.digits) for part in [*chain, run]) > 19 or not _goes_on(chain[-1], run, texts)):
            yield chain
            chain = []
        chain.append(run)
    if chain:
        yield chain


def _goes_on(one: Run, two: Run, texts: Sequence[str]) -> bool:
    if len(one.digits) < 2 or len(two.digits) < 2 or one.amount or two.amount:
        return False
    if one.turn == two.turn:
        between = _TOKEN.findall(texts[one.turn][one.end : two.start].lower())
        return len(between) <= 3 and all(word in _FILLERS for word in between)
    ends, starts = texts[one.turn][one.end :], texts[two.turn][: two.start]
    if two.turn - one.turn > 3 or not all(word in _FILLERS for word in _TOKEN.findall((ends + " " + starts).lower())):
        return False
    return all(
        len(words := text.split()) <= _BACKCHANNEL_WORDS and "?" not in text and not PLACEHOLDER.search(" ".join(words))
        for text in texts[one.turn + 1 : two.turn]
    )
