"""Words on their way to the model: misheard, blanked out, merged, split and cut short, and what then follows for the labels."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib import resources
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.augmentation import roughened, shortened, speech_shaped
from analyzer.examples import Example
from tests.builders import turns

TABLE = resources.files("analyzer").joinpath("data", "misheard.json")


def table() -> dict[str, Any]:
    pairs = json.loads(TABLE.read_text(encoding="utf-8"), object_pairs_hook=list)
    assert [word for word, times in Counter(word for word, _ in pairs).items() if times > 1] == []
    return dict(pairs)


def test_the_words_are_many_and_lower_case() -> None:
    words = list(table())
    assert len(words) >= 400
    assert [word for word in words if not re.fullmatch(r"[a-z](?:[a-z']*[a-z])?", word)] == []


def test_each_word_has_what_was_heard_in_its_place_two_words_at_most() -> None:
    bad = {
        word: heard
        for word, heard in table().items()
        if not isinstance(heard, list)
        or not heard
        or not all(isinstance(one, str) and re.fullmatch(r"|[a-z']+(?: [a-z']+)?", one) and one != word for one in heard)
    }
    assert bad == {}


def test_the_table_stays_small_enough_to_ship() -> None:
    assert len(TABLE.read_bytes()) < 300_000


CALL = Example(
    turns=turns(*[(("agent", "customer")[n % 2], f"and this is item{n} of the call") for n in range(12)]),
    allowed={"courtesy": ("discourteous",), "closing": ("singing",)},
    evidence={"courtesy": (2, 6), "closing": (9, 11)},
    group="c-1",
)


def test_text_is_blanked_out_and_without_punctuation() -> None:
    shaped = {speech_shaped("This is Maria, my card is 4111 1111 1111 1111. Okay?", errors=0.0, key=str(n)) for n in range(20)}
    assert any("[NAME]" in text for text in shaped)
    assert all("[CARD]" in text or "[PHONE]" in text for text in shaped)
    assert not any(mark in text for text in shaped for mark in ".,?4")


@pytest.mark.parametrize("errors", [0.0, 0.2, 0.5])
def test_about_the_share_asked_for_goes_wrong(errors: float) -> None:
    words = ("could you tell me what the balance of the account is and when the card is going to be sent out to me again " * 20).split()
    kept = speech_shaped(" ".join(words), errors=errors, key="x").split()
    # Each wrong word is lost, doubled or another: the words that are left of the old ones tell the share.
    same = sum((Counter(words) & Counter(kept)).values())
    assert 1 - errors - 0.05 <= same / len(words) <= 1 - 0.4 * errors


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80), st.integers(0, 5))
def test_words_never_vanish_altogether_and_the_same_key_gives_the_same(text: str, key: int) -> None:
    made = speech_shaped(text, errors=0.9, key=str(key))
    assert made == speech_shaped(text, errors=0.9, key=str(key))
    assert bool(made) == bool(re.search(r"[\w'\[\]]", text.lower())) or not made


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 50))
def test_evidence_follows_its_turns_however_they_are_merged_and_split(seed: int) -> None:
    rough = roughened(CALL, take=1, errors=0.0, seed=seed)
    assert rough.group == CALL.group
    assert rough.take == 1
    for question, numbers in CALL.evidence.items():
        words = " ".join(rough.turns[n].text for n in rough.evidence[question]).split()
        assert {f"item{n}" for n in numbers} <= set(words)


def test_two_versions_of_a_call_are_misheard_alike_where_they_are_alike() -> None:
    other = Example(turns=(*CALL.turns[:11], *turns(("customer", "no it is still broken"))), allowed={"closing": ("grumbling",)})
    one, two = (roughened(call, take=1, errors=0.3, seed=2) for call in (CALL, other))
    assert [turn.text for turn in one.turns[:8]] == [turn.text for turn in two.turns[:8]]


def test_calls_cut_short_follow_the_codebook() -> None:
    parts = shortened(CALL, seed=0)
    cut = [part for part in parts if "closing" in part.allowed]
    assert cut
    for part in cut:
        assert part.allowed == {"closing": ("neutral",)}
        assert len(part.turns) <= 9  # nothing of the happy end is left
        assert part.weight < 1
        assert part.group == CALL.group
    kind = [part for part in parts if "courtesy" in part.allowed]
    assert [part.turns for part in kind] == [tuple(turn for n, turn in enumerate(CALL.turns) if n not in (2, 6))]
    assert kind[0].allowed == {"courtesy": ("neutral",)}
    sour = Example(turns=CALL.turns, allowed={"closing": ("grumbling",)})
    assert not [part for part in shortened(sour, seed=0) if "closing" in part.allowed]
