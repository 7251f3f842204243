"""`analyzer evaluate` as a QA lead runs it: the same figures in every format, as worked out by hand here, and plain words where there are none."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from analyzer.cli.agreement import prevalence_block
from analyzer.config import read_settings
from analyzer.evaluation import label_shares
from analyzer.fairness import reworded, versions
from analyzer.labels import LabelledCall
from analyzer.records import LABELS
from analyzer.wire import transcript_from_json
from tests.builders import transcript
from tests.conftest import Run

Json = dict[str, Any]
HELLO = ("agent", "Good morning, billing, how can I help you today?")
PRAISED = (
    HELLO,
    ("customer", "You charged me twice for the same order."),
    ("agent", "I am so sorry, that must be annoying. I have refunded it just now, and I will watch the next bill myself."),
    ("customer", "Oh that is wonderful, thank you so much, you have been so helpful."),
)
REFUSED = (
    HELLO,
    ("customer", "My parcel is broken and I want my money back."),
    ("agent", "No. It is more than thirty days old, so there is no refund."),
    ("customer", "That is ridiculous. I don't know why I bother, I am never ordering from you again."),
)
ROUTINE = (
    HELLO,
    ("customer", "What time do you close on Saturday?"),
    ("agent", "We close at five on Saturday."),
    ("customer", "Okay, thank you, bye."),
)
VOICEMAIL = (("agent", "You have reached the voicemail of Sam Hill. Please leave a message after the tone."),)
#: What the first rater says of a call of these words.
RATED = {
    PRAISED: {"courtesy": "courteous", "resolution": "resolved", "closing": "singing"},
    REFUSED: {"courtesy": "discourteous", "resolution": "unresolved", "closing": "grumbling"},
    ROUTINE: {"courtesy": "neutral", "resolution": "resolved", "closing": "neutral"},
    VOICEMAIL: {"courtesy": "neutral", "resolution": "unclear", "closing": "neutral"},
}
#: Twelve calls and a voicemail; the first two are rated against their words, so that there is something wrong to show.
WORDS = (PRAISED, REFUSED, ROUTINE) * 4 + (VOICEMAIL,)
AGAINST = {0: {"closing": "grumbling"}, 1: {"courtesy": "courteous", "closing": "singing"}}
DISPUTED = 3
#: A call that is also evaluated by itself.
ONE = 7


def call(number: int) -> Json:
    turns = [{"speaker": speaker, "text": text} for speaker, text in WORDS[number]]
    return {"call_id": f"c-{number}", "turns": turns} | ({"queue": "billing" if number < 10 else "sales"} if number < 12 else {})


def rated(number: int) -> Json:
    """The call with its labels; the first six are rated twice, the second rater finds every closing of them neutral."""
    labels = RATED[WORDS[number]] | AGAINST.get(number, {})
    twice = {"ratings": [labels, labels | {"closing": "neutral"}]} if number < 6 else {}
    return call(number) | {"labels": labels} | twice | ({"disputed": ["closing"]} if number == DISPUTED else {})


def write(path: Path, rows: list[Json]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def analyzer(folder: Path, *arguments: object) -> str:
    command = [sys.executable, "-m", "analyzer", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def parsed(text: str) -> Any:
    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def cells(table: str) -> list[list[str]]:
    """The rows of all tables of an output."""
    return [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in table.splitlines() if line[:1] in ("│", "┃")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write(folder / "labels.jsonl", [rated(number) for number in range(len(WORDS))])
    scots = next(version for version in versions() if version.name == "scots")
    reworded_one = reworded(transcript_from_json(call(ONE), where="here"), scots.rewrite).to_json() | {"call_id": "scots"}
    write(folder / "calls.jsonl", [*map(call, range(len(WORDS))), reworded_one])
    return folder


@pytest.fixture(scope="module")
def scores(place: Path) -> dict[str, Json]:
    """What the verb `score` says of the same calls."""
    return {one["call_id"]: one for one in map(parsed, analyzer(place, "score", "calls.jsonl", "--format", "jsonl").splitlines())}


@pytest.fixture(scope="module")
def found(place: Path) -> Any:
    assert analyzer(place, "evaluate", "labels.jsonl", "--group", "queue", "--format", "json", "-o", "found.json", "-q") == ""
    return parsed((place / "found.json").read_text(encoding="utf-8"))


def best(score: Json, dimension: str) -> str:
    probabilities: dict[str, float] = score[dimension]["probabilities"]
    return max(probabilities, key=lambda label: probabilities[label])


def pairs(scores: dict[str, Json], dimension: str) -> list[tuple[str, str, str]]:
    """Call, rater's label and score's label of the calls that count."""
    rows = [rated(number) for number in range(len(WORDS))]
    return [
        (row["call_id"], row["labels"][dimension], best(scores[row["call_id"]], dimension))
        for row in rows
        if dimension not in row.get("disputed", ())
    ]


def kappa(given: list[tuple[str, str]]) -> float:
    """Cohen's kappa by its definition."""
    n = len(given)
    one, other = Counter(a for a, _ in given), Counter(b for _, b in given)
    chance = sum(one[label] * other[label] for label in one) / n**2
    return (sum(a == b for a, b in given) / n - chance) / (1 - chance)


def wilson(count: int, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    middle, half = count + z * z / 2, z * math.sqrt(count * (n - count) / n + z * z / 4)
    return (middle - half) / (n + z * z), (middle + half) / (n + z * z)


@pytest.mark.parametrize("dimension", LABELS)
def test_the_figures_are_those_worked_out_by_hand(found: Any, scores: dict[str, Json], dimension: str) -> None:
    given = pairs(scores, dimension)
    one, said = found[dimension], [(truth, made) for _, truth, made in given]
    right, table = [truth == made for truth, made in said], Counter(said)
    assert one["n"] == len(given) == (12 if dimension == "closing" else 13)
    abstained = [scores[name][dimension]["abstained"] for name, *_ in given]
    assert any(abstained)  # the voicemail
    expected = {"accuracy": sum(right) / len(right), "kappa": kappa(said)}
    f1 = {}
    for label in LABELS[dimension]:
        meant, made, both = sum(a == label for a, _ in said), sum(b == label for _, b in said), table[label, label]
        own = {"precision": (both, made), "recall": (both, meant), "f1": (2 * both, meant + made)}
        shown = {name: figure["value"] for name, figure in one["by_label"][label].items() if name in own}
        assert shown == {name: pytest.approx(a / b, abs=5e-5) for name, (a, b) in own.items() if b}
        assert one["support"][label] == meant
        if meant + made:
            f1[label] = 2 * both / (meant + made)
    expected["macro_f1"] = sum(f1.values()) / len(f1)
    expected["brier"] = sum(
        sum((p - (label == truth)) ** 2 for label, p in scores[name][dimension]["probabilities"].items()) for name, truth, _ in given
    ) / len(given)
    for name, value in expected.items():
        assert one["figures"][name]["value"] == pytest.approx(value, abs=1e-3 if name == "brier" else 5e-5), name
        assert one["figures"][name]["low"] <= one["figures"][name]["high"]
    assert one["abstained_share"] == pytest.approx(sum(abstained) / len(abstained), abs=5e-5)
    answered = [ok for ok, silent in zip(right, abstained, strict=True) if not silent]
    assert one["selective"]["accuracy_answered"]["value"] == pytest.approx(sum(answered) / len(answered), abs=5e-5)


@pytest.mark.parametrize("dimension", LABELS)
def test_every_wrong_cell_leads_to_its_calls(found: Any, scores: dict[str, Json], dimension: str) -> None:
    given = pairs(scores, dimension)
    for label, row in found[dimension]["confusion"].items():
        for other, count in row.items():
            calls = [name for name, truth, made in given if (truth, made) == (label, other)]
            assert count == len(calls)
            assert found[dimension]["wrong_calls"][label].get(other, []) == ([] if label == other else calls)
    if dimension == "closing":
        assert sum(len(ids) for row in found["closing"]["wrong_calls"].values() for ids in row.values()) > 0


def test_raters_shares_retrieval_and_groups_by_hand(found: Any, scores: dict[str, Json]) -> None:
    rows = [rated(number) for number in range(len(WORDS))]
    both = [(row["ratings"][0]["closing"], row["ratings"][1]["closing"]) for row in rows if "ratings" in row]
    assert found["closing"]["rated_twice"] == len(both) == 6  # the disputed call among them
    assert found["closing"]["raters"]["kappa"]["value"] == pytest.approx(kappa(both), abs=5e-5)
    assert found["courtesy"]["raters"]["kappa"]["value"] == 1.0
    for share in found["prevalence"]:
        said = [row["labels"][share["dimension"]] for row in rows if share["dimension"] not in row.get("disputed", ())]
        count = said.count(share["label"])
        low, high = wilson(count, len(said))
        assert (share["n"], share["count"], share["disputed"]) == (len(said), count, int(share["dimension"] == "closing"))
        assert share["share"] == pytest.approx({"value": count / len(said), "low": low, "high": high}, abs=5e-5)
    assert [share["label"] for share in found["prevalence"]] == ["discourteous", "courteous", "grumbling", "singing"]
    counted = [row["labels"] for row in rows if "disputed" not in row]
    bad = [sum(label in ("discourteous", "unresolved", "grumbling") for label in labels.values()) for labels in counted]
    assert [(one["at_least"], one["n"], one["bad"]) for one in found["retrieval"]] == [(n, 12, sum(b >= n for b in bad)) for n in (1, 2)]
    billing = [truth != made for name, truth, made in pairs(scores, "courtesy") if int(name[2:]) < 10]
    groups = {one["group"]: one for one in found["group"] if one["dimension"] == "courtesy"}
    assert {name: one["n"] for name, one in groups.items()} == {"billing": 10, "sales": 2, "(none)": 1}
    assert groups["billing"]["figures"]["error_rate"]["value"] == pytest.approx(sum(billing) / 10)
    assert groups["sales"]["figures"] == groups["(none)"]["figures"] == {}


def flat(found: Json) -> dict[tuple[str, str, str, str], Json]:
    """The figures of an evaluation by part, dimension, subject and name."""
    out: dict[tuple[str, str, str, str], Json] = {}

    def hold(part: str, dimension: str, subject: str, figures: Json) -> None:
        for name, figure in figures.items() or [("", {})]:
            out[part, dimension, subject, name] = figure

    for dimension in LABELS:
        one = found[dimension]
        hold("agreement", dimension, "", one["figures"] | one["selective"] | {"abstained_share": {"value": one["abstained_share"]}})
        for label, row in one["confusion"].items():
            hold("label", dimension, label, one["by_label"][label])
            hold("confusion", dimension, label, {other: {"value": count} for other, count in row.items()})
        hold("raters", dimension, "", one["raters"])
    for share in found["prevalence"]:
        hold("prevalence", share["dimension"], share["label"], {"share": share["share"]})
    for one in found["retrieval"]:
        hold("retrieval", "", f"at least {one['at_least']}", one["figures"])
    for one in found["group"]:
        hold("group", one["dimension"], one["group"], one["figures"])
    return out


def test_csv_holds_the_same_figures_a_row_each(place: Path, found: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(analyzer(place, "evaluate", "labels.jsonl", "--group", "queue", "--format", "csv"))))
    expected = flat(found)
    assert len(rows) == len(expected)
    for row in rows:
        figure = expected[row["part"], row["dimension"], row["subject"], row["figure"]]
        shown = {name: float(row[name]) for name in ("value", "low", "high") if row[name]}
        assert shown == {name: value for name, value in figure.items() if value is not None}, row
    wrong = {(row["subject"], row["figure"]): row["which"].split(", ") for row in rows if row["which"] and row["dimension"] == "closing"}
    assert wrong == {(label, other): ids for label, row in found["closing"]["wrong_calls"].items() for other, ids in row.items()}


def test_json_lines_hold_the_same_records(place: Path, found: Any) -> None:
    lines = [parsed(line) for line in analyzer(place, "evaluate", "labels.jsonl", "--group", "queue", "--format", "jsonl").splitlines()]
    parts = {name: [{k: v for k, v in line.items() if k != "part"} for line in lines if line["part"] == name] for name in {x["part"] for x in lines}}
    assert {one["dimension"]: one for one in parts.pop("agreement")} == {name: found[name] for name in LABELS}
    assert parts == {name: found[name] for name in ("prevalence", "retrieval", "group")}


def test_the_tables_hold_the_same_figures(place: Path, found: Any) -> None:
    out = analyzer(place, "evaluate", "labels.jsonl", "--group", "queue", "--format", "table")
    rows = cells(out)

    def words(figure: Json | None, form: str = ".2f") -> str:
        return "" if figure is None else f"{figure['value']:{form}} ({figure['low']:{form}} to {figure['high']:{form}})"

    for name in ("accuracy", "kappa", "weighted_kappa"):
        assert [name, *(words(found[dimension]["figures"].get(name)) for dimension in LABELS)] in rows
    for dimension in LABELS:
        for label, counts in found[dimension]["confusion"].items():
            assert [label, *map(str, counts.values())] in rows
        for label, row in found[dimension]["wrong_calls"].items():
            for other, ids in row.items():
                assert [dimension, label, other, str(len(ids)), ", ".join(ids)] in rows
    for one in found["prevalence"]:
        assert [one["label"], str(one["count"]), str(one["n"]), words(one["share"], ".3f"), str(one["disputed"])] in rows
    assert ["courtesy", "sales", "2", "too few", "too few", "too few"] in rows
    assert "No [prevalence] for the settings:\n# discourteous: 13 rated calls are too few, 30 are needed\n" in out


def test_the_block_for_the_settings_is_ready_to_copy(run: Run, tmp_path: Path) -> None:
    counts = {PRAISED: 6, REFUSED: 2, ROUTINE: 32}
    words = [one for one, count in counts.items() for _ in range(count)]
    labels = [RATED[one] for one in words]
    turns = [[{"speaker": speaker, "text": text} for speaker, text in one] for one in words]
    write(tmp_path / "drawn.jsonl", [{"call_id": f"d-{n}", "turns": turns[n], "labels": labels[n]} for n in range(40)])
    done = run("evaluate", "drawn.jsonl", "--format", "table", "-o", "out.txt")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    text = (tmp_path / "out.txt").read_text(encoding="utf-8")
    block = text[text.index("[prevalence]\n") :].split("\n\n")[0]
    assert "Holds only if the rated calls were drawn at random from the calls that will be scored:" in block
    assert "calls picked because a score was suspicious make it wrong" in block
    low, high = wilson(2, 40)
    assert f"discourteous = 0.05  # 2 of 40 rated calls, 0.050 ({low:.3f} to {high:.3f})" in block
    (tmp_path / "settings.toml").write_text(block, encoding="utf-8")
    shares = read_settings(tmp_path / "settings.toml").prevalence
    assert (shares.discourteous, shares.courteous, shares.grumbling, shares.singing) == (0.05, 0.15, 0.05, 0.15)


def labelled(disputed: int = 0, **counts: int) -> list[LabelledCall]:
    """Calls by label of the closing, the first so many of them disputed."""
    said = [(label, {"closing"} if n < disputed else ()) for label, count in counts.items() for n in range(count)]
    return [
        LabelledCall(transcript=transcript(call_id=f"c-{n}"), labels={"closing": label}, disputed=frozenset(doubt))
        for n, (label, doubt) in enumerate(said)
    ]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"neutral": 25, "grumbling": 5}, "grumbling = 0.167  # 5 of 30 rated calls, 0.167 (0.073 to 0.336)\n"),
        # None is no 0, which the settings read as "as in training": half of the interval's upper end, 3.8415 / (30 + 3.8415) / 2.
        ({"neutral": 25, "grumbling": 5}, "singing = 0.0568  # 0 of 30 rated calls, 0.000 (0.000 to 0.114); the interval's middle"),
        ({"neutral": 27, "grumbling": 7, "disputed": 2}, "grumbling = 0.167  # 5 of 30 rated calls, 0.167 (0.073 to 0.336); 4 disputed left out\n"),
        ({"neutral": 10, "grumbling": 20}, "# grumbling = 0.667 is refused: Choose a value from 0 to 0.45.\n"),
        ({"neutral": 24, "grumbling": 5}, "No [prevalence] for the settings:\n# grumbling: 29 rated calls are too few, 30 are needed\n"),
    ],
)
def test_the_block_offers_only_what_the_settings_take(tmp_path: Path, counts: dict[str, int], expected: str) -> None:
    block = prevalence_block(label_shares(labelled(**counts)))
    assert expected in block
    assert "courteous" not in block  # nobody rated it
    if "refused" in block or "too few" not in block:
        (tmp_path / "settings.toml").write_text(block[block.index("[prevalence]") :], encoding="utf-8")
        read_settings(tmp_path / "settings.toml")


def test_one_call_has_no_intervals_and_no_number_where_there_is_none(place: Path, scores: dict[str, Json]) -> None:
    write(place / "one.jsonl", [rated(ONE)])
    out = analyzer(place, "evaluate", "one.jsonl", "--fairness", "--format", "csv", "-q")
    assert not re.search(r"\b(?:nan|inf|none)\b", out, re.IGNORECASE)
    rows = list(csv.DictReader(io.StringIO(out)))
    held = {row["figure"] for row in rows if (row["part"], row["dimension"]) == ("agreement", "closing")}
    assert {"accuracy", "brier"} <= held
    assert not {"kappa", "weighted_kappa", "auc"} & held  # one class only
    assert {(row["low"], row["high"]) for row in rows if row["part"] != "prevalence"} == {("", "")}
    (share,) = [row for row in rows if (row["part"], row["subject"]) == ("prevalence", "grumbling")]
    assert [float(share[name]) for name in ("value", "low", "high")] == pytest.approx([1.0, *wilson(1, 1)], abs=5e-5)
    shifts = {(row["subject"], row["dimension"], row["figure"]): row for row in rows if row["part"] == "fairness"}
    assert {subject for subject, *_ in shifts} == {f"{version.kind}: {version.name}" for version in versions()}
    assert shifts["names: arabic", "closing", ""]["calls"] == "0"  # the call names nobody
    before, after = scores[f"c-{ONE}"], scores["scots"]
    for dimension, labels in LABELS.items():
        flipped, change = (shifts["spelling: scots", dimension, name] for name in ("flipped", "change"))
        assert (flipped["calls"], float(flipped["value"])) == ("1", before[dimension]["label"] != after[dimension]["label"])
        moved = after[dimension]["probabilities"][labels[0]] - before[dimension]["probabilities"][labels[0]]
        assert float(change["value"].lstrip("'")) == pytest.approx(moved, abs=2e-4)


def test_the_tables_leave_what_is_not_defined_empty(place: Path) -> None:
    write(place / "two.jsonl", [rated(2), rated(8)])
    out = analyzer(place, "evaluate", "two.jsonl", "--fairness", "--format", "table", "-q")
    assert not re.search(r"\b(?:nan|inf|none)\b", out, re.IGNORECASE)
    rows = cells(out)
    assert not {"kappa", "auc"} & {row[0] for row in rows}  # one class only
    assert [row[3:] for row in rows if row[0] == "names: arabic"] == [["0", "", ""]] * 3
    assert [row[3] for row in rows if row[0] == "spelling: scots"] == ["2"] * 3


def test_a_table_of_several_raters(run: Run, tmp_path: Path) -> None:
    (tmp_path / "heard").mkdir()
    for number in range(3):
        (tmp_path / "heard" / f"c-{number}.json").write_text(json.dumps(call(number)), encoding="utf-8")
    said = {"Ann": ("singing", "grumbling", "neutral"), "Ben": ("singing", "neutral", "neutral"), "Cy": ("neutral", "singing", "neutral")}
    rows = [f"c-{number},{rater},{labels[number]}" for number in range(3) for rater, labels in said.items()]
    (tmp_path / "labels.csv").write_text("call_id,rater,closing\n" + "\n".join(rows) + "\n", encoding="utf-8")
    done = run("evaluate", "labels.csv", "--transcripts", "heard")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("3 rated calls, scored by default@sha256:")
    out = parsed(done.stdout)
    assert set(out) == {"closing", "prevalence", "retrieval"}
    assert (out["closing"]["n"], out["closing"]["rated_twice"]) == (2, 3)  # all three say otherwise of c-1: it is disputed
    assert out["closing"]["support"] == {"grumbling": 0, "neutral": 1, "singing": 1}
    assert out["closing"]["raters"]["kappa"]["value"] == pytest.approx(kappa(list(zip(said["Ann"], said["Ben"], strict=True))), abs=5e-5)
    assert [(one["label"], one["count"], one["n"], one["disputed"]) for one in out["prevalence"]] == [("grumbling", 0, 2, 1), ("singing", 1, 2, 1)]


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        ("", (), "labels.jsonl: there are no labelled calls. Write one labelled call a line."),
        (json.dumps(rated(2)), ("--group", "team"), "--group: no call has 'team'. The calls have queue."),
        (json.dumps(rated(2)), ("--group", "reason"), "--group: no call has 'reason'. The calls have queue."),
        (json.dumps(rated(2) | {"labels": {"closing": "nuetral"}}), (), "line 1: unknown closing label 'nuetral'. It is one of grumbling, neutral"),
        (json.dumps(rated(2) | {"labels": {"clsoing": "neutral"}}), (), "line 1: unknown dimension 'clsoing'. The dimensions are courtesy"),
        (json.dumps(rated(2)), ("--transcripts", "."), "JSON Lines hold their transcripts. Leave the folder of transcripts out"),
        (json.dumps(rated(2)), ("-o", "gone/out.json"), "gone/out.json: cannot be written: there is no such folder."),
        (json.dumps(rated(2)), ("--format", "xml"), "'xml' is not one of"),
    ],
)
def test_what_cannot_be_evaluated_is_said_and_nothing_is_printed(
    run: Run, tmp_path: Path, labels: str, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "labels.jsonl").write_text(labels, encoding="utf-8")
    done = run("evaluate", "labels.jsonl", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.split())
    assert "scored by" not in done.stderr  # a slip is told before the scoring
    assert [path.name for path in tmp_path.iterdir()] == ["labels.jsonl"]
