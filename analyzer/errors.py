"""The one exception tree: every error says what is wrong, where, and what to do."""

from __future__ import annotations


class AnalyzerError(Exception):
    """Base of everything this package raises on purpose.

    Args:
        what: what is wrong, in one clause.
        where: the file, field, line or option it was found at.
        do: what the user can do about it.
    """

    #: Short machine-readable reason, stored with a failed call.
    reason = "error"

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        self.what, self.where, self.do = what, where, do
        super().__init__(what, where, do)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive pickling between processes by themselves.
        return (_rebuild, (type(self), self.what, self.where, self.do))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}. {self.do}" if self.do else head


def _rebuild(kind: type[AnalyzerError], what: str, where: str, do: str) -> AnalyzerError:
    return kind(what, where=where, do=do)


class UsageError(AnalyzerError):
    """An option or argument that makes no sense (exit status 2)."""

    reason = "usage"


class ConfigError(UsageError):
    """A settings file that cannot be used: unknown key, wrong type, impossible value."""

    reason = "config"


class InputError(AnalyzerError):
    """Something the user gave cannot be read."""

    reason = "input"


class AudioError(InputError):
    """A recording that cannot be decoded or holds no sound."""

    reason = "audio"


class TranscriptError(InputError):
    """A transcript that does not keep to its format."""

    reason = "transcript"


class TableError(InputError):
    """A calls table, outcomes table, labels file or scorecard with a wrong row or column."""

    reason = "table"


class EngineError(AnalyzerError):
    """A speech engine that cannot run here: what to install or fetch is said."""

    reason = "engine"


class ModelError(AnalyzerError):
    """A model directory that is incomplete, altered or of another version."""

    reason = "model"


class StoreError(AnalyzerError):
    """A store that cannot be opened, read or written."""

    reason = "store"
