"""Says an estimate in plain words: the numbers, how sure, and what it does not prove."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.config import OutcomeSettings
from analyzer.effects.records import Effect

#: How calls with a label are called, at first and at second mention. `discourteous` is a suspicion until somebody has listened.
_CALLS = {
    "courtesy": ("calls with {}", "with {}"),
    "resolution": ("calls that ended {}", "that ended {}"),
    "closing": ("calls that ended {}", "that ended {}"),
}
_SAID = {"discourteous": "a suspected lapse of the agent", "courteous": "a courteous agent"}
_PROOF = {
    "courtesy": "Association, not proof.",
    "resolution": "Association, not proof.",
    "closing": "Association, not proof: the closing mood tells what follows, it need not make it.",
}


def sentence(effect: Effect, settings: OutcomeSettings) -> str:
    """Both risks and the difference with its interval, as counts of 100 calls; or why there is no answer."""
    outcome = spoken(effect.outcome)
    numbers = (*(arm.risk.estimate for arm in effect.arms), effect.estimate, effect.low, effect.high)
    shares = [100 * value for value in numbers if value is not None]
    if len(shares) < len(numbers):
        return f"Not enough data to say how {effect.dimension} goes with {outcome}: {effect.not_enough}."
    first, second, middle, low, high = shares
    # Whole numbers only where they add up for the reader.
    chance = low <= 0 <= high
    whole = round(first) - round(second) == round(middle) and min(first, second, abs(middle)) >= 1 and (chance or round(low) * round(high) > 0)
    digits = 0 if whole else 1
    if middle < 0:
        low, high = -high, -low
    calls, others = (text.format(_SAID.get(arm.label, arm.label)) for text, arm in zip(_CALLS[effect.dimension], effect.arms, strict=True))
    held = f"With {_listed(effect.adjusted_for)} held equal, of" if effect.adjusted_for else "Of"
    counts = f"{_number(first, digits)} were followed by {outcome} within {effect.window_days} days; of 100 {others}, {_number(second, digits)}"
    more = f"{_number(abs(middle), digits)} {'more' if middle >= 0 else 'fewer'}"
    limits = f"({100 * effect.level:g} % CI {_number(low, digits)} to {_number(high, digits)})"
    tail = "; the interval includes no difference" if chance else _news(effect.outcome, middle, settings)
    return f"{held} 100 {calls}, {counts}: {more} {limits}{tail}. {_PROOF[effect.dimension]}"


def estimand(effect: Effect) -> str:
    """What the number would be, had we every call of this kind: population, contrast, outcome, standard."""
    unit = "calls" if effect.dimension == "courtesy" else "contacts"
    first, second = (arm.label for arm in effect.arms)
    standard = f", both standardised to the mix of {_listed(effect.adjusted_for)} over all of them" if effect.adjusted_for else ""
    return (
        f"Among {unit} with a known {effect.dimension} whose next {effect.window_days} days were wholly observed: the share followed by at least one "
        f"{spoken(effect.outcome)} when {first}, less the share when {second}{standard}."
    )


def spoken(name: str) -> str:
    """A name as a person would say it."""
    return {"opening": "opening mood", "reason": "call reason"}.get(name, name.replace("_", " "))


def _news(kind: str, difference: float, settings: OutcomeSettings) -> str:
    """Whether more of this kind is good or bad news, as the settings declare it; nothing for a kind they do not name."""
    if kind in settings.good_news:
        return ", for the better" if difference > 0 else ", for the worse"
    if kind in settings.bad_news:
        return ", for the worse" if difference > 0 else ", for the better"
    return ""


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def _listed(names: Sequence[str]) -> str:
    words = [spoken(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
