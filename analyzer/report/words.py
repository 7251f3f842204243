"""How text and numbers are shown: hostile characters made visible, rates in per cent, money and ratios as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Final

# Control characters, lone surrogates and the marks that reorder what follows them (an id could pose as another one).
# Left-to-right and right-to-left *marks* stay: right-to-left scripts need them, and they reorder nothing by themselves.
_UNSEEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
REASONS: Final[Mapping[str, str]] = {
    "usage": "a wrong option",
    "config": "the settings",
    "input": "it could not be read",
    "audio": "the recording could not be decoded or holds no sound",
    "transcript": "the transcript does not keep to its format",
    "table": "a table with a wrong row or column",
    "engine": "the speech engine could not run",
    "model": "the model could not be used",
    "store": "the store could not be used",
    "error": "an unforeseen error",
}
_FLAGS: Final[Mapping[str, str]] = {"no_no": "no-no", "must_say": "must-say", "id_check": "identity check", "opt_out": "opt-out"}


def visible(text: str) -> str:
    """The text with invisible control and reordering characters written out, as `[U+202E]`; nothing else is changed."""
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """`27 %`, or `27 % (23 to 31)`; one decimal where the value is below 10 %."""
    digits = 1 if 0 < value < 0.0995 else 0
    shown = f"{100 * value:.{digits}f} %"
    return shown if low is None or high is None else f"{shown} ({100 * low:.{digits}f} to {100 * high:.{digits}f})"


def measured(measure: str, estimate: float, low: float, high: float) -> str:
    """An effect with its interval, in the unit of its measure: `+14.0 (9.1 to 18.9) of 100`."""
    if measure.endswith("_ratio"):
        return f"{estimate:.2f} ({low:.2f} to {high:.2f})"
    if measure in ("risk_difference", "incidence_difference"):
        return f"{_signed(100 * estimate, 1)} ({_signed(100 * low, 1)} to {_signed(100 * high, 1)})"
    return f"{_signed(estimate, 2)} ({_signed(low, 2)} to {_signed(high, 2)})"


def _signed(value: float, digits: int) -> str:
    shown = f"{value:+.{digits}f}"
    return f"{0:.{digits}f}" if float(shown) == 0 else shown.replace("-", "−")


def spell(label: str) -> str:
    """A key as words: `repeat_call` is `repeat call`."""
    return label.replace("_", " ")


def flag(kind: str) -> str:
    """A flag's kind as words."""
    return _FLAGS.get(kind, spell(kind))


def day(when: date) -> str:
    """`2 March 2026`."""
    return f"{when.day} {when:%B %Y}"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 call`, `1,200 calls`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
