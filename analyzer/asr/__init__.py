"""Sound to words: which speech engine runs here, chosen once per run, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from analyzer.asr import on_disk
from analyzer.audio import Segment, Utterance
from analyzer.errors import EngineError

SPECS: Final = ("auto", "whisper", "whisper:NAME_OR_FOLDER", "openai-whisper:NAME_OR_FILE", "pocketsphinx")
FETCH: Final = "analyzer models fetch whisper:small.en"


class Transcriber(Protocol):
    """A speech engine with its model loaded.

    `stamp` names engine and model and goes onto every score; `notice`, where there is one, is said once per run.
    """

    @property
    def stamp(self) -> str:
        """Engine and model, e.g. `faster-whisper:small.en`."""

    @property
    def notice(self) -> str | None:
        """What every user of this engine must be told."""

    def transcribe(self, segments: Iterable[Segment], *, language: str) -> Iterator[Utterance]:
        """The utterances of one recording, in the order of its segments, each on the channel of its segment.

        Raises:
            EngineError: the engine does not know the language.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The engine of a run, and in one sentence which it is and why."""

    transcriber: Transcriber
    why: str


def _faster(name: str, device: str) -> Transcriber:
    from analyzer.asr.faster import FasterWhisper

    return FasterWhisper(on_disk.faster_folder(name) or fetch(f"whisper:{name}"), name=name, device=device)


def _openai(name: str, device: str) -> Transcriber:
    from analyzer.asr.openai import OpenAIWhisper

    return OpenAIWhisper(name, device=device)


def _sphinx(name: str, device: str) -> Transcriber:
    from analyzer.asr.sphinx import PocketSphinx

    return PocketSphinx()


#: Engine name to its loader (name or path of the model, device); nothing is imported before it is asked for.
_LOADERS: Final[dict[str, Callable[[str, str], Transcriber]]] = {"whisper": _faster, "openai-whisper": _openai, "pocketsphinx": _sphinx}


def resolve(spec: str, *, device: str = "auto", language: str = "en") -> Resolved:
    """Loads the engine that `spec` (one of `SPECS`) means; `device` is `auto`, `cpu` or `cuda`.

    `auto` takes the best Whisper on this disk that knows `language`, else pocketsphinx; it never downloads. A Whisper asked for by name is
    fetched where it is not on disk.

    Raises:
        EngineError: an unknown spec, a package or model that is missing and cannot be fetched, a device that is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise EngineError(f"there is no device {device!r}", where="device", do="Choose auto, cpu or cuda.")
    engine, _, name = spec.partition(":")
    if spec in ("auto", "whisper"):
        found = on_disk.best_whisper(language)
        if found is not None:
            engine, name = found
            transcriber = _LOADERS[engine](name, device)
            return Resolved(transcriber=transcriber, why=f"{transcriber.stamp}, the best Whisper on this disk for language {language!r}")
        if spec == "whisper":
            raise EngineError(f"no Whisper for language {language!r} is on this disk", where="--asr whisper", do=f"Fetch one: `{FETCH}`.")
        transcriber = _LOADERS["pocketsphinx"]("", device)
        return Resolved(transcriber=transcriber, why=f"{transcriber.stamp}, because no Whisper is on this disk (`{FETCH}` fetches one)")
    if engine not in _LOADERS or bool(name) == (engine == "pocketsphinx"):
        raise EngineError(f"there is no speech engine {spec!r}", where="--asr", do=f"Choose one of: {', '.join(SPECS)}.")
    transcriber = _LOADERS[engine](name, device)
    return Resolved(transcriber=transcriber, why=f"{transcriber.stamp}, as asked for")


def fetch(spec: str) -> Path:
    """Downloads (or finds in the cache) the Whisper that `whisper:NAME` or `openai-whisper:NAME` means; a progress bar on a terminal.

    Returns:
        the folder or file it lies in.

    Raises:
        EngineError: an unknown name, or the download failed.
    """
    engine, _, name = spec.partition(":")
    if engine == "whisper" and name:
        return on_disk.fetch_faster(name)
    if engine == "openai-whisper" and name:
        return on_disk.fetch_openai(name)
    raise EngineError(f"{spec!r} cannot be fetched", where=spec, do="Name a Whisper, e.g. whisper:small.en or openai-whisper:small.en.")
