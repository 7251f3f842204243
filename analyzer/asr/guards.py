"""What Whisper invents where nobody speaks, and how it is told from speech."""

from __future__ import annotations

from typing import Final

#: Whisper's own decoding thresholds (Radford et al. 2022, section 4.5); after the last temperature it keeps such text, we do not.
NO_SPEECH: Final = 0.6
LOG_PROBABILITY: Final = -1.0
COMPRESSION_RATIO: Final = 2.4


def invented(no_speech_probability: float, mean_log_probability: float, compression_ratio: float) -> bool:
    """Whether a piece of Whisper text is a loop (it compresses too well) or stands where the model itself heard no speech."""
    silent = no_speech_probability > NO_SPEECH and mean_log_probability < LOG_PROBABILITY
    return silent or compression_ratio > COMPRESSION_RATIO
