"""The verbs about people's ratings: train, evaluate, scorecard."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
