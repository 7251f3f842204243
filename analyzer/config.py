"""Settings: one TOML file is the whole truth of a run; an unknown key is an error; the digest stamps results."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from analyzer.errors import ConfigError

REDACTION_LEVELS: Final = ("none", "payment", "standard", "strict")


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSettings:
    """Limits of the child process that decodes foreign files, and of what a recording may be."""

    max_duration_s: float = 6 * 3600.0
    max_memory_mb: int = 2048
    max_cpu_s: float = 1800.0
    vad_padding_s: float = 0.25
    max_segment_s: float = 28.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    """Which speech engine (`auto`, `whisper`, `whisper:NAME`, `openai-whisper:NAME`, `pocketsphinx`, `transcript`) and which language."""

    engine: str = "auto"
    language: str = "en"
    device: str = "auto"
    #: Below this mean word confidence of the words, scores abstain.
    min_confidence: float = 0.5
    #: Below this confidence in which side is the agent, scores abstain.
    min_role_confidence: float = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Which conversation model scores: `default`, a directory, or `hf:ORGANISATION/NAME`."""

    name: str = "default"
    batch_size: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PrevalenceSettings:
    """How common labels are among the calls to be scored, as shares; the rest is neutral. 0 stands for: as among the training calls.

    Training calls hold far more lapses and strong feelings than a centre's do; probabilities are corrected to these shares. The defaults still lie
    above what real calls to a telephone operator held (a lapse in one of 90): set them by a random sample of a centre's own calls that people rated.
    """

    discourteous: float = 0.05
    courteous: float = 0.2
    grumbling: float = 0.16
    singing: float = 0.15
    #: A call is named a suspected lapse when its probability reaches this; between a half and this the score abstains.
    min_lapse_probability: float = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionSettings:
    """How much personal data is replaced before anything is written: `none`, `payment`, `standard` or `strict`."""

    level: str = "standard"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeSettings:
    """How calls are linked to later events. A kind's news decides the words of the sentences, not the estimate."""

    window_days: int = 90
    good_news: tuple[str, ...] = ("reorder", "upsell", "referral", "spend")
    bad_news: tuple[str, ...] = ("churn", "repeat_call")
    #: Kinds that happen once and end a customer's being at risk: calls after such an event do not count for that kind.
    once: tuple[str, ...] = ("churn",)
    adjust: tuple[str, ...] = ()
    #: Fewer events or non-events than this in either arm gives "not enough data" instead of a number.
    min_events: int = 10
    level: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a run."""

    store: str = "sqlite:///analyzer.db"
    audio: AudioSettings = field(default_factory=AudioSettings)
    speech: SpeechSettings = field(default_factory=SpeechSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    prevalence: PrevalenceSettings = field(default_factory=PrevalenceSettings)
    redaction: RedactionSettings = field(default_factory=RedactionSettings)
    outcomes: OutcomeSettings = field(default_factory=OutcomeSettings)

    def __post_init__(self) -> None:
        if self.redaction.level not in REDACTION_LEVELS:
            levels = ", ".join(REDACTION_LEVELS)
            raise ConfigError(f"redaction level {self.redaction.level!r} is unknown", where="redaction.level", do=f"Choose one of {levels}.")
        for name, value, low, high in (
            ("outcomes.window_days", self.outcomes.window_days, 1, 3650),
            ("outcomes.level", self.outcomes.level, 0.5, 0.999),
            ("outcomes.min_events", self.outcomes.min_events, 1, 10**6),
            ("audio.max_duration_s", self.audio.max_duration_s, 1, 86400),
            ("audio.max_segment_s", self.audio.max_segment_s, 1, 30),
            ("speech.min_role_confidence", self.speech.min_role_confidence, 0, 1),
            ("speech.min_confidence", self.speech.min_confidence, 0, 1),
            ("model.batch_size", self.model.batch_size, 1, 4096),
            *((f"prevalence.{name}", getattr(self.prevalence, name), 0, 0.45) for name in ("discourteous", "courteous", "grumbling", "singing")),
            ("prevalence.min_lapse_probability", self.prevalence.min_lapse_probability, 0.5, 1),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}", where=name, do=f"Choose a value from {low} to {high}.")


def digest(*parts: object) -> str:
    """The first 16 hex digits of the SHA-256 of the parts' canonical JSON (dataclasses as objects)."""
    text = json.dumps(parts, sort_keys=True, default=dataclasses.asdict, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_settings(path: Path | None) -> Settings:
    """Settings from a TOML file, or the defaults for `None`.

    Raises:
        ConfigError: the file is missing, is not TOML, has an unknown key, or a value of a wrong type.
    """
    if path is None:
        return Settings()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such settings file", where=str(path), do="Check the path given to --config.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), do="Mend the file; it is TOML in UTF-8.") from None
    return _build(Settings, raw, str(path))


_Section = TypeVar("_Section")


def _build(kind: type[_Section], raw: Mapping[str, Any], where: str) -> _Section:
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            do = f"Did you mean {close[0]!r}?" if close else f"The keys are {', '.join(hints)}."
            raise ConfigError(f"unknown key {key!r}", where=where, do=do)
        values[key] = _value(hints[key], value, f"{where}, {key}")
    return kind(**values)


def _value(wanted: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(wanted):
        if not isinstance(value, dict):
            raise ConfigError("must be a section", where=where, do=f"Write it as [{where.rsplit(' ', 1)[-1]}].")
        return _build(wanted, value, where)  # type: ignore[arg-type]
    if wanted == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError("must be a list of text", where=where, do='Write it like ["reorder", "upsell"].')
        return tuple(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ConfigError(f"must be {wanted.__name__}, found {type(value).__name__}", where=where, do="Mend the value.")
    return value
