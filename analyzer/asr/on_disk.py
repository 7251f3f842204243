"""Whisper models on this disk and how they get there."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, Final

from analyzer.errors import EngineError
from analyzer.hub import fetch

#: What CTranslate2 and faster-whisper need; without `tokenizer.json` faster-whisper would go to the network for one.
_FOLDER_FILES: Final = ("model.bin", "config.json", "tokenizer.json")
_SIZES: Final = ("tiny", "base", "small", "medium", "large")


def whispers() -> list[tuple[str, str, Path]]:
    """(engine, name, folder or file) of every Whisper on this disk."""
    return [*_cached_faster(), *_cached_openai()]


def best_whisper(language: str) -> tuple[str, str] | None:
    """Engine and model name or path of the best Whisper on this disk that knows `language`: the larger, then the one made for it."""
    able = [entry for entry in whispers() if language == "en" or not entry[1].endswith(".en")]
    if not able:
        return None
    engine, name, target = max(able, key=lambda e: (_size(e[1]), e[0] == "whisper", e[1].endswith(".en"), e[1]))
    return engine, (name if engine == "openai-whisper" or name in _faster_names() else str(target))


def faster_folder(name: str) -> Path | None:
    """The folder of a faster-whisper model given by path or by a name that is in the cache; `None` if a known name is not there yet.

    Raises:
        EngineError: neither a known name nor a complete CTranslate2 folder.
    """
    if name in _faster_names():
        return next((path for _, cached, path in _cached_faster() if cached == name), None)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        do = f"Known names: {', '.join(_faster_names())}. Or give the folder of a CTranslate2 Whisper."
        raise EngineError("is neither a known Whisper nor a folder", where=f"whisper:{name}", do=do)
    missing = [file for file in _FOLDER_FILES if not (folder / file).is_file()]
    if missing:
        do = "Give a folder made by ct2-transformers-converter with --copy_files tokenizer.json preprocessor_config.json."
        raise EngineError(f"is no complete CTranslate2 Whisper: {', '.join(missing)} missing", where=str(folder), do=do)
    return folder


def fetch_faster(name: str) -> Path:
    """Downloads a faster-whisper model into the Hugging Face cache; raises EngineError."""
    where = f"whisper:{name}"
    if name not in _faster_names():
        raise EngineError("is not a Whisper that can be fetched", where=where, do=f"Known names: {', '.join(_faster_names())}.")
    from faster_whisper.utils import _MODELS

    try:
        return fetch(_MODELS[name], ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*"))
    except OSError as error:
        raise _cannot_fetch(where, error) from error


def fetch_openai(name: str) -> Path:
    """Downloads an openai-whisper checkpoint into its cache; raises EngineError."""
    where = f"openai-whisper:{name}"
    whisper = openai_package()
    if name not in whisper.available_models():
        raise EngineError("is not a Whisper that can be fetched", where=where, do=f"Known names: {', '.join(whisper.available_models())}.")
    try:
        return Path(whisper._download(whisper._MODELS[name], str(_openai_cache()), False))
    except Exception as error:  # urllib's, OS and checksum errors
        raise _cannot_fetch(where, error) from error


def openai_package() -> Any:
    """The `whisper` module; raises EngineError where it is not installed."""
    try:
        import whisper
    except ImportError as error:
        raise EngineError("openai-whisper is not installed", where="openai-whisper", do="Install it: `pip install 'analyzer[whisper]'`.") from error
    return whisper


def _cannot_fetch(where: str, error: Exception) -> EngineError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    do = "Fetch it on a connected machine and give its path, or use `--asr pocketsphinx`."
    return EngineError(f"cannot be fetched: {reason}", where=where, do=do)


def _faster_names() -> list[str]:
    try:
        from faster_whisper import available_models
    except ImportError as error:
        raise EngineError("faster-whisper is not installed", where="whisper", do="Install it: `pip install faster-whisper`.") from error
    return list(available_models())


def _cached_faster() -> list[tuple[str, str, Path]]:
    """(engine, name, folder) of every complete CTranslate2 Whisper in the Hugging Face cache; its own name where it is a known one."""
    from faster_whisper.utils import _MODELS
    from huggingface_hub.constants import HF_HUB_CACHE

    names = {repo: name for name, repo in reversed(_MODELS.items())}
    out = []
    for weights in sorted(Path(HF_HUB_CACHE).glob("models--*/snapshots/*/model.bin"), key=lambda p: p.stat().st_mtime):
        folder = weights.parent
        repo = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
        if "whisper" in repo.lower() and all((folder / file).is_file() for file in _FOLDER_FILES):
            out.append(("whisper", names.get(repo, repo), folder))
    return out


def _cached_openai() -> list[tuple[str, str, Path]]:
    """(engine, name, file) of the openai-whisper checkpoints in its cache, where the package is installed."""
    if importlib.util.find_spec("whisper") is None:
        return []
    return [("openai-whisper", path.stem, path) for path in sorted(_openai_cache().glob("*.pt"))]


def _openai_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisper"


def _size(name: str) -> int:
    """The rank of a Whisper's size; `turbo` is a large one, an unknown name ranks lowest."""
    return max((rank for rank, size in enumerate((*_SIZES, "turbo")) if size in name), default=-1)
