"""On a connected machine: fetch a real small Whisper, transcribe the sample recordings, print word error rates."""

from __future__ import annotations

import csv
import re
import sys
import tomllib
from pathlib import Path

from analyzer.asr import resolve
from analyzer.config import RedactionSettings, Settings, SpeechSettings
from analyzer.errors import AnalyzerError, EngineError
from analyzer.pipeline import Analyzer, Recipe
from analyzer.records import Transcript

SAMPLE = Path(__file__).parents[1] / "recordings_sample"
ENGINES = ("whisper:small.en", "openai-whisper:small.en")


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower().replace("’", "'"))


def errors(said: list[str], heard: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(said, 1):
        above, row[0] = row[0], number
        for place, other in enumerate(heard, 1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (word != other))
    return row[-1]


def main() -> int:
    worst = 0
    for spec in sys.argv[1:] or ENGINES:
        try:
            print(f"{spec}: {resolve(spec).why}")
        except EngineError as error:
            print(f"{spec}: cannot be verified here: {error}")
            worst = 1
            continue
        print_rates(spec)
    return worst


def print_rates(spec: str) -> None:
    # Redaction off: placeholders are no recognition errors. Nothing is stored.
    settings = Settings(speech=SpeechSettings(engine=spec), redaction=RedactionSettings(level="none"))
    analyzer = Analyzer(Recipe(settings=settings))
    total_wrong = total_said = 0
    for call_id, path, script in scripts():
        try:
            transcript: Transcript = analyzer.transcribe(path)
        except AnalyzerError as error:
            print(f"  {call_id:24} {error}")
            continue
        said, heard = words(script), words(" ".join(turn.text for turn in transcript.turns))
        wrong = errors(said, heard)
        total_wrong, total_said = total_wrong + wrong, total_said + len(said)
        print(f"  {call_id:24} {len(said):4} words, word error rate {wrong / max(len(said), 1):.2f}")
    print(f"  {'all':24} {total_said:4} words, word error rate {total_wrong / max(total_said, 1):.2f}")


def scripts() -> list[tuple[str, Path, str]]:
    """(call id, recording, its script) of each spoken sample."""
    raw = tomllib.loads((SAMPLE / "make" / "calls.toml").read_text(encoding="utf-8"))
    with (SAMPLE / "calls.csv").open(encoding="utf-8") as file:
        files = {row["call_id"]: SAMPLE / row["file"] for row in csv.DictReader(file)}
    talks = {call["id"]: " ".join(re.findall(r"[ACV]: (.*)", call["talk"])) for call in raw["call"] if call.get("talk")}
    return [(call_id, files[call_id], talk) for call_id, talk in talks.items() if call_id in files]


if __name__ == "__main__":
    raise SystemExit(main())
