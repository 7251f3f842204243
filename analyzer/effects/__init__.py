"""Did it matter? How often calls of one kind were followed by an outcome, against calls of another, and how surely."""

from analyzer.effects.contrasts import estimate
from analyzer.effects.records import Arm, Effect, Interval

__all__ = ["Arm", "Effect", "Interval", "estimate"]
