"""Files from the Hugging Face hub, fetched only where the user named them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def cached(repository: str, revision: str | None = None) -> Path | None:
    """The folder of a repository that was fetched before, `None` if it was not; never touches the network."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(repository, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError):
        return None


def fetch(repository: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Downloads `files` (names or patterns) of a repository into the Hugging Face cache, with a progress bar, and gives their folder.

    Raises:
        OSError: it cannot be had; the message is one line.
    """
    import huggingface_hub
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        """A progress bar on a terminal, nothing in a pipe."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)  # the hub's own bar takes it, tqdm does not
            super().__init__(*args, **kwargs | {"disable": not sys.stderr.isatty()})

    try:
        return Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=list(files), tqdm_class=Bar))
    except Exception as error:  # the hub's client raises its own, requests', httpx' and OS errors
        raise OSError((str(error) or type(error).__name__).splitlines()[0]) from error
