"""How well the codebook's flags, promises and offers are heard: precision and recall against labelled calls, by turn and by call."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from statsmodels.stats.proportion import proportion_confint

from analyzer.cues import Cue, find_cues, offers, promises
from analyzer.records import Turn

Row: TypeAlias = Mapping[str, Any]

#: The keys of labelled calls, and the cue kind that answers each; promises and offers are made of cues and have functions of their own.
FLAGS: Final = {
    "promises": "promise", "offers": "offer", "no_nos": "no_no", "complaint": "complaint", "churn_signal": "churn_signal",
    "value_signal": "value_signal", "repeat_contact": "repeat_contact", "vulnerability": "vulnerability", "opt_out": "opt_out",
    "disclosure": "disclosure", "id_check": "id_check",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`hits` of `n`, with its Wilson 95 % interval; no value where n is 0."""

    hits: int
    n: int

    def __str__(self) -> str:
        if not self.n:
            return "        -        "
        low, high = proportion_confint(self.hits, self.n, method="wilson")
        return f"{self.hits / self.n:.2f} [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the raters marked in one call (`said`) and what was found in it (`found`): answers by turn, the answer empty but for offers."""

    said: Mapping[int, str]
    found: Mapping[int, str]


def turns_of(row: Row) -> tuple[Turn, ...]:
    """The turns of a labelled call; recorded announcements (`other`) are the company's, so they are read as the agent's."""
    names = {"other": "agent"}
    return tuple(Turn(speaker=names.get(turn["speaker"], turn["speaker"]), text=turn["text"]) for turn in row["turns"])


def marked(row: Row, flag: str) -> dict[int, str]:
    """The turns that a call's raters marked, each with the offer's answer."""
    if flag in ("promises", "offers"):
        return {item["turn"]: item.get("answer", "") for item in row.get(flag, ())}
    return dict.fromkeys(row.get(flag, ()), "")


def found(turns: Sequence[Turn], cues: Sequence[Cue], flag: str) -> dict[int, str]:
    """The turns in which the flag is heard, each with the offer's answer."""
    if flag == "promises":
        return {promise.turn: "" for promise in promises(turns, cues)}
    if flag == "offers":
        return {offer.turn: offer.answer for offer in offers(turns, cues)}
    return {cue.turn: "" for cue in cues if cue.kind == FLAGS[flag]}


def heard(rows: Sequence[Row]) -> dict[str, list[Heard]]:
    """Each flag's calls: those of the batches whose raters marked it at all; elsewhere its absence says nothing."""
    marks = {(row.get("batch"), flag) for row in rows for flag in FLAGS if flag in row}
    out: dict[str, list[Heard]] = {flag: [] for flag in FLAGS}
    for row in rows:
        turns = turns_of(row)
        cues = find_cues(turns)
        for flag, calls in out.items():
            if (row.get("batch"), flag) in marks:
                calls.append(Heard(said=marked(row, flag), found=found(turns, cues, flag)))
    return out


def table(calls: Mapping[str, Sequence[Heard]]) -> Iterator[str]:
    """One line a flag: precision and recall by turn, then by call; the answer's agreement where an offer was heard."""
    yield f"{'flag':15}{'calls':>6}{'said':>6}{'found':>6}  {'turn precision':19}{'turn recall':19}{'call precision':19}{'call recall':19}"
    for flag, each in calls.items():
        said, found_ = sum(len(c.said) for c in each), sum(len(c.found) for c in each)
        both = sum(len(c.said.keys() & c.found.keys()) for c in each)
        calls_both = sum(bool(c.said) and bool(c.found) for c in each)
        shares = (
            Share(hits=both, n=found_),
            Share(hits=both, n=said),
            Share(hits=calls_both, n=sum(bool(c.found) for c in each)),
            Share(hits=calls_both, n=sum(bool(c.said) for c in each)),
        )
        yield f"{flag:15}{len(each):6}{said:6}{found_:6}  " + "".join(f"{share!s:19}" for share in shares)
    matched = [(c.said[turn], c.found[turn]) for c in calls["offers"] for turn in c.said.keys() & c.found.keys()]
    yield f"answers of the offers heard: {Share(hits=sum(a == b for a, b in matched), n=len(matched))} of {len(matched)}"


def milliseconds_per_call(rows: Sequence[Row], rounds: int = 3) -> float:
    """The fastest of some rounds over all calls, the rules already read."""
    calls = [turns_of(row) for row in rows]
    find_cues(calls[0])
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for call in calls:
            find_cues(call)
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds) / len(calls)


def main() -> None:
    """Print the figures of the labelled calls named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labels", nargs="+", type=Path, help="JSON Lines of labelled calls; a flag counts where its batch marks it at all")
    rows = [json.loads(line) for path in parser.parse_args().labels for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    print("\n".join(table(heard(rows))))
    print(f"{milliseconds_per_call(rows):.2f} ms a call")


if __name__ == "__main__":
    main()
