"""The embedded engine: pocketsphinx with the English model inside its wheel; works without any network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from analyzer.audio import Segment, Utterance
from analyzer.errors import EngineError
from analyzer.records import Word

_FRAME_S: Final = 0.01
_PRONUNCIATION: Final = re.compile(r"\(\d+\)$")
_FILLERS: Final = frozenset({"<s>", "</s>", "<sil>", "[NOISE]", "[SPEECH]"})


class PocketSphinx:
    """One decoder with the general US English model, reused for every segment."""

    notice: str | None = (
        "pocketsphinx is a demonstration engine: good enough for clean voices, useless on accented telephone speech (nine words in ten wrong). "
        "Scores abstain where its confidence is low; use a Whisper for real calls."
    )

    def __init__(self) -> None:
        """Loads the model. Raises EngineError."""
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise EngineError("pocketsphinx is not installed", where="pocketsphinx", do="Install it: `pip install pocketsphinx`.") from error
        # Fewer words and states a frame, mixtures scored every other frame: a third less time, on 20 spoken sentences 21 % of words wrong
        # instead of 22 % at 16 kHz (too few to tell apart).
        self._decoder: Any = Decoder(samprate=16_000, loglevel="FATAL", maxwpf=10, maxhmmpf=3000, ds=2)
        self.stamp = f"pocketsphinx:{version('pocketsphinx')}:en-us"

    def transcribe(self, segments: Iterable[Segment], *, language: str) -> Iterator[Utterance]:
        """See `Transcriber`; one utterance per segment in which a word was heard.

        A word's confidence is its posterior probability in the lattice; the utterance's is the mean of its words', each weighted by its
        length in time. Both say how sure the decoder is against its own alternatives, and are too high on speech it has no words for.
        """
        if language != "en":
            raise EngineError(f"knows English only, not {language!r}", where=self.stamp, do="Use a Whisper: `analyzer models fetch whisper:small`.")
        for segment in segments:
            # Digital silence has no cepstral mean to subtract: the decoder would make a word of it.
            words = tuple(self._words(segment)) if np.any(segment.samples) else ()
            if words:
                lengths = [word.end_s - word.start_s for word in words]
                confidence = float(np.average([word.confidence or 0.0 for word in words], weights=lengths))
                text = " ".join(word.text for word in words)
                yield Utterance(
                    channel=segment.channel, text=text, start_s=words[0].start_s, end_s=words[-1].end_s, words=words, confidence=confidence
                )

    def _words(self, segment: Segment) -> Iterator[Word]:
        """The words of one segment, fillers left out, pronunciation marks removed."""
        pcm = (np.clip(segment.samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        for part in self._decoder.seg() or ():
            if part.word not in _FILLERS:
                yield Word(
                    text=_PRONUNCIATION.sub("", part.word),
                    start_s=segment.start_s + part.start_frame * _FRAME_S,
                    end_s=segment.start_s + (part.end_frame + 1) * _FRAME_S,
                    confidence=min(1.0, float(part.prob)),
                )
