"""What a call does not carry: reasons to give no answer that can be told from who speaks, how much, and a few set phrases."""

from __future__ import annotations

import re
from typing import Final

from analyzer.records import DIMENSIONS, Transcript, Turn

_QUESTIONS: Final = (*DIMENSIONS, "opening")
_RECORDED: Final = re.compile(
    r"\b(?:(?:leave|record) (?:a|your|me a|us a) (?:brief |short |detailed )?message|(?:after|at) the (?:tone|beep)"
    r"|(?:reached|this is) (?:the |my |our |\w+(?:'s| s) )?voice ?mail|voice ?mail ?box of"
    r"|(?:can(?:no|')t|not able to|unable to|not available to) (?:take|answer|come to) (?:your|the) (?:call|phone)"
    r"|(?:the )?(?:person|number|customer|party) you (?:have |are |'ve )?(?:called|dialled|dialed|calling|trying to reach|reached))\b"
)
_WRONG_NUMBER: Final = re.compile(
    r"\b(?:(?:got|have|dialled|dialed|is|must be|reached) (?:the|a) wrong number(?! (?:on|listed|for me)\b)"
    r"|no ?(?:one|body) (?:here )?by that name)\b"
)
#: Said alone ("wrong number, sorry") it counts only where nobody goes on about business.
_JUST_WRONG_NUMBER: Final = re.compile(r"\bwrong number\b(?! (?:on|listed|for me)\b)")
_BUSINESS: Final = re.compile(r"\b(?:accounts?|files?|records?|orders?|refunds?|bills?|contracts?|booking|change|update|correct)\b")
_SHORT_CALL_TURNS: Final = 8
_RECORDING_TURNS: Final = 3
_MOST_WORDS_TO_A_MACHINE: Final = 3
_MIN_SIDE_WORDS: Final = 2
_MIN_CALL_WORDS: Final = 12


def reasons(transcript: Transcript) -> dict[str, str]:
    """Dimension to reason for each of `courtesy`, `resolution`, `closing`, `opening` that this call cannot answer; empty when it can."""
    spoken = [turn for turn in transcript.turns if re.search(r"\w", turn.text)]
    if not spoken:
        return dict.fromkeys(_QUESTIONS, "nobody speaks")
    agent = [turn for turn in spoken if turn.speaker == "agent"]
    customer = [turn for turn in spoken if turn.speaker == "customer"]
    if not agent and not customer:
        return dict.fromkeys(_QUESTIONS, "who is agent and who customer could not be told")
    if _is_recording(agent, customer, spoken) or _is_recording(customer, agent, spoken):
        return dict.fromkeys(_QUESTIONS, "a recorded message or voicemail: no conversation took place")
    strangers = len(agent) + len(customer) < len(spoken)
    if not strangers and not (agent and customer):
        silent = "customer" if agent else "agent"
        return dict.fromkeys(_QUESTIONS, f"only one side is heard: there is no turn of the {silent}")
    if _is_wrong_number(spoken):
        return dict.fromkeys(_QUESTIONS, "a wrong number: no conversation took place")
    return _missing(agent, customer, spoken)


def _missing(agent: list[Turn], customer: list[Turn], spoken: list[Turn]) -> dict[str, str]:
    out: dict[str, str] = {}
    if not agent:
        out["courtesy"] = "there is no turn of the agent"
    elif _words(agent) < _MIN_SIDE_WORDS:
        out["courtesy"] = "the agent says too little to tell"
    if not customer:
        out |= dict.fromkeys(("resolution", "closing", "opening"), "there is no turn of the customer")
    elif _words(customer) < _MIN_SIDE_WORDS:
        out |= dict.fromkeys(("closing", "opening"), "the customer says too little to tell")
    if _words(spoken) < _MIN_CALL_WORDS:
        out.setdefault("resolution", "the call is too short to tell")
    return out


def _is_recording(side: list[Turn], other: list[Turn], spoken: list[Turn]) -> bool:
    # A machine speaks once or twice and nobody talks with it: it is hung up on, or left a message. People who mention voicemail go on talking.
    alone = _words(other) <= _MOST_WORDS_TO_A_MACHINE or len(spoken) <= _RECORDING_TURNS
    return alone and 0 < len(side) <= 2 and any(_RECORDED.search(_plain(turn.text)) for turn in side)


def _is_wrong_number(spoken: list[Turn]) -> bool:
    if len(spoken) > _SHORT_CALL_TURNS:
        return False
    said = [_plain(turn.text) for turn in spoken]
    if any(_WRONG_NUMBER.search(text) for text in said):
        return True
    return any(_JUST_WRONG_NUMBER.search(text) for text in said) and not any(_BUSINESS.search(text) for text in said)


def _plain(text: str) -> str:
    return re.sub(r"[^\w\s']+", " ", text.lower())


def _words(turns: list[Turn]) -> int:
    return sum(len(re.findall(r"[\w']+", turn.text)) for turn in turns)
