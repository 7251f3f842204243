"""The store: nothing twice, nothing lost, nothing readable by others, and a clear word when it cannot be used."""

from __future__ import annotations

import dataclasses
import sqlite3
import stat
from pathlib import Path

import pytest

from analyzer.errors import StoreError
from analyzer.records import CallScore, Evidence, Failure
from analyzer.store import Place, Store, transcript_key
from tests.builders import judgement, score, transcript


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path}/a.db")


def scored(call_id: str = "c-1", said: str = "My parcel is late.", **fields: object) -> CallScore:
    held = transcript(("agent", "Hello."), ("customer", said), call_id=call_id)
    evidence = (Evidence(turn=1, start_char=3, end_char=9, weight=0.25),)
    return score(call_id, closing=judgement("closing", "grumbling", evidence=evidence), transcript=held, **fields)


def place(source: str = "a.wav", content: str = "sha-1", rules: str = "r1") -> Place:
    return Place(source=source, content_sha256=content, transcript_key=transcript_key(content, "speech", "standard"), rules=rules)


def save(store: Store, call: CallScore, *, source: str = "a.wav", content: str = "sha-1", rules: str = "r1") -> Place:
    where = place(source, content, rules)
    store.save(call, where)
    return where


def test_a_call_comes_back_as_it_was_saved(store: Store) -> None:
    before = scored(customer_id="k1", queue="billing", leg=1, covariates={"tenure_months": 14, "queue2": "x"})
    before = dataclasses.replace(before, transcript=dataclasses.replace(before.transcript, info=before.info))
    save(store, before)
    after = store.score("c-1")
    assert after is not None
    assert after.to_json() == before.to_json()
    assert after.transcript == before.transcript
    assert after.closing.evidence[0].quote(after.transcript) == "parcel"
    assert store.confirm(before.info, place(), before.model)
    assert not store.confirm(before.info, place(), "another@sha256:1")
    assert not store.confirm(before.info, place(rules="r2"), before.model)


def test_the_words_are_stored_once_and_no_quote_beside_them(store: Store, tmp_path: Path) -> None:
    save(store, scored(said="My parcel is quite peculiar."))
    store.__exit__()
    dump = "\n".join(sqlite3.connect(tmp_path / "a.db").iterdump())
    assert dump.count("peculiar") == 1


def test_two_names_of_one_recording_share_transcript_and_score(store: Store) -> None:
    save(store, scored("c-1"), source="a.wav")
    save(store, scored("c-2"), source="copy.wav")
    held = store.status()
    assert (held.calls, held.transcripts, held.scores) == (2, 1, {"test@sha256:0": 1})
    assert [call.info.call_id for call in store.scores()] == ["c-1", "c-2"]


def test_saving_again_changes_nothing_but_the_table_columns(store: Store) -> None:
    save(store, scored(queue="billing"))
    save(store, scored(queue="sales"))
    assert store.status().calls == 1
    assert [call.info.queue for call in store.scores()] == ["sales"]
    assert store.confirm(scored(queue="returns").info, place(), "test@sha256:0")
    assert [call.info.queue for call in store.scores()] == ["returns"]


def test_a_call_id_of_another_recording_is_refused(store: Store) -> None:
    save(store, scored(), source="a.wav", content="sha-1")
    with pytest.raises(StoreError, match=r"b\.wav: the call id 'c-1' already stands for a\.wav"):
        save(store, scored(), source="b.wav", content="sha-2")
    save(store, scored(said="Changed."), source="a.wav", content="sha-3")  # the recording itself was replaced
    assert [call.transcript.turns[1].text for call in store.scores() if call.transcript] == ["Changed."]


def test_another_model_adds_a_score_and_the_old_one_stays(store: Store) -> None:
    save(store, scored())
    save(store, dataclasses.replace(scored(), model="new@sha256:1"))
    assert store.status().scores == {"new@sha256:1": 1, "test@sha256:0": 1}
    assert [call.model for call in store.scores()] == ["new@sha256:1"]
    assert [call.model for call in store.scores(model="test@sha256:0")] == ["test@sha256:0"]


def test_a_failure_is_kept_until_the_call_succeeds(store: Store) -> None:
    store.save_failure(Failure(source="a.wav", reason="audio", message="a.wav: cut short"))
    store.save_failure(Failure(source="a.wav", reason="audio", message="a.wav: still cut short"))
    assert [failure.message for failure in store.failures()] == ["a.wav: still cut short"]
    save(store, scored(), source="a.wav")
    assert store.failures() == []


def test_a_failure_of_a_known_call_is_cleared_when_it_is_found_again(store: Store) -> None:
    save(store, scored(), source="a.wav")
    store.save_failure(Failure(source="a.wav", reason="audio", message="a.wav: unreadable for a day"))
    assert store.confirm(scored().info, place(), "test@sha256:0")
    assert store.failures() == []


def test_the_rules_of_the_last_run_are_in_force(store: Store) -> None:
    strict = dataclasses.replace(scored(), closing=judgement("closing", "neutral", abstained=True, reason="unsure"))
    save(store, strict, rules="strict")
    save(store, scored(), rules="lenient")
    assert [call.closing.label for call in store.scores()] == ["grumbling"]
    assert store.confirm(scored().info, place(rules="strict"), "test@sha256:0")
    assert [call.closing.label for call in store.scores()] == [None]
    assert [call.closing.label for call in store.scores(model="test@sha256:0")] == [None]


def test_columns_named_like_our_own_fields_destroy_nothing(store: Store) -> None:
    columns = {"resolution": "closed", "closing": 3, "duration_s": "long", "events": "none", "turns": 1, "model": "T", "language": "xx"}
    before = scored(covariates=columns)
    save(store, dataclasses.replace(before, transcript=dataclasses.replace(before.transcript, info=before.info, duration_s=99.0, language="en")))
    after = store.score("c-1")
    assert after is not None
    assert (dict(after.info.covariates), after.closing.label, after.model) == (columns, "grumbling", "test@sha256:0")
    assert after.transcript is not None
    assert (after.transcript.duration_s, after.transcript.language, len(after.transcript.turns)) == (99.0, "en", 2)


def test_nobody_else_may_read_the_file(store: Store, tmp_path: Path) -> None:
    save(store, scored())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("a.db*")}
    assert set(modes.values()) == {0o600}, modes


def test_a_store_of_a_newer_version_is_refused(store: Store, tmp_path: Path) -> None:
    store.__exit__()
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("UPDATE about SET value = '99' WHERE key = 'version'")
    with pytest.raises(StoreError, match=r"written by a newer analyzer \(store version 99, this one knows 1\)\. Update analyzer"):
        Store(f"sqlite:///{tmp_path}/a.db")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "not a store URL"),
        ("sqlite:////no/such/folder/a.db", "the folder does not exist"),
        ("nosuchdb://user:secret@host/x", "not a store URL"),
    ],
)
def test_a_wrong_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Store(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("just a text file that somebody named like a store, long enough to be read as a page\n" * 20)
    with pytest.raises(StoreError, match="file is not a database"):
        Store(f"sqlite:///{tmp_path}/a.db")


def test_answers_of_a_scorecard_are_kept_beside_the_scores(store: Store, tmp_path: Path) -> None:
    key = save(store, scored()).transcript_key
    store.save_answers(key, "card-1", [{"question": "greeting", "answer": "yes"}])
    store.save_answers(key, "card-1", [{"question": "greeting", "answer": "no"}])
    rows = sqlite3.connect(tmp_path / "a.db").execute("SELECT transcript_key, scorecard, body FROM answers").fetchall()
    assert rows == [(key, "card-1", '[{"question": "greeting", "answer": "no"}]')]


def test_the_check_tells_a_sound_store(store: Store) -> None:
    assert store.check() == "integrity ok"
