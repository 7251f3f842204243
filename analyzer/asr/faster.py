"""Whisper through faster-whisper (CTranslate2)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from analyzer.asr.guards import invented
from analyzer.audio import Segment, Utterance
from analyzer.errors import EngineError
from analyzer.records import Word


class FasterWhisper:
    """A CTranslate2 Whisper; int8 on a processor, float16 on CUDA."""

    notice: str | None = None

    def __init__(self, folder: Path, *, name: str, device: str) -> None:
        """Loads the model in `folder`; `name` is the known name or path it was asked for by. Raises EngineError."""
        import ctranslate2
        from faster_whisper import WhisperModel

        cuda = ctranslate2.get_cuda_device_count() > 0
        if device == "cuda" and not cuda:
            raise EngineError("CTranslate2 sees no CUDA device", where="device", do="Use device cpu or auto.")
        on_cuda = device != "cpu" and cuda
        try:
            self._model = WhisperModel(
                str(folder), device="cuda" if on_cuda else "cpu", compute_type="float16" if on_cuda else "int8", local_files_only=True
            )
        except Exception as error:  # CTranslate2 raises RuntimeError, ValueError and tokenizers' own
            raise EngineError(f"cannot be loaded: {error}", where=str(folder), do="Fetch or convert the model again.") from error
        self.stamp = f"faster-whisper:{name}" if name != str(folder) else f"faster-whisper:{folder.name}@sha256:{_digest(folder / 'model.bin')}"

    def transcribe(self, segments: Iterable[Segment], *, language: str) -> Iterator[Utterance]:
        """See `Transcriber`. An utterance's confidence is the mean probability of its tokens (exp of the mean log)."""
        self._check(language)
        for segment in segments:
            parts, _ = self._model.transcribe(
                segment.samples, language=language, beam_size=5, word_timestamps=True, condition_on_previous_text=False, vad_filter=False
            )
            for part in parts:
                text = part.text.strip()
                if not text or invented(part.no_speech_prob, part.avg_logprob, part.compression_ratio):
                    continue
                words = tuple(
                    Word(text=said, start_s=segment.start_s + w.start, end_s=segment.start_s + w.end, confidence=float(w.probability))
                    for w in part.words or ()
                    if (said := w.word.strip())  # now and then a word is a space alone
                )
                start_s = words[0].start_s if words else segment.start_s + part.start
                end_s = words[-1].end_s if words else min(segment.end_s, segment.start_s + part.end)
                confidence = min(1.0, math.exp(part.avg_logprob))
                yield Utterance(channel=segment.channel, text=text, start_s=start_s, end_s=end_s, words=words, confidence=confidence)

    def _check(self, language: str) -> None:
        if not self._model.model.is_multilingual:
            if language != "en":
                raise EngineError(f"knows English only, not {language!r}", where=self.stamp, do="Take the model without `.en`.")
        elif language not in self._model.supported_languages:
            raise EngineError(f"there is no language {language!r}", where=self.stamp, do="Give a code Whisper knows, e.g. en, es, de.")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
