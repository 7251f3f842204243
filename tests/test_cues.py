"""Cues: what each kind hears, with exact characters, what it must not, and what cue files are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.cues import KINDS, find_cues, offers, promises, read_cues
from analyzer.deadlines import due
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
    ("promise", "agent", "An engineer will come on Thursday.", "engineer will come"),
    ("promise", "agent", "the refund is back with you in three to five days", "refund is"),
    ("promise", "agent", "someone will be in touch", "someone will be in touch"),
    ("value_signal", "customer", "see you next week", "see you next"),
    ("value_signal", "customer", "I'd rather stay with you.", "stay with you"),
    ("value_signal", "customer", "sign me up", "sign me up"),
    ("churn_signal", "customer", "I'm switching to the other lot", "I'm switching to"),
    ("churn_signal", "customer", "stop the subscription", "stop the subscription"),
    ("no_no", "agent", "I'm not a detective.", "I'm not a detective"),
    ("no_no", "agent", "everyone has a reason", "everyone has a reason"),
    ("no_no", "agent", "people don't read it", "people don't read"),
    ("repeat_contact", "customer", "i rang about this last week", "i rang about this last week"),
    ("repeat_contact", "customer", "It's me again.", "me again"),
    ("complaint", "customer", "I'm being fobbed off!", "fobbed off"),
    ("complaint", "customer", "i'm not very impressed", "not very impressed"),
    ("vulnerability", "customer", "I'm on my own, you see.", "on my own"),
    ("opt_out", "customer", "take me off all of it", "take me off all"),
    ("disclosure", "agent", "it is not a guarantee of payment", "not a guarantee of payment"),
    ("id_check", "agent", "May I know your good name?", "May I know your good name"),
    ("offer", "agent", "i can send a technician if you like", "i can send a"),
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
    ("vulnerability", "customer", "i'm eighty quid short"),
    ("promise", "agent", "i'll check it"),
    ("promise", "agent", "i'll message him now"),
    ("promise", "agent", "you'll see a tube with a nut on it"),
    ("promise", "customer", "an engineer will come on thursday"),
    ("value_signal", "customer", "i'll take the bed back to the shop then"),
    ("value_signal", "agent", "see you next week"),
    ("churn_signal", "customer", "there's somebody else talking on my line"),
    ("churn_signal", "customer", "i'll ring back when i'm off"),
    ("no_no", "agent", "that's not a problem at all"),
    ("no_no", "customer", "everyone has a reason"),
    ("repeat_contact", "customer", "i only rang on the off chance"),
    ("offer", "agent", "is there anything else i can do for you"),
    ("id_check", "agent", "what's the address of the shop"),
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


#: Said on Monday 2 March 2026 at 10:15.
DUE = [
    ("tomorrow", "03-03 23:59"),
    ("tomorrow by noon", "03-03 12:00"),
    ("tomorrow between eight and one", "03-03 13:00"),
    ("by Thursday", "03-05 23:59"),
    ("monday at half nine", "03-09 09:30"),
    ("next thursday", "03-12 23:59"),
    ("within 5 working days", "03-09 23:59"),
    ("three to five days", "03-07 23:59"),
    ("in two hours", "03-02 12:15"),
    ("at ten", "03-03 10:00"),
    ("at three", "03-02 15:00"),
    ("this afternoon", "03-02 18:00"),
    ("in the morning", "03-03 12:00"),
    ("half past nine tonight", "03-02 21:30"),
    ("by the 23rd", "03-23 23:59"),
    ("the first", "04-01 23:59"),
    ("end of the week", "03-06 23:59"),
    ("right away", None),
    ("in a few days", None),
]


@pytest.mark.parametrize(("when", "moment"), DUE)
def test_a_time_named_falls_due(when: str, moment: str | None) -> None:
    got = due(when, datetime(2026, 3, 2, 10, 15, tzinfo=UTC))
    assert (got and got.strftime("%m-%d %H:%M")) == moment


def test_a_promise_is_due_when_the_call_is_dated() -> None:
    said = turns(("agent", "We'll ring you in two hours."), ("agent", "Someone will be in touch."))
    start = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)
    dated = promises(said, find_cues(said), start)
    assert [p.due_at and p.due_at.isoformat() for p in dated] == ["2026-03-02T12:15:00+00:00", None]
    assert [p.due_at for p in promises(said, find_cues(said))] == [None, None]


def test_a_rule_that_needs_a_time_is_silent_without_one(tmp_path: Path) -> None:
    book = read_cues(_book(tmp_path / "c.toml", 'kind = "promise"\nneeds = "time"\nphrases = ["zap it"]'))
    assert [len(find_cues(turns(("agent", text)), book)) for text in ("zap it by friday", "zap it", "zap it right away", "friday. zap it")] == [
        1,
        0,
        0,
        0,
    ]


_SAID = st.lists(st.sampled_from([text for _, _, text, _ in HEARD] + ["", "…", "[NAME]", "née O’Brien", "\n"]), max_size=4).map(" ".join)


@given(_SAID | st.text(max_size=60), st.sampled_from(["agent", "customer"]))
def test_spans_lie_in_the_text_on_the_borders_of_words(text: str, speaker: str) -> None:
    for cue in find_cues(turns((speaker, text))):
        assert cue.kind in KINDS
        assert 0 <= cue.start_char < cue.end_char <= len(text)
        for inside, outside in ((cue.start_char, cue.start_char - 1), (cue.end_char - 1, cue.end_char)):
            assert not (0 <= outside < len(text) and text[inside].isalnum() and text[outside].isalnum())


@given(
    st.integers(1, 400),
    st.sampled_from(["minutes", "hours", "days", "working days", "weeks"]),
    st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)),
)
def test_a_span_falls_due_later_the_longer_it_is(number: int, unit: str, said: datetime) -> None:
    said_at = said.replace(tzinfo=UTC)
    sooner, later = due(f"in {number} {unit}", said_at), due(f"within {number + 1} {unit}", said_at)
    assert sooner is not None
    assert later is not None
    assert said_at < sooner < later
