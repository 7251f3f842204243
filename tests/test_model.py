"""The shipped model: what moves an answer and what must not, when it says nothing, and which directories it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.abstention import reasons
from analyzer.config import PrevalenceSettings, Settings
from analyzer.errors import ModelError
from analyzer.evaluation import Prediction, evaluate
from analyzer.labels import LabelledCall, read_labels
from analyzer.model import ConversationModel, load_model, models_dir
from analyzer.network import LAYERS
from analyzer.records import CAUSES, DIMENSIONS, LABELS, OPENING_LABELS, Transcript
from analyzer.scoring import score
from tests.builders import transcript

DATA = Path(__file__).parent / "data" / "labelled_calls.jsonl"
QUESTIONS = {**LABELS, "opening": OPENING_LABELS}

RUDE = transcript(
    ("agent", "Billing."),
    ("customer", "Hi, I was charged twice this month and I would like the second payment back please."),
    ("agent", "Well you should have read the letter, shouldn't you? That's your problem, not mine."),
    ("customer", "I never got a letter. Could you please have a look?"),
    ("agent", "I haven't got all day. I'm not explaining it to you again."),
    ("customer", "This is a disgrace. I'm closing my account and I will be complaining about you."),
    call_id="rude",
)
KIND = transcript(
    ("agent", "Good morning, thank you for calling, this is Anna. How can I help?"),
    ("customer", "Hello, I've just come out of hospital and I need to move my delivery."),
    ("agent", "Oh, I'm so sorry, that must have been a worrying week. Let me sort this out for you right now, so you can rest."),
    ("customer", "Thank you. Would Thursday be possible?"),
    ("agent", "Thursday morning is booked, and I've asked the driver to carry it upstairs so that you don't have to. I'll check on it myself."),
    ("customer", "Oh, that's wonderful, you have been so helpful. You really made my day, thank you so much!"),
    call_id="kind",
)


@pytest.fixture(scope="session")
def model() -> ConversationModel:
    return load_model("default")


@pytest.fixture(scope="session")
def labelled() -> tuple[LabelledCall, ...]:
    return read_labels(DATA)


def said(call: Transcript, speaker: str, *texts: str) -> Transcript:
    """The call with the words of one side replaced, turn by turn."""
    words = iter(texts * len(call.turns))
    return transcript(*((turn.speaker, next(words) if turn.speaker == speaker else turn.text) for turn in call.turns))


def test_rude_and_kind_calls_are_told_apart(model: ConversationModel) -> None:
    rude, kind = model.read([RUDE, KIND])
    best = [
        {name: max(reading.probabilities[name], key=lambda label: reading.probabilities[name][label]) for name in ("courtesy", "closing")}
        for reading in (rude, kind)
    ]
    assert best == [{"courtesy": "discourteous", "closing": "grumbling"}, {"courtesy": "courteous", "closing": "singing"}]


def test_a_reading_is_complete(model: ConversationModel) -> None:
    reading = model.read([RUDE])[0]
    for name, labels in QUESTIONS.items():
        assert tuple(reading.probabilities[name]) == labels
        assert sum(reading.probabilities[name].values()) == pytest.approx(1.0)
        assert len(reading.weights[name]) == len(RUDE.turns)
    assert tuple(reading.cause) == CAUSES
    assert sum(reading.cause.values()) == pytest.approx(1.0)
    assert reading.abstain == {}


def test_the_customers_words_do_not_move_courtesy(model: ConversationModel) -> None:
    for other in ("Oh wonderful, thank you!", "You are a liar and this is a disgrace."):
        was, now = model.read([RUDE, said(RUDE, "customer", other)])
        assert was.probabilities["courtesy"] == pytest.approx(now.probabilities["courtesy"], abs=1e-5)


def test_the_agents_words_do_not_move_closing_and_opening(model: ConversationModel) -> None:
    for other in ("I don't care about your problem.", "I am so sorry, leave it with me."):
        was, now = model.read([KIND, said(KIND, "agent", other)])
        for name in ("closing", "opening"):
            assert was.probabilities[name] == pytest.approx(now.probabilities[name], abs=1e-5)


def test_closing_hears_only_the_customers_last_turns_and_opening_the_first(model: ConversationModel) -> None:
    def call(first: str, last: str) -> Transcript:
        middle = [turn for n in range(6) for turn in (("agent", "Noted."), ("customer", f"And item {n} please."))]
        return transcript(("customer", first), *middle, ("agent", "Bye."), ("customer", last))

    plain, angry_start, angry_end = model.read(
        [
            call("I want to order.", "Okay, bye."),
            call("You people are a disgrace.", "Okay, bye."),
            call("I want to order.", "You people are a disgrace."),
        ]
    )
    assert plain.probabilities["closing"] == pytest.approx(angry_start.probabilities["closing"], abs=1e-5)
    assert plain.probabilities["opening"] == pytest.approx(angry_end.probabilities["opening"], abs=1e-5)
    assert angry_end.probabilities["closing"]["grumbling"] > plain.probabilities["closing"]["grumbling"]
    assert angry_start.probabilities["opening"]["grumbling"] > plain.probabilities["opening"]["grumbling"]


def test_the_encoder_is_the_one_its_checkpoint_says(model: ConversationModel) -> None:
    """Its layers, written out, give what the library that made the format gives on the same weights."""
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    folder = models_dir() / "default"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["encoder"]
    bert = BertModel(BertConfig(**config), add_pooling_layer=False)
    bert.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / "encoder.safetensors").items()}, strict=True)
    bert.eval()  # type: ignore[no-untyped-call]
    text = "I have rung three times about this and nobody called me back."
    with torch.inference_mode():
        states = bert(torch.tensor([model.encoder.tokenizer.encode(text).ids]), output_hidden_states=True).hidden_states
    wanted = torch.cat([states[layer].mean(1) for layer in LAYERS], dim=1)
    assert torch.allclose(model.encoder.encode([text]), wanted, atol=1e-5)


def test_rare_labels_need_more_to_be_said(model: ConversationModel) -> None:
    plain, rare = (model.read([RUDE], shares=shares)[0].probabilities for shares in ({}, {"discourteous": 0.01, "grumbling": 0.05}))
    for question, label in (("courtesy", "discourteous"), ("closing", "grumbling")):
        mix = model.config["mix"][question]
        share = {"discourteous": 0.01, "grumbling": 0.05}[label]
        odds = plain[question][label] / (1 - plain[question][label]) * share / (1 - share) * (1 - mix[label]) / mix[label]
        assert rare[question][label] == pytest.approx(odds / (1 + odds), rel=1e-3)
    assert plain["resolution"] == pytest.approx(rare["resolution"])
    assert plain["opening"] == pytest.approx(rare["opening"])


def test_a_suspected_lapse_is_named_only_when_it_is_sure_enough(model: ConversationModel) -> None:
    p = model.read([RUDE])[0].probabilities["courtesy"]["discourteous"]
    assert 0.5 < p < 1.0
    for limit, named in ((0.5, True), ((1 + p) / 2, False)):
        settings = Settings(prevalence=PrevalenceSettings(discourteous=0.0, courteous=0.0, min_lapse_probability=limit))
        courtesy = score([RUDE], model, settings)[0].courtesy
        assert courtesy.label == ("discourteous" if named else None)
        assert courtesy.to_json(None)["suspected_lapse"] is True
        assert courtesy.probabilities["discourteous"] == pytest.approx(p, abs=1e-6)
        assert named or "too unsure to name" in str(courtesy.reason)
    assert score([KIND], model)[0].courtesy.to_json(None)["suspected_lapse"] is False


def test_a_very_long_call_is_read(model: ConversationModel) -> None:
    middle = [(("agent", "customer")[n % 2], f"And item {n} please.") for n in range(1500)]
    calm, sour = model.read([transcript(*middle, ("customer", end)) for end in ("Okay, thank you, bye.", "You people are a disgrace, I am leaving.")])
    assert sour.probabilities["closing"]["grumbling"] > calm.probabilities["closing"]["grumbling"] + 0.2
    assert len(sour.weights["resolution"]) == 1501


def test_company_in_the_batch_changes_nothing(model: ConversationModel, labelled: tuple[LabelledCall, ...]) -> None:
    calls = [call.transcript for call in labelled[:8]]
    alone = [model.read([call])[0] for call in calls]
    together = model.read(calls, batch_size=7)
    for one, other in zip(alone, together, strict=True):
        for name in QUESTIONS:
            assert one.probabilities[name] == pytest.approx(other.probabilities[name], abs=1e-4)
    assert model.read(calls, batch_size=7) == together


def test_weights_point_at_the_turns_that_carry_the_answer(model: ConversationModel) -> None:
    reading = model.read([RUDE])[0]
    assert max(range(len(RUDE.turns)), key=lambda n: reading.weights["courtesy"][n]) in (2, 4)
    assert [reading.weights["courtesy"][n] for n in (1, 3, 5)] == [0.0, 0.0, 0.0]
    assert [reading.weights["closing"][n] for n in (0, 2, 4)] == [0.0, 0.0, 0.0]
    assert max(range(len(RUDE.turns)), key=lambda n: reading.weights["closing"][n]) == 5


def test_a_long_turn_is_read_to_its_end(model: ConversationModel) -> None:
    long = "We talked about the order and the delivery of the parcel. " * 60
    calm, sour = model.read(
        [transcript(("agent", "Hello."), ("customer", long)), transcript(("agent", "Hello."), ("customer", long + "You are a disgrace! " * 40))]
    )
    assert calm.probabilities["closing"] != pytest.approx(sour.probabilities["closing"], abs=1e-3)


@pytest.mark.parametrize(
    ("call", "who", "reason"),
    [
        (
            transcript(
                ("customer", "You've reached the voicemail of Ann. Please leave a message after the tone."),
                ("agent", "Hi Ann, it's Bob, please call back."),
            ),
            "all",
            "voicemail",
        ),
        (transcript(("agent", "Hello? Can you hear me? I will call you back later then, goodbye.")), "all", "only one side"),
        (transcript(("agent", "Northwind, good morning."), ("customer", "Oh sorry, I've got the wrong number.")), "all", "wrong number"),
        (transcript(("unknown", "Hello, how can I help you?"), ("unknown", "I want to cancel my contract with you.")), "all", "could not be told"),
        (transcript(("agent", "..."), ("customer", "")), "all", "nobody speaks"),
        (
            transcript(("unknown", "I want to cancel my contract with you now."), ("customer", "Yes, please do it today if you can.")),
            "courtesy",
            "no turn of the agent",
        ),
        (
            transcript(("agent", "Good morning, how can I help you today?"), ("customer", "Hm."), ("agent", "Are you still there at all, sir?")),
            "closing",
            "too little",
        ),
        (transcript(("agent", "Billing, hello."), ("customer", "Hello, it's me.")), "resolution", "too short"),
    ],
)
def test_silence_where_the_call_does_not_carry_the_answer(model: ConversationModel, call: Transcript, who: str, reason: str) -> None:
    reading = model.read([call])[0]
    for name in QUESTIONS if who == "all" else (who,):
        assert reason in reading.abstain[name]
        assert sum(reading.probabilities[name].values()) == pytest.approx(1.0)


GREETING = "Hello. You have reached my voice mail. I am not able to take your call right now. Please leave a message after the tone."
ASKS = ("agent", "Good morning, this is billing, how can I help you today?")
SEES = ("agent", "Let me look into that for you right away, one moment please.")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            [("customer", GREETING), ("agent", "Hello. This is customer service. We are calling about your account. Please call us back.")],
            "voicemail",
        ),
        ([("customer", GREETING), ("agent", "Hello?")], "voicemail"),
        ([ASKS, ("customer", "I left you a voicemail yesterday about my refund and nobody called back."), SEES], ""),
        ([ASKS, ("customer", "You asked me to leave a message, I did."), SEES, ("customer", "Nobody called."), SEES], ""),
        ([ASKS, ("customer", "You have the wrong number on file for me, please change it."), SEES], ""),
        ([ASKS, ("customer", "There's a wrong number here, please update my account."), SEES], ""),
        ([ASKS, ("customer", "Oh, wrong number, sorry, goodbye then.")], "a wrong number"),
    ],
)
def test_voicemail_and_wrong_numbers_are_told_from_talk_about_them(said: list[tuple[str, str]], why: str) -> None:
    found = reasons(transcript(*said))
    assert set(found) == (set(QUESTIONS) if why else set())
    assert all(why in reason for reason in found.values())


def test_ordinary_calls_are_answered(model: ConversationModel, labelled: tuple[LabelledCall, ...]) -> None:
    mentions = transcript(
        ("agent", "Good morning, how can I help?"),
        ("customer", "My voicemail does not work, I can't leave a message greeting."),
        ("agent", "I have reset the mailbox."),
        ("customer", "Let me try it now."),
        ("agent", "Does it work?"),
        ("customer", "Yes, it works, thanks, bye."),
    )
    assert model.read([mentions])[0].abstain == {}
    assert sum(bool(reading.abstain) for reading in model.read([call.transcript for call in labelled])) <= len(labelled) // 10


def test_talk_unlike_anything_seen_is_not_answered(model: ConversationModel) -> None:
    strange = transcript(
        ("agent", "0x3f 0x9a 0x00 0xff 7f 7f 7f"),
        ("customer", "qwrt zxcv plkj mnbv 0x11 0x22"),
        ("agent", "%% zzkw 9f 8e 0xaa"),
        ("customer", "xqj vvk 0xde 0xad"),
    )
    reading, usual = model.read([strange, KIND])
    assert reading.similarity < usual.similarity
    between = (reading.similarity + usual.similarity) / 2
    stricter = ConversationModel(stamp="t", encoder=model.encoder, heads=model.heads, config={**model.config, "min_similarity": between})
    reading, usual = stricter.read([strange, KIND])
    assert usual.abstain == {}
    assert set(reading.abstain) == set(QUESTIONS)
    assert "unlike anything" in reading.abstain["courtesy"]


def test_quality_on_calls_never_trained_on_has_a_floor(model: ConversationModel, labelled: tuple[LabelledCall, ...]) -> None:
    readings = model.read([call.transcript for call in labelled])
    made = [{name: Prediction(probabilities=reading.probabilities[name]) for name in DIMENSIONS} for reading in readings]
    found = evaluate(labelled, made, resamples=2)
    assert found["courtesy"].figures["macro_f1"].value >= 0.80
    assert found["resolution"].figures["macro_f1"].value >= 0.55
    assert found["closing"].figures["macro_f1"].value >= 0.75


def test_no_calls_no_readings(model: ConversationModel) -> None:
    assert model.read([]) == []


def test_the_stamp_names_the_contents(model: ConversationModel) -> None:
    name, _, digest = model.stamp.partition("@sha256:")
    assert name == "default"
    assert len(digest) == 12
    assert load_model(str(models_dir() / "default")).stamp == model.stamp


def test_shipped_files_are_small_and_plain() -> None:
    files = list((models_dir() / "default").iterdir())
    assert {"config.json", "encoder.safetensors", "heads.safetensors", "tokenizer.json", "README.md", "calibration.svg"} == {
        file.name for file in files
    }
    assert sum(file.stat().st_size for file in files) < 60_000_000


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped directory to spoil; the encoder is a hard link, to be replaced but never written into."""
    out = tmp_path / "mine"
    shutil.copytree(models_dir() / "default", out)
    return out


@pytest.mark.parametrize("name", ["config.json", "encoder.safetensors", "heads.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        load_model(str(copy))


def test_an_altered_file_is_refused(copy: Path) -> None:
    raw = bytearray((copy / "heads.safetensors").read_bytes())
    raw[-1] ^= 1
    (copy / "heads.safetensors").write_bytes(raw)
    with pytest.raises(ModelError, match=r"heads\.safetensors is not the file"):
        load_model(str(copy))


def test_a_shortened_file_is_refused(copy: Path) -> None:
    raw = (copy / "tokenizer.json").read_bytes()
    (copy / "tokenizer.json").write_bytes(raw[:-10])
    with pytest.raises(ModelError, match=r"tokenizer\.json is not the file"):
        load_model(str(copy))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "model schema 99"),
        ({"files": {}}, "cannot be read"),
        ({"temperature": None}, "'temperature' is missing"),
    ],
)
def test_another_schema_or_a_torn_config_is_refused(copy: Path, change: dict[str, object], message: str) -> None:
    config = json.loads((copy / "config.json").read_text()) | change
    (copy / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(ModelError, match=message):
        load_model(str(copy))


def test_pickles_are_refused(copy: Path) -> None:
    (copy / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match="may hold pickled code"):
        load_model(str(copy))


@pytest.mark.parametrize("name", ["sentence-transformers/all-MiniLM-L6-v2", "defualt", "", "/nowhere/at/all"])
def test_what_is_no_model_directory_is_said(name: str) -> None:
    with pytest.raises(ModelError, match="not a model directory") as caught:
        load_model(name)
    assert "default" in str(caught.value)


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache that holds one fetched repository, the shipped model as hf:acme/quality."""
    home = tmp_path_factory.mktemp("hub")
    kept = home / "models--acme--quality"
    shutil.copytree(models_dir() / "default", kept / "snapshots" / ("a" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("a" * 40)
    return home


def _find(name: str, cache: Path) -> str:
    """What a process that reaches no hub makes of a model's name: its stamp, or the error."""
    code = "import sys\nfrom analyzer.model import *\ntry: print(stamp_of(find_model(sys.argv[1])))\nexcept ModelError as error: print(error)"
    unreachable = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, env=unreachable, check=True, timeout=120)
    return done.stdout.strip()


def test_a_model_of_the_hub_is_taken_from_the_cache_and_named_after_its_repository(hub_cache: Path) -> None:
    assert _find("hf:acme/quality", hub_cache).startswith("acme/quality@sha256:")
    assert _find("hf:acme/quality@main", hub_cache) == _find("hf:acme/quality", hub_cache)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hf:acme/other", "'hf:acme/other' cannot be fetched: "),
        ("hf:acme", "'hf:acme' names no repository"),
        ("hf:../../etc/passwd", "names no repository"),
        # A path that does not exist is a mistyped path: nothing is looked up on the network for it.
        ("acme/quality", "'acme/quality' is not a model directory"),
    ],
)
def test_a_model_that_cannot_be_had_says_why(name: str, says: str, hub_cache: Path) -> None:
    assert says in _find(name, hub_cache)
