"""Options that several verbs share, and the settings they make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from analyzer.cli.show import Format
from analyzer.config import Settings, read_settings

Calls = Annotated[list[str], typer.Argument(metavar="CALL", help="Recordings, transcripts, .jsonl files of transcripts, or - for one on stdin.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")]
Asr = Annotated[
    str | None, typer.Option("--asr", help="Speech engine: auto, whisper:NAME or :PATH, openai-whisper:NAME or :PATH, pocketsphinx, transcript.")
]
Model = Annotated[str | None, typer.Option("--model", help="Conversation model: default, a model directory, or hf:ORG/NAME.")]
AgentChannel = Annotated[int | None, typer.Option("--agent-channel", min=0, max=1, help="The agent's channel; else it is told from the words.")]
Form = Annotated[Format | None, typer.Option("--format", help="table on a terminal, json in a pipe, unless named.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write there instead of to stdout.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, max=256, help="Worker processes.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No notes and no progress.")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="Store URL; default sqlite:///analyzer.db.")]


def settings(config: Path | None, *, asr: str | None = None, model: str | None = None, store: str | None = None) -> Settings:
    """The settings file with the command line's options laid over it."""
    base = read_settings(config)
    if asr is not None:
        base = replace(base, speech=replace(base.speech, engine=asr))
    if model is not None:
        base = replace(base, model=replace(base.model, name=model))
    return base if store is None else replace(base, store=store)
