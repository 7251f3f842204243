"""What a training run says of the model it made: its figures beside its base's, how sure it may be, where it errs; the card and its picture."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from analyzer.agreement import Floats, Interval, Ints, bootstrap, confusion, expected_calibration_error, macro_f1, wilson
from analyzer.evaluation import Agreement, Prediction
from analyzer.labels import LabelledCall
from analyzer.model import CONFIG
from analyzer.records import DIMENSIONS, LABELS, plain

PICTURE: Final = "calibration.svg"
#: Of fewer calls (of conversations, for a verdict) nothing is said.
FEWEST: Final = 20
#: Further columns of the calls by which errors are counted, and what the card calls them.
KINDS: Final[Mapping[str, str]] = {"domain": "domain", "style": "speech style"}
_SMALLEST_SLICE: Final = 5
_REST: Final = "other"
#: Equally wide bins of the most probable label's probability, those of the calibration error.
_BINS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where training data came from, for the model card."""

    name: str
    licence: str
    calls: int
    use: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How a model came about, as its card tells it; `lent` and `phrases` count what was learnt from beside the labelled calls."""

    sources: Sequence[Source]
    lent: int
    phrases: int
    tuned_layers: int
    seed: int
    measured_apart: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One dimension of the new model beside its base, on the same `n` calls of so many `conversations`.

    `before` (the base) and `after` hold `macro_f1`, `accuracy` and `ece` (see `evaluation.Agreement`), `difference` is macro-F1 after less before.
    All intervals come from the same resamples, so the difference is a paired one.
    """

    dimension: str
    n: int
    conversations: int
    before: Mapping[str, Interval]
    after: Mapping[str, Interval]
    difference: Interval

    @property
    def verdict(self) -> Literal["better", "worse", "no difference"]:
        """Which way the whole interval of the difference lies; of few conversations a bootstrap is too sure, so they give no verdict."""
        low, high = self.difference.low, self.difference.high
        if self.conversations < FEWEST or low is None or high is None or low <= 0 <= high:
            return "no difference"
        return "better" if low > 0 else "worse"

    @property
    def sentence(self) -> str:
        """The verdict in plain words, with its figures."""
        found = "no difference can be told from" if self.verdict == "no difference" else f"{self.verdict} than the base on"
        was, now = self.before["macro_f1"].value, self.after["macro_f1"].value
        return f"{self.dimension}: {found} {self.n} calls: macro-F1 {was:.2f} before, {now:.2f} after, difference {shown(self.difference, '+.2f')}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many answers `right` of `n` calls."""

    right: int
    n: int

    @property
    def interval(self) -> Interval:
        """The share with its 95 % Wilson interval."""
        return wilson(self.right, self.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Calls whose most probable label has a probability from `low` to `high`, `stated` in the mean, and how many of these labels are right."""

    low: float
    high: float
    stated: float
    rate: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """How often one dimension is right in the calls that hold `value` in `column`."""

    dimension: str
    column: str
    value: str
    rate: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """What a run gave: the directory, its stamp, how many calls served for what, and figures on calls it never saw.

    `base` is the stamp of the model it started from and `changes` what became better or worse, per dimension; `None` and empty where that was an
    encoder without heads, which answers nothing. `calibration` and `slices` are as the functions of these names give them.
    """

    directory: Path
    stamp: str
    base: str | None
    epochs: int
    calls: Mapping[str, int]
    agreement: Mapping[str, Agreement]
    changes: Mapping[str, Change]
    calibration: Mapping[str, Sequence[Bin]]
    slices: Sequence[Slice]

    def to_json(self) -> dict[str, Any]:
        """The figures as one JSON object, with at most 4 decimals."""

        def held(figures: Mapping[str, Interval]) -> dict[str, Any]:
            return {name: {key: plain(value) for key, value in dataclasses.asdict(figure).items()} for name, figure in figures.items()}

        return {
            "model": self.stamp,
            "directory": str(self.directory),
            "base": self.base,
            "epochs": self.epochs,
            "calls": dict(self.calls),
            "agreement": {
                name: {"calls": one.n, "abstained_share": plain(one.abstained_share), "figures": held({**one.figures, **one.selective})}
                for name, one in self.agreement.items()
            },
            "changes": {
                name: {
                    "calls": one.n,
                    "before": held(one.before),
                    "after": held(one.after),
                    "difference": held({"macro_f1": one.difference}),
                    "verdict": one.verdict,
                    "sentence": one.sentence,
                }
                for name, one in self.changes.items()
            },
        }


def compare(
    calls: Sequence[LabelledCall], before: Sequence[Mapping[str, Prediction]], after: Sequence[Mapping[str, Prediction]], *, seed: int = 0
) -> dict[str, Change]:
    """What changed per dimension from the predictions `before` to those `after`, both beside `calls`.

    Intervals are 95 % percentile bootstraps over conversations (1000 resamples, each taken of both), the same draws as `evaluation.evaluate` makes of
    that seed. Dimensions without a usable label are left out.
    """
    out: dict[str, Change] = {}
    for dimension in DIMENSIONS:
        rated, truth, was = _answers(calls, before, dimension)
        if not rated:
            continue
        units = [call.conversation for call in rated]
        now = _answers(calls, after, dimension)[2]
        figures = bootstrap(partial(_both, truth, {"before": was, "after": now}), units, seed=seed)
        parts = {when: {name: figure for (part, name), figure in figures.items() if part == when} for when in ("before", "after")}
        difference = figures["difference", "macro_f1"]
        out[dimension] = Change(dimension=dimension, n=len(units), conversations=len(set(units)), difference=difference, **parts)
    return out


def _both(truth: Ints, made: Mapping[str, Floats], rows: Ints) -> dict[tuple[str, str], float]:
    out: dict[tuple[str, str], float] = {}
    for when, probabilities in made.items():
        best = probabilities[rows].argmax(axis=1)
        out[when, "macro_f1"] = macro_f1(confusion(truth[rows], best, probabilities.shape[1]))
        out[when, "accuracy"] = float((best == truth[rows]).mean())
        out[when, "ece"] = expected_calibration_error(probabilities[rows], truth[rows], _BINS)
    out["difference", "macro_f1"] = out["after", "macro_f1"] - out["before", "macro_f1"]
    return out


def calibration(calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]]) -> dict[str, tuple[Bin, ...]]:
    """The bins that hold calls, per dimension, lowest first; dimensions with fewer than `FEWEST` labelled calls are left out."""
    out: dict[str, tuple[Bin, ...]] = {}
    for dimension in DIMENSIONS:
        rated, truth, made = _answers(calls, predictions, dimension)
        if len(rated) < FEWEST:
            continue
        top, right = made.max(axis=1), made.argmax(axis=1) == truth
        place = np.minimum((top * _BINS).astype(np.int64), _BINS - 1)
        out[dimension] = tuple(
            Bin(
                low=number / _BINS,
                high=(number + 1) / _BINS,
                stated=float(top[place == number].mean()),
                rate=Rate(right=int(right[place == number].sum()), n=int((place == number).sum())),
            )
            for number in np.unique(place).tolist()
        )
    return out


def slices(calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]]) -> tuple[Slice, ...]:
    """How often each dimension is right by the values of each column of `KINDS` that the calls have, the commonest value first.

    Values of fewer than five labelled calls are counted together as "other", last; calls without a value are "(none)".
    """
    return tuple(part for column in KINDS for dimension in DIMENSIONS for part in _sliced(calls, predictions, column, dimension))


def _sliced(calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]], column: str, dimension: str) -> Iterator[Slice]:
    rated, truth, made = _answers(calls, predictions, dimension)
    values = [" ".join(str(call.transcript.info.covariates.get(column) or "").split()) for call in rated]
    if not any(values):
        return
    counts = Counter(values)
    right: dict[str, list[bool]] = defaultdict(list)
    for value, hit in zip(values, made.argmax(axis=1) == truth, strict=True):
        right[(value or "(none)") if counts[value] >= _SMALLEST_SLICE else _REST].append(bool(hit))
    for value in sorted(right, key=lambda value: (value == _REST, -len(right[value]), value)):
        yield Slice(dimension=dimension, column=column, value=value, rate=Rate(right=sum(right[value]), n=len(right[value])))


def _answers(
    calls: Sequence[LabelledCall], predictions: Sequence[Mapping[str, Prediction]], dimension: str
) -> tuple[list[LabelledCall], Ints, Floats]:
    """The calls with an undisputed label, that label's number (n,) and the labels' probabilities (n, labels)."""
    labels = LABELS[dimension]
    pairs = [
        (call, made[dimension])
        for call, made in zip(calls, predictions, strict=True)
        if dimension in call.labels and dimension not in call.disputed and dimension in made
    ]
    truth = np.array([labels.index(call.labels[dimension]) for call, _ in pairs], dtype=np.int64)
    made = np.array([[one.probabilities[label] for label in labels] for _, one in pairs], dtype=np.float64).reshape(-1, len(labels))
    return [call for call, _ in pairs], truth, made


def shown(figure: Interval | None, form: str = ".3f") -> str:
    """A figure with its interval, as people read it."""
    if figure is None:
        return "n/a"
    limits = "" if figure.low is None or figure.high is None else f" ({figure.low:{form}} to {figure.high:{form}})"
    return f"{figure.value:{form}}{limits}"


def write_card(report: TrainingReport, provenance: Provenance) -> None:
    """Write `README.md` and, where enough calls were measured, `calibration.svg` into the model's directory; the same report gives the same bytes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Markdown, not HTML: escaping would spell out the characters of the names.
    environment = Environment(loader=PackageLoader("analyzer"), undefined=StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters["shown"] = shown
    environment.filters["verbatim"] = _verbatim
    picture = report.directory / PICTURE
    if report.calibration:
        _draw(report.calibration, picture)
    else:
        picture.unlink(missing_ok=True)  # of a model that was here before
    text = environment.get_template("model_card.md").render(
        report=report,
        made=provenance,
        encoder=json.loads((report.directory / CONFIG).read_text(encoding="utf-8"))["encoder_name"],
        picture=PICTURE,
        fewest=FEWEST,
        ranges=sorted({(one.low, one.high) for bins in report.calibration.values() for one in bins}),
        kinds={column: name for column, name in KINDS.items() if any(part.column == column for part in report.slices)},
    )
    (report.directory / "README.md").write_text(text + "\n", encoding="utf-8")


def _verbatim(text: str) -> str:
    """Text from outside as a code span of a table's cell, in which nothing is a link, markup or the end of the cell."""
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


def _draw(bins: Mapping[str, Sequence[Bin]], place: Path) -> None:
    """Reliability diagrams side by side (Niculescu-Mizil & Caruana 2005), below each how many calls stand in each bin."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Ids from the contents and no date: the same figures give the same bytes.
    with mpl.rc_context({"svg.hashsalt": PICTURE, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(0.6 + 3 * len(bins), 4.2), layout="constrained")
        axes = figure.subplots(2, len(bins), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
        for column, (dimension, held) in enumerate(bins.items()):
            upper, lower = axes[0, column], axes[1, column]
            upper.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
            for one in held:
                share = one.rate.interval
                upper.plot([one.stated] * 2, [share.low, share.high], color="tab:blue", linewidth=1.2)
                upper.plot(one.stated, share.value, color="tab:blue", marker="o", markersize=5)
                lower.bar((one.low + one.high) / 2, one.rate.n, width=0.9 / _BINS, color="tab:blue")
                lower.annotate(str(one.rate.n), ((one.low + one.high) / 2, one.rate.n), (0, 1), textcoords="offset points", ha="center", fontsize=7)
            upper.set(title=dimension, xlim=(0, 1), ylim=(0, 1.02))
            lower.set_xlabel("probability of the named label")
            lower.margins(y=0.25)
        axes[0, 0].set_ylabel("share of labels right")
        axes[1, 0].set_ylabel("calls")
        figure.savefig(place, format="svg", metadata={"Date": None})
