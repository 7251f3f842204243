"""Cues: what each kind hears, with exact characters, what it must not, and what cue files are refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from analyzer.cues import find_cues, offers, promises, read_cues
from analyzer.errors import ConfigError
from tests.builders import turns

HEARD = [
    ("apology", "agent", "I'm so sorry about that.", "I'm so sorry"),
    ("apology", "agent", "im sorry", "im sorry"),
    ("ownership", "agent", "ok leave it with me then", "leave it with me"),
    ("ownership", "agent", "Leave that with me.", "Leave that with me"),
    ("empathy", "agent", "i understand why you're cross", "i understand why"),
    ("order", "agent", "sir you need to calm down", "you need to calm down"),
    ("blame", "agent", "you shouldve read it", "you shouldve read"),
    ("no_no", "agent", "thats not my problem", "not my problem"),
    ("churn_signal", "customer", "I'm done with you people", "I'm done with you"),
    ("churn_signal", "customer", "never again", "never again"),
    ("value_signal", "customer", "well ill be back", "ill be back"),
    ("repeat_contact", "customer", "it's the third time I've called", "third time I've called"),
    ("complaint", "customer", "i want to make a complaint", "make a complaint"),
    ("opt_out", "customer", "dont call me again", "dont call me"),
    ("disclosure", "agent", "this call is recorded", "call is recorded"),
    ("name_use", "agent", "right Mrs [NAME], one moment", "Mrs [NAME]"),
    ("promise", "agent", "I'll call you back tomorrow by noon.", "I'll call"),
    ("vulnerability", "customer", "my husband passed away", "passed away"),
]
NOT_HEARD = [
    ("apology", "customer", "i'm so sorry"),
    ("churn_signal", "customer", "is there anything else"),
    ("churn_signal", "customer", "i'm not going anywhere else"),
    ("value_signal", "customer", "i won't be back"),
    ("promise", "agent", "i will not call"),
    ("promise", "agent", "i'll put you on hold"),
    ("praise", "customer", "you have not been helpful"),
    ("thanks", "customer", "thanks for nothing"),
    ("no_no", "customer", "that's not my problem"),
    ("vulnerability", "customer", "my phone has died"),
]


@pytest.mark.parametrize(("kind", "speaker", "text", "span"), HEARD)
def test_a_cue_is_heard_at_its_characters(kind: str, speaker: str, text: str, span: str) -> None:
    found = [text[cue.start_char : cue.end_char] for cue in find_cues(turns((speaker, text))) if cue.kind == kind]
    assert any(span in said for said in found), found


@pytest.mark.parametrize(("kind", "speaker", "text"), NOT_HEARD)
def test_a_near_miss_is_not(kind: str, speaker: str, text: str) -> None:
    assert [cue for cue in find_cues(turns((speaker, text))) if cue.kind == kind] == []


def test_cues_of_one_kind_never_overlap() -> None:
    cues = find_cues(turns(("customer", "absolutely useless you are useless i'm so disappointed and not happy with this unbelievable rubbish")))
    spans = sorted((cue.start_char, cue.end_char) for cue in cues if cue.kind == "displeasure")
    assert len(spans) >= 3
    assert all(one[1] <= two[0] for one, two in pairwise(spans))


def test_a_promise_is_its_clause_with_its_time() -> None:
    said = turns(("agent", "I'll call you back tomorrow by noon. Anything else?"), ("customer", "i'll call you"), ("agent", "we'll send it"))
    found = promises(said, find_cues(said))
    assert [(p.turn, p.what, p.when) for p in found] == [(0, "I'll call you back tomorrow by noon", "tomorrow by noon"), (2, "we'll send it", None)]


@pytest.mark.parametrize(("reply", "answer"), [("yes please", "accepted"), ("no thank you", "declined"), ("what does it cost", "open")])
def test_an_offer_has_the_customers_next_answer(reply: str, answer: str) -> None:
    said = turns(("agent", "Would you like me to add the insurance?"), ("customer", reply))
    (offer,) = offers(said, find_cues(said))
    assert (offer.turn, offer.what, offer.answer) == (0, "Would you like me to add the insurance", answer)


def _book(path: Path, rule: str) -> Path:
    path.write_text(f'[[rule]]\nname = "own"\n{rule}\n', encoding="utf-8")
    return path


def test_an_own_cue_file_is_used(tmp_path: Path) -> None:
    book = read_cues(_book(tmp_path / "c.toml", 'kind = "promise"\nphrases = ["(zip|zap it) ... (now)? done$"]\nunless = ["not really"]'))
    text = "well zap it over there now done"
    (cue,) = find_cues(turns(("agent", text)), book)
    assert (text[cue.start_char : cue.end_char], cue.rule) == ("zap it over there now done", "own")
    assert find_cues(turns(("agent", "zip done not"), ("agent", "zip done not really"), ("agent", "zip a b c d done")), book) == ()


def test_an_own_token_pattern_is_used(tmp_path: Path) -> None:
    book = read_cues(_book(tmp_path / "c.toml", 'kind = "promise"\ntokens = [[{ ORTH = "in" }, { LIKE_NUM = true }, { ORTH = "days" }]]'))
    assert [(cue.start_char, cue.end_char) for cue in find_cues(turns(("agent", "It comes in 3 days.")), book)] == [(9, 18)]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('kind = "promis"\nphrases = ["a"]', "did you mean 'promise'"),
        ('kind = "promise"\nphrase = ["a"]', "unknown key 'phrase', did you mean 'phrases'"),
        ('kind = "promise"\nphrases = ["(a|b"]', "bracket is not closed"),
        ('kind = "promise"\nphrases = ["(a)?"]', "without a word"),
        ('kind = "promise"', "neither phrases nor tokens"),
        ('kind = "promise"\nspeaker = "agnt"\nphrases = ["a"]', "did you mean 'agent'"),
        ('kind = "promise"\ntokens = [[{ NOPE = 1 }]]', "not spaCy's"),
    ],
)
def test_a_wrong_rule_is_refused_by_name(tmp_path: Path, rule: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_cues(_book(tmp_path / "c.toml", rule))
    assert message in str(caught.value)
    assert "'own'" in str(caught.value)
