"""What customers did later: the outcomes table, and calls linked to it."""

from analyzer.outcomes.join import JoinReport, KindReport, Linked, LinkedCall, WindowOutcome, link
from analyzer.outcomes.table import Outcomes, read_outcomes

__all__ = ["JoinReport", "KindReport", "Linked", "LinkedCall", "Outcomes", "WindowOutcome", "link", "read_outcomes"]
