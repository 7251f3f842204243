"""Redaction: what must go, what must stay, in which words, and what redacting twice does."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import UsageError
from analyzer.records import Transcript, Word
from analyzer.redaction import redact, redaction_digest
from tests.builders import transcript

#: Turns by `|`, speakers in turn (agent first); `{CARD:…}` marks what must become `[CARD]`, all else must stay.
PERSONAL = """
my card is {CARD:four one one one one one one one one one one one one one one one}
the long number please|it's {CARD:forty one eleven eleven eleven eleven eleven eleven eleven}
can i take the card number|{CARD:4111 1111 1111 1111}
can i take the card number|sure it's {CARD:four one one one}|uh-huh|{CARD:two two two two}|yep|{CARD:three three three three}|okay|{CARD:four four four two}
The card is {CARD:5500-0000-0000-0004}.
{CARD:378282246310005} is the amex
it's a visa {CARD:four five double three one two oh nine triple eight one four four seven two}
card number {CARD:four for five six one two three for five six seven ate nine one two three}
card number|{CARD:five one oh five one oh five one oh five one oh five one double oh}
what's the sixteen digit number|yeah {CARD:five two double five um one nine oh three and then double four seven one two nine eight oh}
my debit card's {CARD:four nine two nine one two three four five six seven eight nine one two three}
{CARD:six oh one one double one double one double one double one double one one seven}
the number on the card is {CARD:4929 1234 5678 9123}
and the long number across the front|{CARD:five four five four five four five four}|yes|{CARD:five four five four five four five four}
it is {CARD:four one one one one one one one one one one one one one one one} is my card number
my card number {CARD:four five three two oh one five one one two eight three oh three six six} and the expiry is {EXPIRY:oh four twenty seven} and the security code is {CODE:one two three}
can you read me the card|{CARD:four two four two four two four two four two four two four two four two}|so that's {CARD:four two four two four two four two}
Card ends... hang on, full one is {CARD:3530111333300000}
the three digits on the back are {CODE:one two three}
the three digits on the back|{CODE:four oh seven}
and the last three digits on the back of the card please|it's {CODE:nine double two}
cvv is {CODE:123}
C V V|{CODE:eight one six}
the security code|erm|sorry|{CODE:five five nine}
what's your pin number|it's {CODE:seven seven one four}
my passcode is {CODE:two oh four six}
The verification code I got is {CODE:482913}.
{CODE:three one two} is the security code
on the signature strip there's {CODE:six six one}
one time passcode|{CODE:nine oh nine one two two}
the expiry date is {EXPIRY:oh four twenty seven}
and when does it expire expiry date|{EXPIRY:november twenty six}
Expiration date {EXPIRY:04/27}.
the card expires {EXPIRY:zero nine twenty eight}
expiry|it's {EXPIRY:eleven slash twenty nine}
exp date {EXPIRY:12/2027}
valid until {EXPIRY:march twenty eight}
my account number is {ACCOUNT:one two three four five six seven eight}
sort code {ACCOUNT:twenty forty sixty}
sort code is {ACCOUNT:oh nine oh one two six} and account number {ACCOUNT:three one nine two six eight one nine}
The sort code's {ACCOUNT:20-40-60}.
routing number {ACCOUNT:zero two one zero zero zero zero two one}
what's the account number|{ACCOUNT:four four nine}|mm-hm|{ACCOUNT:two oh six one one}
account number {ACCOUNT:31926819}
It's {ACCOUNT:GB29NWBK60161331926819}, my IBAN.
my social security number is {SSN:five three six nine oh four three nine nine}
my social is {SSN:five three six|okay|nine oh four three nine nine}
the last four of your social|{SSN:four three nine nine}
SSN {SSN:536-90-4399}
my national insurance number is {SSN:a b one two three four five six c}
It's {SSN:AB 12 34 56 C}, the N I number.
national insurance number please|{SSN:j g ten thirty five forty nine a}
my date of birth is the {DOB:third of march nineteen eighty two}
date of birth|{DOB:fourteenth of july nineteen seventy one}
D O B {DOB:03/03/1982}
could i have your date of birth|it's {DOB:september twenty second nineteen sixty five}
i was born on the {DOB:first of may nineteen fifty}
date of birth please|uh {DOB:oh three oh four eighty two}
Date of birth? |{DOB:12 June 1990}.
my number is {PHONE:oh seven seven double oh nine hundred one two three}
call me back on {PHONE:oh seven nine four six oh one eight two two nine}
you can reach me at {PHONE:two one two five five five oh one eight seven}
my phone number is {PHONE:five five five oh one two three}
The best number is {PHONE:(212) 555-0187}.
mobile's {PHONE:07700 900123}
it's {PHONE:oh one six three two nine six oh oh one two}
what's the best number to reach you|{PHONE:six one seven}|okay|{PHONE:five five five}|okay|{PHONE:oh one four two}
ring me on {PHONE:oh two oh seven nine four six oh oh one eight} after five
{PHONE:+44 20 7946 0018} that's my office
contact number|{PHONE:oh double seven double oh nine double oh four five six}
my email is {EMAIL:john dot smith at gmail dot com}
email's {EMAIL:jsmith42@example.co.uk} thanks
it's {EMAIL:mary underscore jones at hotmail dot co dot uk}
e mail address is {EMAIL:r o s a at yahoo dot com}
send it to {EMAIL:info at hollin dot org}
my e-mail is {EMAIL:p dot okafor seven two at outlook dot com}
my name is {NAME:john smith}
My name is {NAME:Rosalind Okafor}, I'm calling about a bill.
hi this is {NAME:dave} calling about the boiler
surname {NAME:kowalczyk}
surname|{NAME:k o w a l c z y k}
and your last name|it's spelled {NAME:s m i t h}
the last name is {NAME:Nguyen}
Good morning, you're through to {NAME:Bryony}, how can I help?
Good morning Mrs {NAME:Pickersgill}.
my name's {NAME:asha} and i want to cancel
My name is {NAME:Fenella}.|Thank you, {NAME:Fenella}.
i live at {ADDRESS:twenty two acacia avenue}
The address is {ADDRESS:14 Marlowe Road}.
it's {ADDRESS:Flat 3, 9 Orchard Lane} in Leeds
postcode|{ADDRESS:L S one four d y}
My postcode is {ADDRESS:SW1A 1AA}.
what's your zip code|{ADDRESS:nine oh two one oh}
I want to pay for my order, {CARD:4111 1111 1111 1111} please
for the booking: {CARD:4111 1111 1111 1111}
it's for order, the number is {CARD:four one one one one one one one one one one one one one one one}
sort code {ACCOUNT:20 00 00} account {ACCOUNT:1234 5678}
my card is {CARD:４１１１ １１１１ １１１１ １１１１}, you see
it's {CODE:１２３}, my cvv
"""  # noqa: E501

INNOCENT = """
my order number is four four seven nine one two
order number 4479128830
your reference is two three oh nine one one seven
the reference number is 1Z 999 44
it's booking reference Q, seven, K for kilo, L for lima, two, X
that will be forty two pounds fifty
it was three hundred and twelve dollars
they charged me forty one eleven on my card
my card was charged twice for nineteen ninety nine
the one two three bus
i waited forty five minutes on the one twenty two
since twenty twenty four
i bought it in two thousand and nineteen
in 2024 and again in 2025
it's a model three four five seven b
the model number is WX4420
the serial number is nine nine one two four four eight seven oh one
error code four oh four
it says error one two two five
nine to five monday to friday
between two and four on the thirteenth
can you come at ten thirty or two fifteen
the meter reading is oh four five nine two
reading's 45921
i've got one two three four boxes here
three to five working days
ten to fifteen working days
the total is one thousand two hundred and eighty pounds
$1,299.99 for a phone
it's 50% off
£42.50 a month
we're number one in the region
i've called three times in two weeks
twenty years i've been with you
it's the third time in as many weeks
fourteen inch screen and a sixteen gig card
it's got one hundred and twenty eight gigs
my tracking number is 9400 1000 0000 0000 0000 00
tracking number nine four oh oh one one one
flight BA two four seven at gate thirty two
flight number four four two at ten past six
the ticket number is double oh seven
ticket 2771 was opened on Friday
claim number four four nine oh one
claim is G, four four, nine oh one
the invoice number is one oh oh two three four
case number 00123456
policy number seven seven one two two oh
i'm in room four one two
turn to channel one oh one
call one oh one for a crime number
dial nine nine nine
press one two or three
page nineteen chapter four
one or two of them
one two three testing
two for one on pizzas
buy one get one free
two by four timber
five hundred megs down and fifty up
it was eight hundred and fifty nine euros
four out of five
seven days a week twenty four hours a day
my card was declined
is my card ready
what does the security code do
my name is on the account
my name is wrong on the bill
this is ridiculous
this is the third time
this is about the bill
it's under warranty
i don't have an email
look at the dot on the map
meet me at four
we're at the office
i was born in leeds
the expiry date has passed
it expires soon
the account is closed
is the account in credit
the phone is broken
my phone died two days ago
call me on friday
phone me on tuesday at four
i live at home with my mum
down the road
ten minutes down the road
the first of may
on the twenty second of september
march was awful
may i put you on hold
version ten point four point two
firmware 12.4.1
the product code is eight eight one two
quote number five five oh two one
it's a size ten to twelve
it's minus five degrees
at fifty miles an hour
the store number is three one two
lot number two two oh nine
population of sixty million
that's lot one oh four at auction
oh for goodness sake
oh i see two of them
he won two to one
i ate two for lunch
too many to count
mileage is ninety four thousand two hundred
your voucher code is one two three four
the confirmation number is five five two nine one oh three
imei number is 490154203237518
can you count to ten|okay one two three four five six seven eight nine ten
the lowest was 12.99 and the highest 149.00
a b c
t v licence
dot com
"""


def _parse(line: str) -> tuple[Transcript, list[str], set[str]]:
    """The call as said, its turns as they should be, and the kinds marked in it."""
    marked = re.sub(r"\{([A-Z]+):([^{}|]*)\|([^{}|]*)\|([^{}|]*)\}", r"{\1:\2}|\3|{\1:\4}", line)
    said = re.sub(r"\{[A-Z]+:([^}]*)\}", r"\1", marked).split("|")
    wanted = re.sub(r"\{([A-Z]+):[^}]*\}", r"[\1]", marked).split("|")
    speakers = ("agent", "customer")
    call = transcript(*((speakers[n % 2], text) for n, text in enumerate(said)))
    return call, wanted, {kind.lower() for kind in re.findall(r"\{([A-Z]+):", marked)}


def _texts(call: Transcript) -> list[str]:
    return [turn.text for turn in call.turns]


@pytest.mark.parametrize("line", PERSONAL.strip().splitlines())
def test_personal_data_goes(line: str) -> None:
    call, wanted, kinds = _parse(line)
    done = redact(call)
    assert _texts(done) == wanted
    assert set(done.redacted) == kinds
    assert sum(done.redacted.values()) == sum(len(re.findall(r"\[[A-Z]+\]", text)) for text in wanted)


@pytest.mark.parametrize("line", INNOCENT.strip().splitlines())
def test_innocent_numbers_and_words_stay(line: str) -> None:
    call, _, _ = _parse(line)
    assert redact(call) == call


def test_levels_take_more_and_more() -> None:
    call = transcript(("customer", "my card is 4111 1111 1111 1111, my number is 07700 900123 and order 4471 2290 1"))
    assert redact(call, "none") is call
    assert _texts(redact(call, "payment")) == ["my card is [CARD], my number is 07700 900123 and order 4471 2290 1"]
    assert _texts(redact(call, "standard")) == ["my card is [CARD], my number is [PHONE] and order 4471 2290 1"]
    assert _texts(redact(call, "strict")) == ["my card is [CARD], my number is [PHONE] and order [NUMBER]"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'strong' is unknown.*none, payment, standard, strict"):
        redact(transcript(), "strong")


def test_counts_are_added_to_those_before() -> None:
    call = dataclasses.replace(transcript(("customer", "cvv is 123 and my name is dave")), redacted={"code": 2})
    assert redact(call).redacted == {"code": 3, "name": 1}


def _with_words(text: str, said: list[str]) -> Transcript:
    words = tuple(Word(text=word, start_s=n * 0.5, end_s=n * 0.5 + 0.4, confidence=0.9) for n, word in enumerate(said))
    call = transcript(("customer", text))
    return dataclasses.replace(call, turns=(dataclasses.replace(call.turns[0], words=words),))


def test_words_of_a_span_become_one_word_over_its_time() -> None:
    text = "the code on the back is one two, three. thanks"
    (turn,) = redact(_with_words(text.replace("code", "security code"), text.replace("code", "security code").split())).turns
    assert turn.text == "the security code on the back is [CODE]. thanks"
    assert [word.text for word in turn.words] == ["the", "security", "code", "on", "the", "back", "is", "[CODE]", "thanks"]
    assert (turn.words[7].start_s, turn.words[7].end_s) == (3.5, 4.9)


def test_words_that_do_not_lie_over_their_text_are_dropped_not_kept() -> None:
    (turn,) = redact(_with_words("cvv is 123", ["cvv", "is", "one", "two", "three"])).turns
    assert (turn.text, turn.words) == ("cvv is [CODE]", ())


def test_words_that_hold_what_their_text_does_not_are_dropped_where_nothing_is_replaced_too() -> None:
    (beside,) = redact(_with_words("i would like to pay", ["4111", "1111", "1111", "1111"])).turns
    assert (beside.text, beside.words) == ("i would like to pay", ())
    whole = _with_words("Die große Straße, bitte", ["Die", "große", "Straße,", "bitte"])
    assert redact(whole) == whole
    untouched = _with_words("i would like to pay", ["4111"])
    assert redact(untouched, "none") is untouched


def test_texts_about_the_call_are_redacted_each_by_itself_and_ids_and_dates_are_kept() -> None:
    card = "4111 1111 1111 1111"
    call = transcript(
        call_id="4111111111111111",
        agent_id="07700900123",
        customer_id="4111111111111111",
        contact_id="4111111111111111",
        reason=f"paid with {card}",
        disposition="cvv is 123",
        queue="call me on 07700 900123",
        ended_by="jo@example.org",
        direction="inbound",
        covariates={"note": f"card {card}", "trained_at": "2025-03-01", "visits": 7, "vip": True, "gone": None},
    )
    done = redact(call, "strict")
    ids = (done.info.call_id, done.info.agent_id, done.info.customer_id, done.info.contact_id)
    assert ids == ("4111111111111111", "07700900123", "4111111111111111", "4111111111111111")
    about = (done.info.reason, done.info.disposition, done.info.queue, done.info.ended_by, done.info.direction)
    assert about == ("paid with [CARD]", "cvv is [CODE]", "call me on [PHONE]", "[EMAIL]", "inbound")
    assert done.info.covariates == {"note": "card [CARD]", "trained_at": "2025-03-01", "visits": 7, "vip": True, "gone": None}
    assert done.redacted == {"card": 2, "code": 1, "phone": 1, "email": 1}
    assert redact(done, "strict") == done
    assert redact(call, "none") is call


def test_the_digest_follows_the_rules_and_the_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    before = redaction_digest()
    assert re.fullmatch("[0-9a-f]{64}", before)
    assert redaction_digest() == before
    monkeypatch.setattr("analyzer.redaction.REVISION", -1)
    assert redaction_digest() != before


PIECES = st.sampled_from(
    ["my card is", "four one", "one one one", "double two", "uh-huh", "cvv", "expires", "oh four twenty seven", "4111 1111", "1111", "account number",
     "12", "seven", "to", "for", "oh", "[CARD]", "[CODE]", "date of birth", "may", "third", "my name is", "dave", "Smith", "at gmail dot com", "dot",
     "@", "sort code", "phone", "order number", "07700 900123", "s m i t h", "road", "acacia", "£", "42.50", "minutes", "postcode", "a b", "é", "İ"]
)  # fmt: skip
WORDS = st.sampled_from(["the", "was", "not", "happy", "with", "delivery", "please", "help", "again", "parcel", "never", "came", "thanks"])
DIGITS = st.sampled_from(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
CALLS = st.lists(st.one_of(st.lists(PIECES, max_size=9).map(" ".join), st.text(max_size=40)), min_size=1, max_size=5)


@given(CALLS, st.sampled_from(["payment", "standard", "strict"]))
def test_redacting_twice_is_redacting_once(texts: list[str], level: str) -> None:
    once = redact(transcript(*(("customer" if n % 2 else "agent", text) for n, text in enumerate(texts))), level)
    assert redact(once, level) == once


@given(CALLS)
def test_no_digit_survives_in_words_that_went_from_the_text(texts: list[str]) -> None:
    for text in texts:
        (turn,) = redact(_with_words(text, text.split())).turns
        if turn.words:
            assert re.sub(r"\W", "", "".join(word.text for word in turn.words)) in re.sub(r"\W", "", turn.text)


@given(st.lists(WORDS, max_size=30))
def test_words_alone_stay_as_they_are(words: list[str]) -> None:
    call = transcript(("customer", " ".join(words)))
    assert redact(call) == call


@given(st.lists(DIGITS, min_size=16, max_size=16))
def test_sixteen_spoken_digits_after_a_card_cue_go_even_when_the_check_digit_is_wrong(words: list[str]) -> None:
    done = redact(
        transcript(("agent", "the long number on the card"), ("customer", " ".join(words[:8])), ("agent", "mm-hm"), ("customer", " ".join(words[8:])))
    )
    assert _texts(done)[1] == _texts(done)[3] == "[CARD]"
