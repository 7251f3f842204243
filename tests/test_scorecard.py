"""Scorecards: answers with their turns, the total, and what a card must not hold."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from analyzer.cues import Cue
from analyzer.errors import ConfigError
from analyzer.scorecard import answer, read_scorecard, total
from tests.builders import transcript

CALL = transcript(("agent", "Hello, Northway."), ("customer", "don't shout"), ("agent", "Calm... down! It's recorded."), ("customer", "bye"))


def _card(path: Path, *questions: str) -> Path:
    blocks = (f'[[question]]\nid = "q{n}"\ntext = "?"\n{body}\n' for n, body in enumerate(questions))
    path.write_text('[scorecard]\nname = "Ours"\n' + "".join(blocks), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("body", "said", "where"),
    [
        ('kind = "must_say"\nphrase = "northway"', "yes", (0,)),
        ('kind = "must_say"\nphrase = "calm down"', "yes", (2,)),
        ('kind = "no_no"\nphrase = "calm down"', "no", (2,)),
        ('kind = "no_no"\nphrase = "dont shout"', "yes", ()),
        ('kind = "must_say"\nphrase = "dont shout"\nspeaker = "any"', "yes", (1,)),
        ('kind = "must_say"\npattern = "record(ed|ing)"\nwhere = "first_1_agent_turns"', "no", ()),
        ('kind = "must_say"\npattern = "record(ed|ing)"\nwhere = "last_2_turns"', "yes", (2,)),
        ('kind = "must_say"\nphrase = "hello"\nwhere = "last_1_turns"', "not_applicable", ()),
        ('kind = "must_say"\ncue = "greeting"', "yes", (0,)),
        ('kind = "must_say"\ncue = "apology"\napplies_if = "complaint"', "not_applicable", ()),
        ('kind = "must_say"\nphrase = "sorry"\napplies_if = "shout"', "no", ()),
    ],
)
def test_a_question_is_answered_with_its_turns(tmp_path: Path, body: str, said: str, where: tuple[int, ...]) -> None:
    cues = (Cue(kind="greeting", turn=0, start_char=0, end_char=5, rule="greeting"),)
    (given,) = answer(read_scorecard(_card(tmp_path / "c.toml", body)), CALL, cues)
    assert (given.answer, given.turns) == (said, where)


def test_the_total_is_the_weighted_share_of_what_applies(tmp_path: Path) -> None:
    card = read_scorecard(
        _card(
            tmp_path / "c.toml",
            'kind = "must_say"\nphrase = "hello"\nweight = 3',
            'kind = "no_no"\nphrase = "calm down"\ncritical = true',
            'kind = "must_say"\nphrase = "sorry"\napplies_if = "complaint"\nweight = 5',
        )
    )
    result = total(card, answer(card, CALL, ()))
    assert (result.score, result.failed_critical) == (0.75, ("q1",))
    assert total(card, ()).score is None


def test_the_digest_follows_the_questions(tmp_path: Path) -> None:
    one, same, other = (
        read_scorecard(_card(tmp_path / f"{n}.toml", f'kind = "no_no"\nphrase = "{word}"')) for n, word in enumerate(("calm", "calm", "shout"))
    )
    assert one.digest == same.digest != other.digest


def test_the_example_is_a_scorecard() -> None:
    with resources.as_file(resources.files("analyzer").joinpath("data/scorecard_example.toml")) as path:
        assert len(read_scorecard(path).questions) == 5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('kind = "must_sey"\nphrase = "a"', "Did you mean 'must_say'"),
        ('kind = "must_say"\nphrse = "a"', "Did you mean 'phrase'"),
        ('kind = "must_say"', "exactly one of phrase, pattern and cue"),
        ('kind = "must_say"\nphrase = "a"\ncue = "thanks"', "exactly one"),
        ('kind = "must_say"\ncue = "thank"', "Did you mean 'thanks'"),
        ('kind = "must_say"\npattern = "(a"', "no regular expression"),
        ('kind = "must_say"\npattern = "(a+)+b"', "repeats a group"),
        ('kind = "must_say"\npattern = "a*"', "matches no words"),
        ('kind = "must_say"\nphrase = "a"\nwhere = "first_3_agent_turn"', "Did you mean 'first_3_agent_turns'"),
        ('kind = "must_say"\nphrase = "a"\nweight = 0', "weight is 0"),
        ('kind = "must_say"\nphrase = "a"\ncritical = 1', "critical must be bool"),
    ],
)
def test_a_wrong_question_is_refused_by_id(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_scorecard(_card(tmp_path / "c.toml", body))
    assert message in str(caught.value)
    assert "'q0'" in str(caught.value)
