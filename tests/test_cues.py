"""Cues: what each kind hears, with exact characters, what it must not, and what cue files are refused."""

from __future__ import annotations

import re
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

#: By kind: who says it, lines in which it is heard (in guillemets, the least that is) and near misses, parted by bars. Each counts as written and
#: as a speech recogniser gives it: lower case, no punctuation.
SAID: dict[str, tuple[str, str, str]] = {
    "greeting": (
        "agent",
        "«Good morning», Oakfield Water. | «Hello», who am I speaking to? | «Thank you for calling» the clinic. | So, «how can I help»? | "
        "Right, «what can I do for you»? | You're through to billing, «my name is [NAME]».",
        "It was a good morning for it. | She said hello to him. | You called, thank you. | My name is on the form. | I can help you with that.",
    ),
    "thanks": (
        "any",
        "Okay, «thank you». | «Thanks» a lot. | That's «much appreciated». | «I appreciate it». | «Cheers», bye. | "
        "«Thanks» for waiting, I have it now.",
        "Thanks for nothing! | No thanks to you. | I sent a letter last week. | It will appreciate in value.",
    ),
    "apology": (
        "agent",
        "«I'm so sorry» about that. | «I am sorry». | «We apologise» for the delay. | «That's our mistake». | «Our apologies», it was late. | "
        "«That should never have happened».",
        "Sorry, what was that? | Sorry, but you signed it. | You should be sorry. | It's a sorry sight. | I'm not sorry.",
    ),
    "empathy": (
        "agent",
        "«I understand why» you're cross. | «That must be» hard. | «I can imagine how» that felt. | «That sounds frustrating». | "
        "«I don't blame you». | «No wonder you» rang.",
        "I understand that you have to pay. | That must go back. | I can see the order. | That is a nice one. | You must have the form.",
    ),
    "ownership": (
        "agent",
        "«Leave it with me». | I'm on it, «I'll see to it». | «I'll get this sorted». | «Let me sort» that. | «You won't have to explain» again. | "
        "«I am going to make sure» of it.",
        "Leave it with the neighbour. | You'll have to sort it. | It was left with him. | They will get it fixed. | Let me know.",
    ),
    "permission": (
        "agent",
        "«May I ask» why? | «Could I just check» one thing? | «Is it okay if» I do? | «Would you mind holding»? | "
        "«Are you happy for» me to look? | «Can I put you» on hold?",
        "I put you on hold. | You may ask him. | I don't mind. | It's okay now. | They're happy about it.",
    ),
    "name_use": (
        "agent",
        "Right «Mrs [NAME]», one moment. | «Thank you [NAME]». | Yes «sir». | «Hello [NAME]». | No «madam», it isn't. | «Doctor [NAME]», I have it.",
        "The card is in her name. | I'll miss it. | It's on doctor's orders. | Is the hall open? | It goes to [NAME] Street.",
    ),
    "blame": (
        "agent",
        "«You should have read» it. | «You should have checked». | «That is your fault». | «You never told» us. | «You were told». | "
        "«If you had listened», you'd know. | «You signed it».",
        "It's not your fault. | You should have received a letter. | We should have told you. | They were told. | You can sign it there.",
    ),
    "dismissal": (
        "agent",
        "There's «nothing we can» do. | It's «not my department». | «It is what it is». | «That's just how it works». | «Suit yourself». | "
        "I «can't help you».",
        "I can help you. | What can we do? | It works now. | The policy starts on Monday. | There is one thing we can do.",
    ),
    "order": (
        "agent",
        "Sir, «you need to calm down». | «Stop shouting». | «Watch your language». | «Lower your voice». | «Just listen to me». | "
        "«Don't take that tone».",
        "You need to sign it. | The bus will stop there. | I'll listen to it. | You don't have to shout. | Just answer when it rings.",
    ),
    "interruption": (
        "any",
        "«Let me finish». | «Don't interrupt» me. | «If I can just finish» that. | No, «I was talking». | «You keep cutting me off». | "
        "«Sorry to interrupt».",
        "I'll finish it today. | The line was interrupted. | They talk a lot. | Let me see. | It cuts off at nine.",
    ),
    "promise": (
        "agent",
        "«I'll call» you back tomorrow by noon. | An «engineer will come» on Thursday. | The «refund is» back with you in five days. | "
        "«Someone will be in touch». | «We'll let you know». | «I've booked a» visit for Monday. | «You'll get a» letter by Friday. | "
        "It «should arrive» on Tuesday.",
        "I will not call. | I'll put you on hold. | I'll check it. | I'll message him now. | You'll see a tube with a nut on it.",
    ),
    "refusal": (
        "agent",
        "«I can't refund» it. | «We are unable to» do that. | «That's not possible». | It's «non-refundable». | «There are no refunds». | "
        "You're «not eligible».",
        "I can refund it. | It is possible. | You are covered. | There's a refund coming. | We are able to do it.",
    ),
    "confirmation": (
        "agent",
        "«That's done». | «It's all booked» for you. | «You're all set». | «That has gone through». | «To confirm», it's two. | «I've updated» it.",
        "Is it done? | It was never booked. | We can cancel it. | Please confirm it. | They're set in stone.",
    ),
    "churn_signal": (
        "customer",
        "«I'm done with you». | «I'll be going to the other lot» next time. | «We'll go somewhere else». | «I won't be renewing» it. | "
        "«I'm going back to my old bank». | «I'm cancelling my contract». | I «got a cheaper quote from another company». | "
        "You've «lost a customer». | «We'll never order from you again». | I'm «telling everyone not to» come here. | "
        "«When the month is up, I'm off». | I'm «leaving because nobody» answers. | «I'm switching to» another bank. | "
        "I'm «taking my business elsewhere».",
        "I'd like to close my account, please. | I'm not going anywhere else. | I swear, never again will I lose it. | "
        "I'll never use anybody else. | I'm moving to Leeds in May. | Can I speak to somebody else? | It's going to my old address. | "
        "I'll ring back when I'm off. | I want to cancel the sports package. | There's somebody else talking on my line. | "
        "I'm done with that form now. | Who else is on the account?",
    ),
    "value_signal": (
        "customer",
        "«I'll recommend you». | «We'll book again next year». | «I'll definitely be back for» more. | «Sign me up». | "
        "I'm «telling my friends about you». | I'd «rather stay with you». | «I wouldn't go anywhere else». | «We're coming back next» summer. | "
        "«I'll take two more» of those. | I'll «leave you a great review». | «See you next year». | «I'm signing again».",
        "I won't be back. | I'll be back in a minute. | I would never recommend you. | I'll tell my husband to call you back. | "
        "See you on Monday. | I'll take the bed back to the shop then. | I'll go with another company next year. | "
        "Would it do that again next time? | If I order another, is it free? | I'll have to book another appointment.",
    ),
    "complaint": (
        "customer",
        "I want to «make a complaint». | «I want to complain». | «I'm not happy with» this. | I'll go to the «ombudsman» then. | "
        "I «want my money back». | I'm being «fobbed off». | I'm «fed up with it». | «This is unacceptable». | «It's a disgrace». | "
        "«Get me a manager». | «What are you going to do about it»? | You'll be «hearing from my solicitor». | «I expect an apology».",
        "I've no complaints. | I'm not complaining. | The solicitor has the keys. | Would you like a refund? | I'm happy with this. | "
        "He told a good joke. | My manager is off today. | I can't complain, it's been good. | My solicitor is sending the deeds. | "
        "It's not a complaint, just a question.",
    ),
    "repeat_contact": (
        "customer",
        "It's the «third time I've called». | «I rang about this last week». | It's «me again». | «I've been chasing» you. | "
        "«I've already called twice». | I «keep having to» ring. | «Every time I ring», it's a new story.",
        "I only rang on the off chance. | It's the first time I've called. | I'm calling back as you asked. | The third floor is closed. | "
        "It's the second on the left.",
    ),
    "vulnerability": (
        "customer",
        "«My husband passed away». | «He died on» Sunday. | She's «got dementia». | I'm «in hospital». | «I lost my job». | "
        "We «can't afford it». | I'm «behind on my rent». | «I'm diabetic». | I «live alone», you see. | We've «no heating and a baby» here. | "
        "She's «easily confused», she «gets muddled». | «I'm eighty one, you see». | I had a «panic attack». | My «mum is very poorly».",
        "My phone has died. | I'm eighty quid short. | I nearly had a heart attack when I saw the bill. | What a stroke of luck. | "
        "I can't afford to miss my train. | I lost my son's ticket. | I work at the hospital. | Is there a funeral plan? | I did it on my own. | "
        "I'm sick of this. | I want a baby seat. | It's three months old.",
    ),
    "opt_out": (
        "customer",
        "«Don't call me» again. | «Stop texting me». | «Take me off your list». | «Delete my data». | «Take me off all of it». | "
        "«Unsubscribe me» please. | I «don't want any more emails». | «Remove my number from your database». | I «want to opt out». | "
        "«Don't share my details».",
        "Don't call me until six. | Don't call me love. | Why did you not call me? | Take me off hold. | Take my name off the booking. | "
        "They didn't call us. | I got no more emails. | Will it delete my data? | They never call me back.",
    ),
    "disclosure": (
        "agent",
        "This «call is recorded». | «Calls may be monitored». | It's «recorded for training». | We're «authorised by» the FCA. | "
        "There's a «cooling off» period. | It is «not a guarantee of payment».",
        "I recorded the reading. | The training is on Monday. | What is the quality like? | We've cooled it. | Payment is due.",
    ),
    "id_check": (
        "agent",
        "Can you «confirm your full name»? | What's your «date of birth»? | I have some «security questions». | «Who am I speaking to»? | "
        "«May I know your good name»? | Can I «take your postcode»?",
        "What's the address of the shop? | I've put your name down. | The security door is open. | Confirm the address is right. | "
        "The date is wrong.",
    ),
    "praise": (
        "customer",
        "«You've been so helpful». | «That's wonderful». | You «made my day». | «What a relief». | «I'm so happy». | «Bless you».",
        "You have not been helpful. | I'm not happy. | It was a relief valve. | That would be the one. | I'm happy to hold.",
    ),
    "displeasure": (
        "customer",
        "«That's ridiculous». | «I'm fed up». | What a «waste of time». | «Not good enough». | «For goodness' sake». | «Whatever».",
        "I'm not angry with you. | Whatever suits. | Some help with the form. | I'm no longer upset. | That's good enough.",
    ),
    "no_no": (
        "agent",
        "That's «not my problem». | «You should've read» it. | «You people». | «Calm down». | «Are you deaf»? | «I'm not a detective». | "
        "«What do you want me to» do? | «I've already told you» that. | «If you'd listened», you'd know. | «Grow up». | «People don't read». | "
        "«Everyone has a reason». | «Suit yourself». | «I don't make the rules».",
        "That's not a problem at all. | It's not your fault. | You should have received it. | Do you want me to book it? | No need to apologise. | "
        "Is your sort code right? | We're not going to charge you. | I told you I would ring. | It's been a tough week. | "
        "What would you like me to put? | Lots of people don't read it, so thank you.",
    ),
    "offer": (
        "agent",
        "«Would you like me to» add it? | «I can send a technician if you like». | «Can I offer you» a discount? | «Shall I book» it? | "
        "«Do you want one»? | «Would you be interested in» a plan? | «How about a» voucher?",
        "Is there anything else I can do for you? | Can I put you on hold? | When do you want it? | I can't offer you that. | "
        "That's the best I can do. | Would you like to hold? | I can see it.",
    ),
    "accept": (
        "customer",
        "«Yes please». | «Go on» then. | «That would be great». | «I'll take it». | Well, «let's do that». | «Send it» then. | «I'd love that».",
        "Yes, but how much is it? | No thank you. | What does it cost? | Please cancel it. | I'd not do that. | Yeah right.",
    ),
    "decline": (
        "customer",
        "«No thanks». | «No», I'd rather not. | «Not today». | «I'll leave it». | «I don't want it». | «We're fine as we are». | "
        "«Maybe another time». | It was for yesterday, «so no».",
        "No problem. | Yes, do that. | I want it. | No, that's fine. | How much is it? | No worries.",
    ),
}  # fmt: skip


def _plain(text: str) -> str:
    """As a speech recogniser gives it."""
    return " ".join(word if word.startswith("[") else word.lower() for word in re.findall(r"\[[A-Z]+\]|[\w']+", text))


def _lines(place: int) -> list[tuple[str, str, str]]:
    return [(kind, row[0], line.strip()) for kind, row in SAID.items() for line in row[place].split("|")]


def _heard(kind: str, speaker: str, text: str) -> list[str]:
    who = "customer" if speaker == "any" else speaker
    return [text[cue.start_char : cue.end_char] for cue in find_cues(turns((who, text))) if cue.kind == kind]


@pytest.mark.parametrize(("kind", "speaker", "line"), _lines(1))
def test_a_cue_is_heard_at_its_characters(kind: str, speaker: str, line: str) -> None:
    text = re.sub("[«»]", "", line)
    spans = re.findall("«(.*?)»", line)
    for style in (str, _plain):
        found = _heard(kind, speaker, style(text))
        assert spans, line
        assert all(any(style(span) in said for said in found) for span in spans), (style(text), found)


@pytest.mark.parametrize(("kind", "speaker", "line"), _lines(2))
def test_a_near_miss_is_not(kind: str, speaker: str, line: str) -> None:
    assert [_heard(kind, speaker, style(line)) for style in (str, _plain)] == [[], []]


@pytest.mark.parametrize(("kind", "speaker", "line"), [row for row in _lines(1) if row[1] != "any"])
def test_a_cue_is_not_heard_from_the_other_side(kind: str, speaker: str, line: str) -> None:
    assert _heard(kind, "customer" if speaker == "agent" else "agent", re.sub("[«»]", "", line)) == []


def test_every_kind_has_its_lines() -> None:
    assert set(SAID) == set(KINDS)
    assert all(len(row[1].split("|")) >= 6 and len(row[2].split("|")) >= 4 for row in SAID.values())


def test_cues_of_one_kind_never_overlap() -> None:
    cues = find_cues(turns(("customer", "absolutely useless you are useless i'm so disappointed and not happy with this unbelievable rubbish")))
    spans = sorted((cue.start_char, cue.end_char) for cue in cues if cue.kind == "displeasure")
    assert len(spans) >= 3
    assert all(one[1] <= two[0] for one, two in pairwise(spans))


def test_a_promise_is_its_clause_with_its_time() -> None:
    said = turns(("agent", "I'll call you back tomorrow by noon. Anything else?"), ("customer", "i'll call you"), ("agent", "we'll send it"))
    found = promises(said, find_cues(said))
    assert [(p.turn, p.what, p.when) for p in found] == [(0, "I'll call you back tomorrow by noon", "tomorrow by noon"), (2, "we'll send it", None)]


@pytest.mark.parametrize(
    ("replies", "answer"),
    [
        (["yes please"], "accepted"),
        (["no thank you"], "declined"),
        (["No. I'll think about it."], "declined"),
        (["what does it cost"], "open"),
        (["what does it cost", "go on then"], "accepted"),
        (["how much", "no that's too dear"], "declined"),
        (["what is it", "and how much", "yes please"], "open"),
        (["what about fire", "Would you like the leaflet?", "yes please"], "open"),
    ],
)
def test_an_offer_has_the_customers_next_answer(replies: list[str], answer: str) -> None:
    talk = [("agent" if said.startswith("Would") else "customer", said) for said in replies]
    said = turns(("agent", "Would you like me to add the insurance?"), *(turn for pair in talk for turn in (pair, ("agent", "it's five pounds"))))
    offer = offers(said, find_cues(said))[0]
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


def test_an_own_word_list_stands_for_its_words(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[words]\npet = "cat|old dog"\nmine = "my {pet}|the bird"\n[[rule]]\nname = "own"\nkind = "thanks"\nphrases = ["{mine} ran"]\n')
    found = find_cues(turns(("agent", "My old dog ran, the bird ran, my dog ran")), read_cues(path))
    assert [(cue.start_char, cue.end_char) for cue in found] == [(0, 14), (16, 28)]


def test_an_own_token_pattern_is_used(tmp_path: Path) -> None:
    book = read_cues(_book(tmp_path / "c.toml", 'kind = "promise"\ntokens = [[{ ORTH = "in" }, { LIKE_NUM = true }, { ORTH = "days" }]]'))
    assert [(cue.start_char, cue.end_char) for cue in find_cues(turns(("agent", "It comes in 3 days.")), book)] == [(9, 18)]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('kind = "promis"\nphrases = ["a"]', "did you mean 'promise'"),
        ('kind = "promise"\nphrase = ["a"]', "unknown key 'phrase', did you mean 'phrases'"),
        ('kind = "promise"\nphrases = ["(a|b"]', "bracket is not closed"),
        ('kind = "promise"\nphrases = ["a b)"]', "')' is no word"),
        ('kind = "promise"\nphrases = ["(a)?"]', "without a word"),
        ('kind = "promise"\nphrases = ["a {pet}"]', "'{pet}' is not in [words]"),
        ('kind = "promise"\nphrases = ["a (b ... c)"]', "is not closed (... stands outside"),
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
    lines = ("zap it by friday", "zap it", "zap it right away", "friday. zap it")
    assert [len(find_cues(turns(("agent", text)), book)) for text in lines] == [1, 0, 0, 0]


_SAID = st.lists(st.sampled_from([line for _, _, line in _lines(1)] + ["", "…", "[NAME]", "née O’Brien", "\n"]), max_size=4).map(" ".join)


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
