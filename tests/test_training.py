"""Training: labels in, a complete and honest model directory out; the same seed gives the same model."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from analyzer.card import Provenance, Source, TrainingReport, compare, slices, write_card
from analyzer.errors import ModelError, TableError, UsageError
from analyzer.evaluation import Prediction
from analyzer.labels import LabelledCall, read_labels
from analyzer.model import ConversationModel, load_model, models_dir
from analyzer.records import DIMENSIONS, LABELS
from analyzer.training import TrainingOptions, _split, export_encoder, train
from tests.builders import transcript
from tests.conftest import Run

Trained = tuple[TrainingReport, list[tuple[int, int, float]]]

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
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    seen: list[tuple[int, int, float]] = []
    options = TrainingOptions(epochs=2, fresh=True, seed=3, own=Source(name="Our calls", licence="ours", calls=0, use="everything"))
    report = train(labels_file(folder / "labels.jsonl"), folder / "model", options, progress=lambda *step: seen.append(step))
    return report, seen


def test_the_directory_loads_and_reads(trained: Trained) -> None:
    report, seen = trained
    model = load_model(str(report.directory))
    assert model.stamp == report.stamp
    assert model.stamp != load_model("default").stamp
    assert sum(model.read([transcript()])[0].probabilities["closing"].values()) == pytest.approx(1.0)
    assert [(epoch, epochs) for epoch, epochs, _ in seen] == [(1, 2), (2, 2)]


def test_every_call_serves_once_and_customers_stay_together(trained: Trained) -> None:
    report, _ = trained
    assert sum(report.calls.values()) == 24
    assert min(report.calls.values()) >= 2
    calls = [LabelledCall(transcript=transcript(call_id=f"c-{n}", customer_id=f"k-{n // 3}"), labels={"closing": "neutral"}) for n in range(30)]
    parts = _split(calls, (0.2, 0.2), seed=1)
    owners = [{call.transcript.info.customer_id for call in part} for part in parts]
    assert all(owners)
    assert len(owners[0] | owners[1] | owners[2]) == sum(map(len, owners))


def test_the_card_says_data_figures_and_what_it_is_not_for(trained: Trained) -> None:
    report, _ = trained
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


def test_the_same_seed_gives_the_same_model_and_another_does_not(tmp_path: Path, trained: Trained) -> None:
    labels = labels_file(tmp_path / "labels.jsonl")
    again = train(labels, tmp_path / "again", TrainingOptions(epochs=2, fresh=True, seed=3))
    assert apart(again.directory, trained[0].directory) < 1e-3
    other = train(labels, tmp_path / "other", TrainingOptions(epochs=2, fresh=True, seed=4))
    assert apart(other.directory, trained[0].directory) > 1e-2


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingReport, tuple[LabelledCall, ...]]:
    """The shipped model adapted to 24 calls and measured on 40 others, with those."""
    folder = tmp_path_factory.mktemp("adapted")
    rows = [json.loads(line) for line in (Path(__file__).parent / "data" / "labelled_calls.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows[:8]:
        row["domain"] = "claims | *by* `post`"
    del rows[8]["domain"]
    measured = folder / "measured.jsonl"
    measured.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    report = train(labels_file(folder / "labels.jsonl"), folder / "mine", TrainingOptions(epochs=1), measure=measured)
    return report, read_labels(measured)


def card_of(report: TrainingReport) -> str:
    return (report.directory / "README.md").read_text(encoding="utf-8")


def right(model: ConversationModel, calls: tuple[LabelledCall, ...], dimension: str, shares: Mapping[str, float] | None = None) -> list[bool]:
    readings = model.read([call.transcript for call in calls], shares=shares)
    best = [max(reading.probabilities[dimension].items(), key=lambda item: item[1])[0] for reading in readings]
    return [label == call.labels[dimension] for label, call in zip(best, calls, strict=True)]


def test_a_model_is_adapted_from_another_and_measured_on_a_file_of_its_own(adapted: tuple[TrainingReport, tuple[LabelledCall, ...]]) -> None:
    report, _ = adapted
    assert report.calls["measure"] == 40
    assert report.calls["learn"] + report.calls["hold"] == 24
    # Starting from the shipped heads, one epoch on 24 calls does not forget what courtesy is.
    assert report.agreement["courtesy"].figures["macro_f1"].value > 0.6


def test_the_base_is_measured_on_the_same_calls_and_the_card_says_what_became_better(
    adapted: tuple[TrainingReport, tuple[LabelledCall, ...]], default_model: ConversationModel
) -> None:
    report, calls = adapted
    assert report.base == default_model.stamp
    mix = load_model(str(report.directory)).config["mix"]
    shares = {label: mix[name][label] for name, label in (("courtesy", "discourteous"), ("courtesy", "courteous"))}
    before = right(default_model, calls, "courtesy", shares)
    assert report.changes["courtesy"].before["accuracy"].value == pytest.approx(sum(before) / 40)
    card = card_of(report)
    assert f"`{default_model.stamp}`" in card
    for name, change in report.changes.items():
        for figure in ("macro_f1", "accuracy", "ece"):
            assert change.after[figure] == report.agreement[name].figures[figure]  # the same draws as the card's other figures
        assert change.difference.value == pytest.approx(change.after["macro_f1"].value - change.before["macro_f1"].value)
        found = change.difference
        assert f"| {found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}) |" in card
        assert f"- {change.sentence}\n" in card


def answers(calls: list[LabelledCall], wrong: Callable[[int], bool]) -> list[dict[str, Prediction]]:
    """Predictions of the closing, wrong where told."""
    out = []
    for number, call in enumerate(calls):
        labels = LABELS["closing"]
        said = labels[(labels.index(call.labels["closing"]) + wrong(number)) % len(labels)]
        out.append({"closing": Prediction(probabilities={label: 0.8 if label == said else 0.1 for label in labels})})
    return out


@pytest.mark.parametrize(
    ("count", "before", "after", "wanted"),
    [
        (60, lambda n: n % 2 == 0, lambda n: n % 10 == 0, "closing: better than the base on 60 calls"),
        (60, lambda n: n % 10 == 0, lambda n: n % 2 == 0, "closing: worse than the base on 60 calls"),
        (60, lambda n: n % 5 == 0, lambda n: n % 5 == 1, "closing: no difference can be told from 60 calls"),
        (60, lambda n: n % 5 == 0, lambda n: n % 5 == 0, "closing: no difference can be told from 60 calls"),
        (19, lambda _: True, lambda _: False, "closing: no difference can be told from 19 calls"),
    ],
)
def test_a_verdict_needs_calls_enough_and_an_interval_on_one_side(
    count: int, before: Callable[[int], bool], after: Callable[[int], bool], wanted: str
) -> None:
    calls = [LabelledCall(transcript=transcript(call_id=f"c-{n}"), labels={"closing": LABELS["closing"][n % 3]}) for n in range(count)]
    change = compare(calls, answers(calls, before), answers(calls, after))["closing"]
    assert change.sentence.startswith(f"{wanted}: macro-F1 ")
    if [before(n) for n in range(count)] == [after(n) for n in range(count)]:
        assert (change.difference.low, change.difference.high) == (0.0, 0.0)  # both are drawn together


def test_versions_of_one_call_do_not_make_a_verdict() -> None:
    calls = [
        LabelledCall(transcript=transcript(call_id=f"c-{n}"), labels={"closing": LABELS["closing"][n % 3]}, pair=f"p-{n // 6}") for n in range(60)
    ]
    change = compare(calls, answers(calls, lambda _: True), answers(calls, lambda _: False))["closing"]
    assert (change.n, change.conversations, change.verdict) == (60, 10, "no difference")


def test_a_base_without_heads_is_not_measured(tmp_path: Path) -> None:
    base = tmp_path / "encoder"
    shutil.copytree(models_dir() / "default", base, ignore=shutil.ignore_patterns("heads.safetensors", "*.md", "*.svg"))
    report = train(labels_file(tmp_path / "labels.jsonl"), tmp_path / "out", TrainingOptions(base=str(base), epochs=1, wordings=0))
    assert report.base is None
    assert report.changes == {}
    assert "## Beside its base" not in card_of(report)


def test_the_card_shows_how_sure_the_model_may_be(adapted: tuple[TrainingReport, tuple[LabelledCall, ...]], tmp_path: Path) -> None:
    report, _ = adapted
    card = card_of(report)
    assert re.search(r"!\[Reliability diagrams of courtesy, resolution, closing: [^\]]+\]\(calibration\.svg\)", card)
    picture = (report.directory / "calibration.svg").read_bytes()
    assert b"dc:date" not in picture
    drawn = [element.text for element in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    for name, bins in report.calibration.items():
        one = report.agreement[name]
        assert name in drawn
        assert sum(part.rate.n for part in bins) == one.n
        gaps = [abs(part.stated * part.rate.n - part.rate.right) for part in bins]
        assert sum(gaps) / one.n == pytest.approx(one.figures["ece"].value)
        for part in bins:
            assert str(part.rate.n) in drawn
            assert f" {part.rate.n}: stated {part.stated:.3f}, right {part.rate.right / part.rate.n:.3f} (" in card
    again = dataclasses.replace(report, directory=tmp_path)
    shutil.copy(report.directory / "config.json", tmp_path)
    provenance = Provenance(sources=(), lent=0, phrases=0, tuned_layers=0, seed=0, measured_apart=True)
    write_card(again, provenance)
    assert (tmp_path / "calibration.svg").read_bytes() == picture
    write_card(dataclasses.replace(again, calibration={}), provenance)
    assert not (tmp_path / "calibration.svg").exists()
    assert "Closing: 40 calls are too few to say" in card_of(again)


def test_of_few_measured_calls_the_card_says_that_they_are_few(trained: Trained) -> None:
    report, _ = trained
    card = card_of(report)
    assert not (report.directory / "calibration.svg").exists()
    assert "calibration.svg" not in card
    for name in DIMENSIONS:
        assert f"{name.capitalize()}: {report.calls['measure']} calls are too few to say; 20 are needed." in card


def wilson(count: int, total: int) -> tuple[float, float]:
    """The score interval, from its formula."""
    z, share = 1.959964, count / total
    middle, half = share + z**2 / (2 * total), z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return (middle - half) / (1 + z**2 / total), (middle + half) / (1 + z**2 / total)


def test_the_card_says_in_which_calls_the_model_errs(adapted: tuple[TrainingReport, tuple[LabelledCall, ...]], trained: Trained) -> None:
    report, calls = adapted
    card = card_of(report)
    hits = right(load_model(str(report.directory)), calls, "courtesy")
    styles = [call.transcript.info.covariates["style"] for call in calls]
    wanted = {"claims \\| *by* 'post'": hits[:8], "other": hits[8:]}
    wanted |= {style: [hit for hit, own in zip(hits, styles, strict=True) if own == style] for style in ("clean", "asr")}
    for value, held in wanted.items():
        low, high = wilson(sum(held), len(held))
        assert f"| courtesy | `{value}` | {len(held)} | {sum(held)} | {sum(held) / len(held):.3f} ({low:.3f} to {high:.3f}) |" in card
    assert [part.value for part in report.slices if (part.dimension, part.column) == ("closing", "domain")] == ["claims | *by* `post`", "other"]
    assert "## Errors by domain" in card
    assert "## Errors by speech style" in card
    assert "## Errors by" not in card_of(trained[0])  # those calls have no such columns


def test_calls_without_a_value_are_a_group_of_their_own() -> None:
    given = [{"domain": "a"}] * 6 + [{}] * 5 + [{"domain": "b"}] * 4 + [{"domain": " "}]
    calls = [
        LabelledCall(transcript=transcript(call_id=f"c-{n}", covariates=columns), labels={"closing": "neutral"}) for n, columns in enumerate(given)
    ]
    found = slices(calls, answers(calls, lambda n: n == 0))
    assert [(part.value, part.rate.n, part.rate.right) for part in found] == [("(none)", 6, 6), ("a", 6, 5), ("other", 4, 4)]


@pytest.mark.parametrize("form", ["json", "table", "csv"])
def test_the_verb_prints_what_became_better(run: Run, tmp_path: Path, form: str, default_model: ConversationModel) -> None:
    labels_file(tmp_path / "labels.jsonl", calls=20)
    done = run("train", "labels.jsonl", "-o", "mine", "--epochs", 1, "-q", *(() if form == "json" else ("--format", form)))
    assert done.returncode == 0, done.stderr
    model = load_model(str(tmp_path / "mine"))
    if form == "table":
        assert model.stamp in done.stdout
        assert default_model.stamp in done.stdout
        assert "macro_f1 difference" in done.stdout
        assert re.search(r"^closing: no difference can be told from \d calls: macro-F1 ", done.stdout, re.MULTILINE)
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        held = {(row["part"], row["dimension"], row["figure"]): float(row["value"]) for row in rows}
        after, before = (held[part, "closing", "macro_f1"] for part in ("after", "before"))
        assert held["difference", "closing", "macro_f1"] == pytest.approx(after - before, abs=2e-4)
        assert held["agreement", "closing", "macro_f1"] == after
    else:
        told = json.loads(done.stdout)
        assert (told["model"], told["base"]) == (model.stamp, default_model.stamp)
        for name in DIMENSIONS:
            change = told["changes"][name]
            assert change["calls"] == told["calls"]["measure"] == told["agreement"][name]["calls"]
            assert set(change["before"]) == set(change["after"]) == {"macro_f1", "accuracy", "ece"}
            assert change["difference"]["macro_f1"].keys() == {"value", "low", "high"}
            assert change["verdict"] == "no difference"


def test_a_run_that_was_broken_off_goes_on_to_the_very_same_model(tmp_path: Path, trained: Trained) -> None:
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
