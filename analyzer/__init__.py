"""Rates contact-centre calls with the words that show it, and links the ratings to what customers did later.

    import analyzer as az

    qa = az.load()
    call = qa.score("call.wav")
    print(call.closing.label, call.closing.evidence[0].quote(call.transcript))

Importing the package loads neither torch nor spaCy: each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyzer.effects import Effect, estimate
    from analyzer.errors import AnalyzerError
    from analyzer.outcomes import LinkedCall, link, read_outcomes
    from analyzer.pipeline import Analyzer, load
    from analyzer.records import CallInfo, CallScore, Evidence, Failure, Judgement, Transcript, Turn
    from analyzer.scoring import to_frame

__version__ = "0.1.0"
__all__ = [
    "Analyzer",
    "AnalyzerError",
    "CallInfo",
    "CallScore",
    "Effect",
    "Evidence",
    "Failure",
    "Judgement",
    "LinkedCall",
    "Transcript",
    "Turn",
    "estimate",
    "link",
    "load",
    "read_outcomes",
    "to_frame",
]

_HOME = {
    **dict.fromkeys(("CallInfo", "CallScore", "Evidence", "Failure", "Judgement", "Transcript", "Turn"), "records"),
    **dict.fromkeys(("LinkedCall", "link", "read_outcomes"), "outcomes"),
    **dict.fromkeys(("Effect", "estimate"), "effects"),
    **dict.fromkeys(("Analyzer", "load"), "pipeline"),
    "AnalyzerError": "errors",
    "to_frame": "scoring",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analyzer' has no attribute {name!r}")
    return getattr(importlib.import_module(f"analyzer.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
