"""Times that people name for what they promise, and the moment that falls due."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date, datetime, timedelta
from datetime import time as Clock
from typing import Final

_HOUR: Final = r"(?:\d{1,2}(?::\d\d)?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_PART: Final = r"(?:morning|afternoon|evening|night)"
_SOON: Final = r"today|tonight|noon|midday|midnight|straight ?away|right away|right now|shortly|immediately|asap|in a moment|in due course"
_ORDINAL: Final = r"(?:\w+(?:teenth|ieth|lfth|enth)|(?:twenty|thirty)[ -]\w+|first|second|third|fourth|fifth|sixth|eighth|ninth|\d+(?:st|nd|rd|th))"
TIME: Final = re.compile(
    r"\b(?:(?:by|before|within|inside|in|until|till|after|on|at|from|for|no later than|first thing|later|early|about) +)*"
    rf"(?:(?:the )?(?:end|start|close) of (?:the )?(?:day|week|month|play|business)|{_SOON}|tomorrow(?: {_PART})?"
    rf"|(?:this|next|the same|later this|the next|that|in the) (?:{_PART}|day|week|month|hour|(?:working |business )day|few days)"
    rf"|(?:next |this )?(?:mon|tues|wednes|thurs|fri|satur|sun)day(?: {_PART})?(?: the {_ORDINAL})?"
    rf"|the {_ORDINAL}\b(?: of \w+)?(?! (?:time|one|line|floor|thing))"
    r"|(?:[\w-]+ (?:to|or|and) )?(?:\d+|[a-z]+(?:-[a-z]+)?) (?:working |business |calendar )?(?:days?|hours?|minutes?|weeks?|months?)\b"
    rf"|(?:half past |quarter (?:past|to) )?{_HOUR}(?: thirty)? ?(?:a\.?m\b|p\.?m\b|o'?clock|in the {_PART})"
    rf"|half past {_HOUR}\b|(?<=by ){_HOUR}\b|(?<=before ){_HOUR}\b|(?<=at ){_HOUR}\b(?= *(?:[,.;]|$|and |to |on |for |today|tonight|tomorrow))"
    rf"|(?<=between ){_HOUR}\b(?= and {_HOUR}\b))"
    rf"(?:,? (?:by|before|at|between|after|in the|and|to|till|from)? ?(?:noon|midday|the {_PART}|{_PART}|(?:half )?{_HOUR}(?: ?[ap]m)?\b))*",
    re.I,
)

_ONES: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS: Final = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_NUMBERS: Final = {word: number for number, word in enumerate(_ONES)} | _TENS | {"a": 1, "an": 1}
_TO_TWENTIETH: Final = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth", "thirteenth",
    "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth", "twentieth",
)  # fmt: skip
_ORDINALS: Final = {word: number for number, word in enumerate(_TO_TWENTIETH, start=1)} | {"thirtieth": 30}
_DAYS: Final = ("mon", "tues", "wednes", "thurs", "fri", "satur", "sun")
#: When a part of the day is over; a day named without one is over at its end.
_PARTS: Final = {"morning": Clock(12), "afternoon": Clock(18), "evening": Clock(22)}
_MIDNIGHT: Final = Clock(23, 59)
_SPAN: Final = re.compile(
    r"(?:[\w-]+ (?:to|or|and) )?(?P<n>\d+|[a-z]+(?:-[a-z]+)?) (?P<kind>working |business |calendar )?(?P<unit>minute|hour|day|week|month)s?\b"
)
_CLOCK: Final = re.compile(
    rf"\b(?P<half>half past |half |quarter past |quarter to )?(?P<hour>{_HOUR})(?P<thirty> thirty)?"
    r" ?(?P<noon>a\.?m|p\.?m|o'?clock)?\b(?! (?:days?|weeks?))"
)
_FRIDAY: Final = 4
#: Hours named without a.m. or p.m. up to here are after noon: nobody is called back at three in the morning.
_LAST_PM_HOUR: Final = 7


def due(when: str, said_at: datetime) -> datetime | None:
    """The latest moment that the words allow, in the time zone of `said_at`, the moment they were said; None where they name none.

    A day ends at 23:59, a morning at noon, an afternoon at 18:00, an evening at 22:00. Working days are Monday to Friday: holidays are not known.
    Of a span ("three to five days", "between two and four") the end counts. A weekday or day of the month is the next one.
    """
    words = " ".join(re.sub(r"[^\w:'.-]", " ", when.lower()).split())
    if (span := _SPAN.search(words)) and (number := _number(span["n"])) is not None:
        unit = span["unit"]
        if unit in ("minute", "hour"):
            return said_at + (timedelta(minutes=number) if unit == "minute" else timedelta(hours=number))
        return _on(_days_on(said_at.date(), number, unit, working=span["kind"] in ("working ", "business ")), _MIDNIGHT, said_at)
    day, rest = _day(words, said_at.date())
    clock = _clock(rest)
    if day is not None:
        return _on(day, clock or _MIDNIGHT, said_at)
    if clock is None:
        return None
    today = _on(said_at.date(), clock, said_at)
    return today if today > said_at else today + timedelta(days=1)


def _on(day: date, clock: Clock, said_at: datetime) -> datetime:
    return datetime.combine(day, clock, tzinfo=said_at.tzinfo)


def _number(word: str) -> int | None:
    if word.isdigit():
        return int(word)
    parts = [_NUMBERS.get(part) for part in word.split("-")]
    return None if None in parts else sum(part for part in parts if part is not None)


def _days_on(day: date, number: int, unit: str, *, working: bool) -> date:
    if unit == "month":
        months = day.month - 1 + number
        year, month = day.year + months // 12, months % 12 + 1
        return date(year, month, min(day.day, monthrange(year, month)[1]))
    if not working:
        return day + timedelta(days=number * (7 if unit == "week" else 1))
    while number > 0:
        day += timedelta(days=1)
        number -= day.weekday() <= _FRIDAY
    return day


def _day(words: str, today: date) -> tuple[date | None, str]:
    """The day that the words name, and the words without it."""
    if found := re.search(r"\b(?:end|close) of (?:the )?(week|month)\b", words):
        if found[1] == "week":
            return today + timedelta(days=(_FRIDAY - today.weekday()) % 7), ""
        return today.replace(day=monthrange(today.year, today.month)[1]), ""
    if found := re.search(r"\btomorrow\b", words):
        return today + timedelta(days=1), words.replace(found[0], "")
    if found := re.search(rf"\b(next )?({'|'.join(_DAYS)})day\b", words):
        ahead = (_DAYS.index(found[2]) - today.weekday() - 1) % 7 + 1
        # "next Thursday", said on a Monday, is not this week's.
        if found[1] and today.weekday() + ahead < len(_DAYS):
            ahead += 7
        return today + timedelta(days=ahead), re.sub(rf"{found[0]}(?: the {_ORDINAL})?", "", words)
    if (found := re.search(rf"\bthe ({_ORDINAL})\b", words)) and (number := _ordinal(found[1])) is not None:
        return _day_of_month(today, number), words.replace(found[0], "")
    if found := re.search(
        r"\b(?:today|tonight|this (?:morning|afternoon|evening)|end of (?:the )?(?:day|play|business)|close of (?:play|business))\b", words
    ):
        return today, words
    if "in the morning" in words:
        return today + timedelta(days=1), words
    if found := re.search(r"\bnext (week|month)\b", words):
        return (today + timedelta(days=_FRIDAY - today.weekday() + 7) if found[1] == "week" else _days_on(today, 1, "month", working=False)), ""
    return None, words


def _ordinal(words: str) -> int | None:
    if match := re.match(r"\d+", words):
        return int(match[0])
    first, _, second = words.replace("-", " ").rpartition(" ")
    ones = _ORDINALS.get(second)
    return None if ones is None or (first and first not in _TENS) else _TENS.get(first, 0) + ones


def _day_of_month(today: date, number: int) -> date | None:
    """The next day of that number after today; None where no month has it."""
    day = today
    for _ in range(62):
        day += timedelta(days=1)
        if day.day == number:
            return day
    return None


def _clock(words: str) -> Clock | None:
    """The last time of day that the words name."""
    part = next((name for name in _PARTS if name in words), "evening" if "night" in words else "")
    hits = list(_CLOCK.finditer(words))
    if not hits:
        if re.search(r"\b(?:noon|midday)\b", words):
            return Clock(12)
        return _MIDNIGHT if "midnight" in words or "night" in words else _PARTS.get(part)
    last = hits[-1]
    if re.search(r"\b(?:noon|midday)\b", words[last.end() :]):
        return Clock(12)
    named, _, minutes = last["hour"].partition(":")
    hour, minute = _NUMBERS.get(named, int(named) if named.isdigit() else 24), int(minutes or (30 if last["thirty"] else 0))
    half = (last["half"] or "").strip()
    if half.startswith("half"):
        minute = 30
    elif half:
        minute, hour = (15, hour) if half.endswith("past") else (45, hour - 1)
    noon = (last["noon"] or "").replace(".", "")
    after = noon == "pm" or (noon != "am" and hour < 12 and (part in ("afternoon", "evening") or (part != "morning" and hour <= _LAST_PM_HOUR)))
    if hour > 23 or minute > 59:
        return None
    if hour == 12 and noon == "am":
        hour = 0
    return Clock(hour + 12 if after and hour < 12 else hour, minute)
