"""Rewordings change what they say and nothing else; a score that listens to names or spelling is found out, one that does not is not."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.evaluation import Prediction
from analyzer.fairness import Shift, reworded, shifts, versions
from analyzer.labels import LabelledCall
from analyzer.records import Transcript
from tests.builders import transcript
from tests.conftest import ROOT

WORDINGS = {f"{one.kind}/{one.name}": one for one in versions()}
RULES = tomllib.loads((ROOT / "analyzer" / "data" / "fairness.toml").read_text(encoding="utf-8"))


def texts(name: str, *said: str, speaker: str = "customer") -> list[str]:
    return [turn.text for turn in reworded(transcript(*((speaker, text) for text in said)), WORDINGS[name].rewrite).turns]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("names/arabic", "This is Emily, is Thomas there?", "This is Fatima, is Mohammed there?"),
        ("names/arabic", "this is emily speaking", "this is fatima speaking"),
        ("names/south_asian", "Ngozi rang.", "Priya rang."),
        ("names/slavic", "My name is [NAME].", "My name is Wojciech."),
        ("names/slavic", "my name is [NAME]", "my name is wojciech"),
        ("names/slavic", "my card is [CARD]", "my card is [CARD]"),
        ("names/arabic", "Emily's phone, not emily’s.", "Fatima's phone, not fatima’s."),
        ("names/arabic", "Emilyn and Anne-Emily wrote to emily@post.com.", "Emilyn and Anne-Emily wrote to emily@post.com."),
        ("phrasing/dropped_words", "The parcel is in a box at 9 a.m.", "Parcel is in box at 9 a.m."),
        ("phrasing/dropped_words", "the", "the"),
        ("phrasing/dropped_words", "only a few came, a day late, l a nine", "only a few came, a day late, l a nine"),
        ("phrasing/dropped_words", "we were waiting for you for two weeks", "we were waiting you for two week"),
        ("phrasing/second_language", "Can you tell me the date?", "Please to tell me the date?"),
        ("phrasing/second_language", "i want a refund", "i am wanting a refund"),
        ("phrasing/second_language", "I’ve been waiting", "I am waiting"),
        ("phrasing/second_language", "I'd like to know what it is", "I am wanting to know what is it"),
        ("phrasing/second_language", "When can you tell me?", "When can you tell me?"),
        ("phrasing/second_language", "Did you receive it? I was disappointed.", "Did you received it? I was disappointed."),
        ("spelling/scots", "I don't know", "I dinnae ken"),
        ("spelling/scots", "i dont know", "i dinnae ken"),
        ("spelling/northern_english", "Nothing came.", "Nowt came."),
        ("spelling/american_vernacular", "It isn't working", "It ain't workin"),
        ("spelling/american_vernacular", "We were not going to better it", "We was not goin to better it"),
        ("spelling/american_vernacular", "you should have a look", "you should have a look"),
        ("control/synonyms", "Okay, maybe.", "Ok, perhaps."),
        ("control/synonyms", "Sorry about that, each other, about two weeks.", "Sorry about that, each other, around two weeks."),
    ],
)
def test_words_are_changed_as_the_file_says(name: str, before: str, after: str) -> None:
    assert texts(name, before) == [after]


def test_one_person_keeps_one_name_and_times_stay() -> None:
    call = transcript(("agent", "Hello, [NAME] speaking."), ("customer", "Emily here."), ("agent", "Hello Emily."))
    after = reworded(call, WORDINGS["names/hispanic"].rewrite)
    assert [turn.text for turn in after.turns] == ["Hello, Marisol speaking.", "Marisol here.", "Hello Marisol."]
    assert [(turn.speaker, turn.start_s, turn.end_s) for turn in after.turns] == [(turn.speaker, turn.start_s, turn.end_s) for turn in call.turns]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=3), st.sampled_from(sorted(WORDINGS)))
def test_no_text_breaks_a_rewording(said: list[str], name: str) -> None:
    after = texts(name, *said)
    assert len(after) == len(said)
    assert [bool(text.strip()) for text in after] == [bool(text.strip()) for text in said]


def test_every_list_is_long_enough_to_tell_and_no_name_stands_in_two() -> None:
    english, *others = (one["given"] for one in RULES["names"])
    assert len(english) >= 15
    said = [" ".join(texts(f"names/{one.name}", " ".join(english))).split() for one in versions() if one.kind == "names"]
    assert said == others
    names = [name for given in (english, *others) for name in given]
    assert len(set(names)) == len(names) == len(english) * (1 + len(others))
    assert {one["name"]: len(one["replace"]) for one in RULES["wording"] if len(one["replace"]) < 15} == {}


@pytest.mark.parametrize("glued", ["q{}", "{}q", "semi-{}", "{}-like", "x@{}", "{}.uk"])
def test_only_whole_words_are_changed(glued: str) -> None:
    calls = [json.loads(line) for line in (ROOT / "tests" / "data" / "labelled_calls.jsonl").read_text(encoding="utf-8").splitlines()]
    said = [re.sub(r"[\w'’]+", lambda word: glued.format(word[0]), turn["text"]) for call in calls for turn in call["turns"]]
    for name in WORDINGS:
        assert texts(name, *said) == said, name


def predicted(worst: float, abstained: bool = False) -> Mapping[str, Prediction]:
    return {"closing": Prediction(probabilities={"grumbling": worst, "neutral": 1 - worst, "singing": 0.0}, abstained=abstained)}


def judged(words: str, calls: Sequence[str]) -> dict[str, Shift]:
    """The shifts of a score that hears grumbling in `words` and nowhere else."""

    def score(given: Sequence[Transcript]) -> list[Mapping[str, Prediction]]:
        return [predicted(0.9 if any(words in turn.text for turn in one.turns) else 0.1) for one in given]

    labelled = [
        LabelledCall(transcript=transcript(("customer", text), call_id=f"c-{n}"), labels={"closing": "neutral"}) for n, text in enumerate(calls)
    ]
    found = shifts(labelled, score([call.transcript for call in labelled]), score, resamples=50)
    assert {one.worst_label for one in found if one.dimension == "closing"} == {"grumbling"}
    return {f"{one.kind}/{one.version}": one for one in found if one.dimension == "closing"}


def test_a_score_that_dislikes_a_name_is_found_out() -> None:
    found = judged("Fatima", ["Emily here.", "It is Deepa.", "No name at all.", "This is [NAME]."])
    arabic, hispanic = found["names/arabic"], found["names/hispanic"]
    assert (arabic.n, arabic.against) == (3, "english")  # the third call names nobody
    assert arabic.figures["flipped"].value == pytest.approx(1 / 3)
    assert arabic.figures["change"].value == pytest.approx(0.8 / 3)
    assert (hispanic.n, hispanic.figures["flipped"].value, hispanic.figures["change"].value) == (3, 0.0, 0.0)
    assert found["control/synonyms"].n == 0
    assert found["control/synonyms"].figures == {}


def test_names_are_compared_with_names_and_not_with_the_call_as_it_was() -> None:
    # The score dislikes one English name: every other origin then fares better than the first, whatever the calls held.
    found = judged("Emily", ["Fatima here.", "Priya here."])
    assert [found[name].figures["change"].value for name in ("names/arabic", "names/slavic")] == pytest.approx([-0.8, -0.8])


def test_a_score_that_minds_spelling_is_found_out_with_its_interval() -> None:
    found = judged("dinnae", ["I don't mind."] * 6 + ["Yes, I do."] * 6)
    scots = found["spelling/scots"]
    assert (scots.n, scots.figures["flipped"].value) == (12, 0.5)
    low, high = scots.figures["change"].low, scots.figures["change"].high
    assert low is not None
    assert high is not None
    assert 0 <= low < 0.4 < high <= 0.8
    assert found["phrasing/dropped_words"].n == 0


def test_an_answer_that_becomes_an_abstention_is_a_flip() -> None:
    call = LabelledCall(transcript=transcript(("customer", "I want a refund")), labels={"closing": "neutral"})
    found = shifts([call], [predicted(0.1)], lambda given: [predicted(0.1, abstained=True) for _ in given], resamples=5)
    one = next(shift for shift in found if (shift.version, shift.dimension) == ("second_language", "closing"))
    assert (one.figures["flipped"].value, one.figures["change"].value) == (1.0, 0.0)
