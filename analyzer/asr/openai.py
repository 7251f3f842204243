"""Whisper through openai-whisper (PyTorch)."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from analyzer.asr.guards import invented
from analyzer.asr.on_disk import fetch_openai, openai_package
from analyzer.audio import Segment, Utterance
from analyzer.errors import EngineError
from analyzer.records import Word


class OpenAIWhisper:
    """An openai-whisper model, by name or from a checkpoint file of `dims` and `model_state_dict`."""

    notice: str | None = None

    def __init__(self, name: str, *, device: str) -> None:
        """Loads it, fetching a known name that is not in the cache. Raises EngineError."""
        whisper = openai_package()
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise EngineError("PyTorch sees no CUDA device", where="device", do="Use device cpu or auto.")
        self._cuda = device != "cpu" and torch.cuda.is_available()
        target = "cuda" if self._cuda else "cpu"
        if name in whisper.available_models():
            fetch_openai(name)  # the file's published sha256 is checked here
            self._model = whisper.load_model(name, device=target)
            self.stamp = f"openai-whisper:{name}"
        else:
            path = Path(name).expanduser()
            self._model = _load(path, whisper).to(target)
            self.stamp = f"openai-whisper:{path.stem}@sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"

    def transcribe(self, segments: Iterable[Segment], *, language: str) -> Iterator[Utterance]:
        """See `Transcriber`. An utterance's confidence is the mean probability of its tokens (exp of the mean log)."""
        whisper = openai_package()
        if language != "en" and not self._model.is_multilingual:
            raise EngineError(f"knows English only, not {language!r}", where=self.stamp, do="Take the model without `.en`.")
        if language not in whisper.tokenizer.LANGUAGES:
            raise EngineError(f"there is no language {language!r}", where=self.stamp, do="Give a code Whisper knows, e.g. en, es, de.")
        for segment in segments:
            result: dict[str, Any] = whisper.transcribe(
                self._model, segment.samples, language=language, fp16=self._cuda, word_timestamps=True, condition_on_previous_text=False
            )
            for part in result["segments"]:
                utterance = _utterance(part, segment)
                if utterance.text and not invented(part["no_speech_prob"], part["avg_logprob"], part["compression_ratio"]):
                    yield utterance


def _utterance(part: dict[str, Any], segment: Segment) -> Utterance:
    offset_s = segment.start_s
    words = tuple(
        Word(text=said, start_s=offset_s + float(w["start"]), end_s=offset_s + float(w["end"]), confidence=float(w["probability"]))
        for w in part.get("words", ())
        if (said := w["word"].strip())  # now and then a word is a space alone
    )
    return Utterance(
        channel=segment.channel,
        text=part["text"].strip(),
        start_s=words[0].start_s if words else segment.start_s + float(part["start"]),
        end_s=words[-1].end_s if words else min(segment.end_s, segment.start_s + float(part["end"])),
        words=words,
        confidence=min(1.0, math.exp(part["avg_logprob"])),
    )


def _load(path: Path, whisper: Any) -> Any:
    """A checkpoint from a file, tensors only: one that would run code on loading is refused."""
    import torch

    where = f"openai-whisper:{path}"
    if not path.is_file():
        do = f"Known names: {', '.join(whisper.available_models())}. Or give a .pt file."
        raise EngineError("is neither a known Whisper nor a file", where=where, do=do)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        model = whisper.model.Whisper(whisper.model.ModelDimensions(**checkpoint["dims"]))
        model.load_state_dict(checkpoint["model_state_dict"])
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        do = "Give an openai-whisper .pt: a dict of `dims` and `model_state_dict`, tensors only."
        raise EngineError(f"is not a Whisper checkpoint: {reason}", where=where, do=do) from error
    return model
