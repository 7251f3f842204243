"""Training: labels in, a complete and honest model directory out; the same seed gives the same model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analyzer.errors import ModelError, TableError, UsageError
from analyzer.labels import LabelledCall
from analyzer.model import load_model, models_dir
from analyzer.training import Source, TrainingOptions, TrainingReport, _split, export_encoder, train
from tests.builders import transcript

SHORT = TrainingOptions(epochs=2, fresh=True, wordings=1, seed=3)
AGENT = {
    "discourteous": "That is your own fault, don't waste my time.",
    "neutral": "Your number please.",
    "courteous": "I'm so sorry about that, I'll see to it myself.",
}
CUSTOMER = {"grumbling": "This is a disgrace, I'm leaving.", "neutral": "Okay, bye.", "singing": "That's wonderful, you made my day!"}
RESULT = {"resolved": "It is done.", "partial": "We will call you on Friday.", "unresolved": "There is nothing we can do.", "unclear": "Hold on."}


def labels_file(path: Path, calls: int = 24, **change: object) -> Path:
    rows = []
    for n in range(calls):
        courtesy, closing, resolution = list(AGENT)[n % 3], list(CUSTOMER)[(n // 3) % 3], list(RESULT)[n % 4]
        said = [
            ("agent", "Hello."),
            ("customer", "Hi, about my order."),
            ("agent", AGENT[courtesy]),
            ("agent", RESULT[resolution]),
            ("customer", CUSTOMER[closing]),
        ]
        row = {
            "id": f"c-{n}",
            "customer_id": f"k-{n // 2}",
            "turns": [{"speaker": speaker, "text": text} for speaker, text in said],
            "labels": {"courtesy": courtesy, "resolution": resolution, "closing": closing},
            "evidence": {"courtesy": [2], "closing": [4]},
        }
        rows.append(json.dumps(row | change))
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def apart(one: Path, other: Path) -> float:
    """How far the weights of two models are apart where they are farthest: sums in another order move them by rounding."""
    from safetensors.torch import load_file

    weights, others = (load_file(folder / "heads.safetensors") for folder in (one, other))
    return max(float((weights[name].float() - others[name].float()).abs().max()) for name in weights)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingReport, list[tuple[int, int, float]]]:
    folder = tmp_path_factory.mktemp("trained")
    seen: list[tuple[int, int, float]] = []
    options = TrainingOptions(epochs=2, fresh=True, seed=3, own=Source(name="Our calls", licence="ours", calls=0, use="everything"))
    report = train(labels_file(folder / "labels.jsonl"), folder / "model", options, progress=lambda *step: seen.append(step))
    return report, seen


def test_the_directory_loads_and_reads(run: tuple[TrainingReport, list[tuple[int, int, float]]]) -> None:
    report, seen = run
    model = load_model(str(report.directory))
    assert model.stamp == report.stamp
    assert model.stamp != load_model("default").stamp
    assert sum(model.read([transcript()])[0].probabilities["closing"].values()) == pytest.approx(1.0)
    assert [(epoch, epochs) for epoch, epochs, _ in seen] == [(1, 2), (2, 2)]


def test_every_call_serves_once_and_customers_stay_together(run: tuple[TrainingReport, list[tuple[int, int, float]]]) -> None:
    report, _ = run
    assert sum(report.calls.values()) == 24
    assert min(report.calls.values()) >= 2
    calls = [LabelledCall(transcript=transcript(call_id=f"c-{n}", customer_id=f"k-{n // 3}"), labels={"closing": "neutral"}) for n in range(30)]
    parts = _split(calls, (0.2, 0.2), seed=1)
    owners = [{call.transcript.info.customer_id for call in part} for part in parts]
    assert all(owners)
    assert len(owners[0] | owners[1] | owners[2]) == sum(map(len, owners))


def test_the_card_says_data_figures_and_what_it_is_not_for(run: tuple[TrainingReport, list[tuple[int, int, float]]]) -> None:
    report, _ = run
    card = (report.directory / "README.md").read_text(encoding="utf-8")
    figure = report.agreement["closing"].figures["macro_f1"]
    for wanted in (
        "Our calls | ours | 24",
        report.stamp,
        f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})",
        "Not to be used for",
        "Appraisal",
    ):
        assert wanted in card


def test_the_same_seed_gives_the_same_model_and_another_does_not(tmp_path: Path, run: tuple[TrainingReport, list[tuple[int, int, float]]]) -> None:
    labels = labels_file(tmp_path / "labels.jsonl")
    again = train(labels, tmp_path / "again", TrainingOptions(epochs=2, fresh=True, seed=3))
    assert apart(again.directory, run[0].directory) < 1e-3
    other = train(labels, tmp_path / "other", TrainingOptions(epochs=2, fresh=True, seed=4))
    assert apart(other.directory, run[0].directory) > 1e-2


def test_a_model_is_adapted_from_another_and_measured_on_a_file_of_its_own(tmp_path: Path) -> None:
    report = train(
        labels_file(tmp_path / "labels.jsonl"),
        tmp_path / "mine",
        TrainingOptions(epochs=1),
        measure=Path(__file__).parent / "data" / "labelled_calls.jsonl",
    )
    assert report.calls["measure"] == 40
    assert report.calls["learn"] + report.calls["hold"] == 24
    # Starting from the shipped heads, one epoch on 24 calls does not forget what courtesy is.
    assert report.agreement["courtesy"].figures["macro_f1"].value > 0.6


def test_a_run_that_was_broken_off_goes_on_to_the_very_same_model(tmp_path: Path, run: tuple[TrainingReport, list[tuple[int, int, float]]]) -> None:
    labels = labels_file(tmp_path / "labels.jsonl")
    options = TrainingOptions(epochs=4, fresh=True, seed=3, patience=4)
    whole = train(labels, tmp_path / "whole", options)
    broken = tmp_path / "broken"

    def stop(epoch: int, _most: int, _loss: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(labels, broken, options, progress=stop)
    kept = tmp_path / "broken.unfinished.safetensors"
    assert kept.is_file()
    assert not broken.exists()
    seen: list[int] = []
    again = train(labels, broken, options, progress=lambda epoch, *_: seen.append(epoch))
    assert seen == [3, 4]
    assert not kept.exists()
    assert apart(again.directory, whole.directory) < 1e-3


def test_what_another_run_left_behind_is_not_taken_up(tmp_path: Path) -> None:
    labels = labels_file(tmp_path / "labels.jsonl")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(labels, tmp_path / "out", TrainingOptions(epochs=2, fresh=True, seed=3), progress=stop)
    seen: list[int] = []
    train(labels, tmp_path / "out", TrainingOptions(epochs=2, fresh=True, seed=4), progress=lambda epoch, *_: seen.append(epoch))
    assert seen == [1, 2]


def test_upper_layers_of_the_encoder_learn_only_where_asked(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    labels = labels_file(tmp_path / "labels.jsonl", calls=20)
    shipped = load_file(models_dir() / "default" / "encoder.safetensors")
    for layers, moved in ((0, set()), (1, {"5"})):
        report = train(labels, tmp_path / f"tuned-{layers}", TrainingOptions(epochs=1, wordings=0, tuned_layers=layers))
        made = load_file(report.directory / "encoder.safetensors")
        assert {name.split(".")[2] for name in made if not made[name].equal(shipped[name])} == moved


def test_versions_of_one_call_are_never_on_both_sides_of_a_split() -> None:
    calls = [LabelledCall(transcript=transcript(call_id=f"c-{n}"), labels={"closing": "neutral"}, pair=f"p-{n // 2}") for n in range(40)]
    parts = _split(calls, (0.2, 0.2), seed=1)
    pairs = [{call.pair for call in part} for part in parts]
    assert sum(len(part) for part in parts) == 40
    assert len(pairs[0] | pairs[1] | pairs[2]) == sum(map(len, pairs))


def test_what_cannot_be_trained_on_is_said(tmp_path: Path) -> None:
    few = labels_file(tmp_path / "few.jsonl", calls=5)
    with pytest.raises(TableError, match="5 labelled calls are too few"):
        train(few, tmp_path / "out", SHORT)
    partial = labels_file(tmp_path / "partial.jsonl", labels={"closing": "neutral"}, evidence={})
    with pytest.raises(TableError, match="no call is labelled for courtesy"):
        train(partial, tmp_path / "out", SHORT)
    one = labels_file(tmp_path / "one.jsonl", customer_id="k-1")
    with pytest.raises(TableError, match="one customer"):
        train(one, tmp_path / "out", SHORT)
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no model"):
        train(labels_file(tmp_path / "labels.jsonl"), full, SHORT)
    with pytest.raises(ModelError, match="not a model directory"):
        train(labels_file(tmp_path / "labels.jsonl"), tmp_path / "out", TrainingOptions(base="nothing-there"))


def test_an_encoder_is_exported_only_from_a_complete_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        export_encoder(tmp_path, tmp_path / "out", name="none")
    assert models_dir().is_dir()
