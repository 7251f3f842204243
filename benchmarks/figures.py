"""What every figure of agreement with people means, for anything that answers the three questions; each with its bootstrap interval."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analyzer import scoring
from analyzer.agreement import auc, bootstrap, confusion, expected_calibration_error, macro_f1, mean_of_top, precision_at_recall
from analyzer.config import PrevalenceSettings, Settings
from analyzer.model import ConversationModel, load_model
from analyzer.records import DIMENSIONS, LABELS, CallInfo, Transcript, Turn

Row: TypeAlias = Mapping[str, Any]
Call: TypeAlias = tuple[Turn, ...]
Columns: TypeAlias = NDArray[Any]

RESAMPLES: Final = 1000
#: Mean ratings nearer to 0 than this are no verdict: raters of the helpdesk dialogues then agree on the sign in under half.
VERDICT: Final = 0.3
#: Closings rated below this confidence were cut off, unless the rater still heard a mood.
HEARD: Final = 2
#: The worst calls are the fifth with the most of their labels the worst of their question, and all that have as many.
WORST_SHARE: Final = 0.2
ANSWERED_SHARE: Final = 0.8
#: The positive and negative emotions of Demszky et al. 2020 (arXiv:2005.00547), figure 2; the ambiguous ones are in neither.
POSITIVE: Final = frozenset(
    ("admiration", "amusement", "approval", "caring", "desire", "excitement", "gratitude", "joy", "love", "optimism", "pride", "relief")
)
NEGATIVE: Final = frozenset(
    ("anger", "annoyance", "disappointment", "disapproval", "disgust", "embarrassment", "fear", "grief", "nervousness", "remorse", "sadness")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is said of one call: label probabilities of the questions that were answered at all, and the questions abstained on."""

    probabilities: Mapping[str, Mapping[str, float]]
    abstained: frozenset[str] = frozenset()


#: Answers calls in order, one answer a call. All answers of a predictor hold the same questions.
Predictor: TypeAlias = Callable[[Sequence[Call]], list[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure over `n` conversations with its 95 % percentile-bootstrap interval over them; the bounds are NaN where resamples do not define it.

    `goal` is what it should reach at least, or at most where `small` (less is better); `None` where no goal is set.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    goal: float | None = None
    small: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the value itself, not its bound, reaches the goal."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.small else self.value >= self.goal


def read_rows(path: Path) -> list[Row]:
    """The conversations of a JSON Lines file, `.xz` or plain."""
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def call_of(row: Row, *, other: str = "unknown") -> Call:
    """The turns of a conversation; `other` is who speaks where neither agent nor customer does."""
    names = {"other": other}
    return tuple(Turn(speaker=names.get(turn["speaker"], turn["speaker"]), text=turn["text"]) for turn in row["turns"])


def model_predictor(model: ConversationModel, settings: Settings | None = None) -> Predictor:
    """A conversation model as a predictor: the product's scores, by default settings if none are given; of single sentences their tone."""

    def predict(calls: Sequence[Call]) -> list[Answer]:
        if all(len(call) == 1 for call in calls):
            return [Answer(probabilities={"courtesy": {}, "closing": {}, "tone": tone}) for tone in _tones(model, [call[0].text for call in calls])]
        transcripts = [Transcript(info=CallInfo(call_id=str(number)), turns=call) for number, call in enumerate(calls)]
        return [
            Answer(
                probabilities={name: scored.judgement(name).probabilities for name in (*DIMENSIONS, "opening")},
                abstained=frozenset(name for name in (*DIMENSIONS, "opening") if scored.judgement(name).abstained),
            )
            for scored in scoring.score(transcripts, model, settings)
        ]

    return predict


def _tones(model: ConversationModel, texts: Sequence[str]) -> list[dict[str, float]]:
    """What the questions of single utterances, asked of the encoder in training, give: how polite, and how much more positive than negative."""
    import torch

    with torch.inference_mode():
        features = model.heads.standardise(model.encoder.encode(texts))
        polite, felt = (model.heads.tones[name](features) for name in ("politeness", "feelings"))
    return [{"polite": float(p), "pleased": float(f[0] - f[1])} for p, f in zip(polite[:, 0], felt, strict=True)]


#: Labels as common as they were in training: for calls that were written or chosen so that every label is common.
AS_TRAINED: Final = Settings(prevalence=PrevalenceSettings(discourteous=0, courteous=0, grumbling=0, singing=0))


def load_predictor(name: str) -> Predictor:
    """The model of a shipped name or directory as a predictor."""
    return model_predictor(load_model(name))


def done(answer: Answer) -> float:
    """How likely the need was met, given that it can be told: p(resolved) / (1 - p(unclear))."""
    p = answer.probabilities["resolution"]
    return p["resolved"] / max(1 - p["unclear"], 1e-9)


def mood(answer: Answer) -> float:
    """The closing on a scale from grumbling (-1) to singing (1)."""
    if "tone" in answer.probabilities:
        return answer.probabilities["tone"]["pleased"]
    p = answer.probabilities["closing"]
    return p["singing"] - p["grumbling"]


def manner(answer: Answer) -> float:
    """The courtesy on a scale from discourteous (-1) to courteous (1)."""
    if "tone" in answer.probabilities:
        return answer.probabilities["tone"]["polite"]
    p = answer.probabilities["courtesy"]
    return p["courteous"] - p["discourteous"]


def pleased(answer: Answer) -> float:
    """How likely the customer sings, given that they do not close in routine: a probability for raters' verdicts that know no neutral."""
    p = answer.probabilities["closing"]
    return (p["singing"] + 1e-9) / (p["singing"] + p["grumbling"] + 2e-9)


def best(answer: Answer, question: str) -> str:
    """The most probable label; of equals the worst, as `LABELS` orders them."""
    p = answer.probabilities[question]
    return max(LABELS[question], key=lambda label: p[label])


def measure(predict: Predictor, sets: Mapping[str, Sequence[Row]]) -> list[Figure]:
    """Every figure that the sets at hand (see `read_sets`) and the predictor's questions allow, in a fixed order."""
    out: list[Figure] = []
    for name, figures in MEASURES.items():
        if rows := sets.get(name):
            answers = predict([call_of(row, other=SPOKEN_BY.get(name, "unknown")) for row in rows])
            out += figures(rows, answers)
    return out


def read_sets(public: Path | None, own: Path | None, pairs: Sequence[Path]) -> dict[str, list[Row]]:
    """The conversations to measure on, by the names of `MEASURES`.

    Args:
        public: folder with `STC3.valid`, `BT_dev`, `STAR.valid`, `StanfordPoliteness.valid`, `GoEmotions.valid` (`.jsonl.xz`), those that are there.
        own: the project's labelled calls to measure on (`dev.jsonl`).
        pairs: files of contrast pairs: two rows with the same `pair`, `flips` naming the one question whose label differs.
    """
    sets = {}
    if public is not None:
        for name in PUBLIC:
            if (path := public / f"{name}.jsonl.xz").is_file():
                sets[name] = read_rows(path)
    if own is not None:
        sets["own"] = read_rows(own)
    if pairs:
        sets["pairs"] = [row for path in pairs for row in read_rows(path)]
    return sets


def write_figures(figures: Sequence[Figure], path: Path) -> None:
    """Figures as JSON, for a table of models that no one version of the package can load together."""
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n", encoding="utf-8")


def read_figures(path: Path) -> list[Figure]:
    """What `write_figures` wrote."""
    return [Figure(**record) for record in json.loads(path.read_text(encoding="utf-8"))]


def helpdesk(rows: Sequence[Row], answers: Sequence[Answer]) -> Iterator[Figure]:
    """STC3: 19 raters' mean of "task done" and of satisfaction, where it is a verdict at all."""
    for question, title, key, goal, score, p in (
        ("resolution", "STC3 task done AUC", "A_mean", 0.80, done, done),
        ("closing", "STC3 satisfaction AUC", "S_mean", 0.85, mood, pleased),
    ):
        if _asked(answers, question):
            told = [(row["labels"][key] > 0, answer) for row, answer in zip(rows, answers, strict=True) if abs(row["labels"][key]) >= VERDICT]
            truth = [yes for yes, _ in told]
            yield _figure(title, auc, truth, [score(answer) for _, answer in told], goal=goal)
            yield _figure(f"STC3 {question} ECE (yes or no)", _ece_of_yes, truth, [p(answer) for _, answer in told], small=True)


def operator(rows: Sequence[Row], answers: Sequence[Answer]) -> Iterator[Figure]:
    """BT dev: calls to a telephone operator, rated by the codebook. "Shown" counts labels that were not abstained on; "top" counts all."""
    pairs = list(zip(rows, answers, strict=True))
    if _asked(answers, "courtesy"):
        clean = [(a, best(a, "courtesy") == "discourteous") for row, a in pairs if row["labels"]["courtesy"] != "discourteous"]
        yield _figure("BT falsely shown discourteous", np.mean, [bad and "courtesy" not in a.abstained for a, bad in clean], goal=0.03, small=True)
        yield _figure("BT falsely discourteous, top label", np.mean, [bad for _, bad in clean], small=True)
    if _asked(answers, "closing"):
        routine = [(a, best(a, "closing") != "neutral") for row, a in pairs if row["labels"]["closing"] == "neutral"]
        yield _figure(
            "BT routine closings shown with a mood", np.mean, [bad and "closing" not in a.abstained for a, bad in routine], goal=0.08, small=True
        )
        yield _figure("BT routine closings with a mood, top label", np.mean, [bad for _, bad in routine], small=True)
        right = [(a, best(a, "closing") == row["labels"]["closing"]) for row, a in pairs]
        if shown := [yes for a, yes in right if "closing" not in a.abstained]:
            yield _figure("BT closing right, of shown", np.mean, shown, goal=0.90)
        yield _figure("BT closing right, top label", np.mean, [yes for _, yes in right])
        heard = [a for row, a in pairs if row["confidence"]["closing"] >= HEARD or row["labels"]["closing"] != "neutral"]
        yield _figure("BT closing answered, of calls heard to their end", np.mean, ["closing" not in a.abstained for a in heard], goal=0.80)
    for question in DIMENSIONS:
        if _asked(answers, question):
            yield _figure(f"BT {question} ECE", _ece, *_truth_and_made(rows, answers, question), small=True)


def role_play(rows: Sequence[Row], answers: Sequence[Answer]) -> Iterator[Figure]:
    """STAR: what the chatters said after: was every task done (user), did the user become annoyed (wizard)."""
    finished, annoyed = [], []
    for row, answer in zip(rows, answers, strict=True):
        tasks = [yes for question, yes in row["labels"]["user_questionnaire"].items() if of_task(question)]
        moods = [yes for question, yes in row["labels"]["wizard_questionnaire"].items() if "annoyed" in question]
        if tasks and _asked(answers, "resolution"):
            finished.append((all(tasks), done(answer)))
        if moods and _asked(answers, "closing"):
            annoyed.append((moods[0], -mood(answer)))
    for name, goal, pairs in (("STAR task done AUC", 0.94, finished), ("STAR user annoyed AUC", 0.80, annoyed)):
        if pairs:
            yield _figure(name, auc, [yes for yes, _ in pairs], [score for _, score in pairs], goal=goal)


def own_calls(rows: Sequence[Row], answers: Sequence[Answer]) -> Iterator[Figure]:
    """The project's own calls, disputed labels left out. Abstained calls count with their most probable label, and are the first left unanswered."""
    for question, goal in zip(DIMENSIONS, (0.95, 0.85, 0.94), strict=True):
        if _asked(answers, question):
            truth, made = _truth_and_made(rows, answers, question)
            yield _figure(f"own {question} macro-F1", _macro_f1, truth, made.argmax(axis=1), goal=goal)
            yield _figure(f"own {question} ECE", _ece, truth, made, goal=0.05, small=True)
            abstained = [question in a.abstained for row, a in zip(rows, answers, strict=True) if question not in row.get("disputed", ())]
            yield _figure(f"own {question} accuracy at 80 % answered, gain", _selective_gain, truth, made, abstained, goal=0.05)
    if all(_asked(answers, question) for question in DIMENSIONS):
        clear = [(_worst(row), _expected_worst(a)) for row, a in zip(rows, answers, strict=True) if not row.get("disputed")]
        counts = np.array([count for count, _ in clear])
        bad = counts >= np.sort(counts)[-round(WORST_SHARE * len(counts))]
        yield _figure("own worst 20 %, precision at recall 0.5", _worst_precision, bad, [value for _, value in clear], goal=0.80)


def contrast_pairs(rows: Sequence[Row], answers: Sequence[Answer]) -> Iterator[Figure]:
    """Pairs of calls that differ in what flips one label: the share with both versions right, by the question that flips."""
    for question, goal in zip(DIMENSIONS, (0.75, 0.60, 0.75), strict=True):
        if _asked(answers, question):
            right: dict[str, bool] = {}
            for row, answer in zip(rows, answers, strict=True):
                if row["flips"] == question:
                    right[row["pair"]] = right.get(row["pair"], True) and best(answer, question) == row["labels"][question]
            if right:
                yield _figure(f"pairs {question}, both right", np.mean, list(right.values()), goal=goal)


def politeness(rows: Sequence[Row], answers: Sequence[Answer]) -> Iterator[Figure]:
    """Stanford politeness: top against bottom quarter of the raters' score within a community; polite is what scores above the median of both."""
    if not _asked(answers, "courtesy"):
        return
    told: list[tuple[bool, float]] = []
    for community in sorted({row["source"] for row in rows}):
        here = [(row["labels"]["normalized_score"], manner(a)) for row, a in zip(rows, answers, strict=True) if row["source"] == community]
        low, high = np.quantile([score for score, _ in here], (0.25, 0.75))
        told += [(score >= high, value) for score, value in here if score <= low or score >= high]
    truth, values = [polite for polite, _ in told], [value for _, value in told]
    above = np.array(values) > np.median(values)
    yield _figure("politeness accuracy", np.mean, above == np.array(truth), goal=0.86)
    yield _figure("politeness AUC", auc, truth, values)


def emotions(rows: Sequence[Row], answers: Sequence[Answer]) -> Iterator[Figure]:
    """GoEmotions: comments with positive emotions alone against those with negative alone."""
    if not _asked(answers, "closing"):
        return
    told = []
    for row, answer in zip(rows, answers, strict=True):
        named = set(row["labels"]["emotions"])
        good, bad = bool(named & POSITIVE), bool(named & NEGATIVE)
        if good != bad:
            told.append((good, mood(answer)))
    yield _figure("emotions AUC", auc, [good for good, _ in told], [value for _, value in told], goal=0.95)


PUBLIC: Final = ("STC3.valid", "BT_dev", "STAR.valid", "StanfordPoliteness.valid", "GoEmotions.valid")
#: Who the writers of single sentences are taken for.
SPOKEN_BY: Final = {"StanfordPoliteness.valid": "agent", "GoEmotions.valid": "customer"}
MEASURES: Final[Mapping[str, Callable[[Sequence[Row], Sequence[Answer]], Iterator[Figure]]]] = {
    **dict(zip(PUBLIC, (helpdesk, operator, role_play, politeness, emotions), strict=True)),
    "own": own_calls,
    "pairs": contrast_pairs,
}


def _asked(answers: Sequence[Answer], question: str) -> bool:
    return question in answers[0].probabilities


def of_task(question: str) -> bool:
    """Whether a question to STAR's users asks if their task was done."""
    return question.startswith(("Did the ", "...")) and "calm and helpful" not in question


def _truth_and_made(rows: Sequence[Row], answers: Sequence[Answer], question: str) -> tuple[Columns, Columns]:
    """Raters' label numbers, and probabilities with a column per label, of the calls whose label is not disputed."""
    labels = LABELS[question]
    kept = [(row, a) for row, a in zip(rows, answers, strict=True) if question not in row.get("disputed", ())]
    truth = np.array([labels.index(row["labels"][question]) for row, _ in kept])
    return truth, np.array([[a.probabilities[question][label] for label in labels] for _, a in kept])


def _macro_f1(truth: Columns, made: Columns) -> float:
    size = int(max(truth.max(), made.max())) + 1
    return macro_f1(confusion(truth, made, size))


def _ece(truth: Columns, made: Columns) -> float:
    return expected_calibration_error(made, truth)


def _ece_of_yes(truth: Columns, p: Columns) -> float:
    return expected_calibration_error(np.stack([1 - p, p], axis=1), truth.astype(np.int64))


def _selective_gain(truth: Columns, made: Columns, abstained: Columns) -> float:
    """Accuracy over the surest 80 % of calls less that over all; an abstention is less sure than any answer."""
    right = (made.argmax(axis=1) == truth).astype(np.float64)
    return mean_of_top(right, made.max(axis=1) - abstained, max(1, round(ANSWERED_SHARE * len(right)))) - float(right.mean())


def _worst(row: Row) -> int:
    """How many of a call's labels are the worst of their question."""
    return sum(row["labels"][question] == LABELS[question][0] for question in DIMENSIONS)


def _expected_worst(answer: Answer) -> float:
    return sum(answer.probabilities[question][LABELS[question][0]] for question in DIMENSIONS)


def _worst_precision(bad: Columns, expected: Columns) -> float:
    """Going down from the call of which the worst is expected: the share of bad calls among those heard by when half of all bad ones are."""
    return precision_at_recall(bad, expected, 0.5)


def _figure(name: str, statistic: Callable[..., Any], *columns: Sequence[Any] | Columns, goal: float | None = None, small: bool = False) -> Figure:
    """The statistic of the columns, one place a conversation, and its interval from resampling conversations; NaN where it is not defined."""
    arrays = [np.asarray(column) for column in columns]
    n = len(arrays[0])
    found = bootstrap(
        lambda rows: {name: float(statistic(*(array[rows] for array in arrays)))}, [str(number) for number in range(n)], resamples=RESAMPLES
    )
    value, low, high = (one.value, one.low, one.high) if (one := found.get(name)) else (None, None, None)
    bounds = [float("nan") if bound is None else bound for bound in (value, low, high)]
    return Figure(name=name, value=bounds[0], low=bounds[1], high=bounds[2], n=n, goal=goal, small=small)
