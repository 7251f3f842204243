"""Printing of an evaluation: tables for people, JSON, JSON Lines and CSV for machines."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analyzer.cli import show
from analyzer.cli.show import Format
from analyzer.config import PrevalenceSettings, Settings
from analyzer.errors import ConfigError
from analyzer.records import dumps, plain

if TYPE_CHECKING:
    from analyzer.agreement import Interval
    from analyzer.evaluation import Agreement, GroupAgreement, LabelShare, Retrieval
    from analyzer.fairness import Shift

_MOST_CALLS: Final = 10
#: A share of fewer rated calls is not offered for the settings.
_FEWEST_FOR_SETTINGS: Final = 30
_CONDITION: Final = """\
# Holds only if the rated calls were drawn at random from the calls that will be scored:
# calls picked because a score was suspicious make it wrong."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All that one run of `evaluate` found; `groups` and `fairness` are `None` where they were not asked for."""

    agreement: Mapping[str, Agreement]
    shares: Sequence[LabelShare]
    retrieval: Sequence[Retrieval]
    groups: Sequence[GroupAgreement] | None = None
    fairness: Sequence[Shift] | None = None

    @property
    def parts(self) -> dict[str, Sequence[Any]]:
        """The records by the name of their part."""
        own = {
            "agreement": tuple(self.agreement.values()),
            "prevalence": self.shares,
            "retrieval": self.retrieval,
            "group": self.groups,
            "fairness": self.fairness,
        }
        return {name: records for name, records in own.items() if records is not None}


def print_evaluation(found: Evaluation, form: Format | None, output: Path | None) -> None:
    """In the format asked for; unasked, tables on a terminal and JSON elsewhere."""
    chosen = form or (Format.table if sys.stdout.isatty() and output is None else Format.json)
    if chosen is Format.table:
        show.emit("\n".join(_tables(found)), output)
    elif chosen is Format.json:
        whole: dict[str, Any] = {name: _plain(one) for name, one in found.agreement.items()}
        whole |= {name: [_plain(one) for one in records] for name, records in found.parts.items() if name != "agreement"}
        show.emit(dumps(whole, indent=2), output)
    elif chosen is Format.jsonl:
        show.emit(show.objects(({"part": part, **_plain(one)} for part, records in found.parts.items() for one in records), chosen), output)
    else:
        show.emit(show.rows_csv(_rows(found)), output)


def agreement_table(agreement: Mapping[str, Agreement]) -> str:
    """Figures down, dimensions across."""
    rows: list[list[object]] = [
        ["calls", *(one.n for one in agreement.values())],
        ["abstained", *(f"{one.abstained_share:.2f}" for one in agreement.values())],
    ]
    for part, prefix in (("figures", ""), ("selective", ""), ("raters", "raters: ")):
        for name in dict.fromkeys(name for one in agreement.values() for name in getattr(one, part)):
            rows.append([prefix + name, *(_cell(getattr(one, part).get(name)) for one in agreement.values())])
    return show.table("Agreement with raters (95 % interval)", ("figure", *agreement), rows)


def _tables(found: Evaluation) -> Iterator[str]:
    yield agreement_table(found.agreement)
    names = ("precision", "recall", "f1", "auc")
    rows = [
        [one.dimension, label, one.support[label], *(_cell(held.get(name)) for name in names)]
        for one in found.agreement.values()
        for label, held in one.by_label.items()
    ]
    yield show.table("Labels", ("dimension", "label", "calls", *names), rows)
    for one in found.agreement.values():
        counts = [[label, *row.values()] for label, row in one.confusion.items()]
        yield show.table(f"Confusion of {one.dimension}: raters down, scores across", ("", *one.confusion), counts)
    wrong = [
        [one.dimension, label, other, len(ids), ", ".join(ids[:_MOST_CALLS]) + (" …" if len(ids) > _MOST_CALLS else "")]
        for one in found.agreement.values()
        for label, row in one.wrong_calls.items()
        for other, ids in row.items()
    ]
    if wrong:
        yield show.table("Where they differ", ("dimension", "raters say", "score says", "calls", "which"), wrong)
    if found.shares:
        yield _shares_table(found.shares)
        yield prevalence_block(found.shares)
    if found.retrieval:
        yield _retrieval_table(found.retrieval)
    if found.groups is not None:
        yield _group_table(found.groups)
    if found.fairness is not None:
        yield _fairness_table(found.fairness)


def _shares_table(shares: Sequence[LabelShare]) -> str:
    rows = [[one.label, one.count, one.n, _cell(one.share, ".3f"), one.disputed] for one in shares]
    return show.table(
        "How common labels are among the rated calls (95 % interval)", ("label", "calls", "of rated calls", "share", "disputed, left out"), rows
    )


def prevalence_block(shares: Sequence[LabelShare]) -> str:
    """The shares as a `[prevalence]` section for the settings, with the condition under which it holds; what cannot stand there, with its reason."""
    lines, reasons = [], []
    for one in shares:
        value, remark = one.share.value, f"{one.count} of {one.n} rated calls, {_cell(one.share, '.3f')}"
        if one.count == 0 and one.share.high is not None:
            # The Wilson interval's middle, since the settings read 0 as "as in training".
            value, remark = one.share.high / 2, remark + "; the interval's middle, for 0 means: as in training"
        if one.disputed:
            remark += f"; {one.disputed} disputed left out"
        entry = f"{one.label} = {value:.3g}"
        if one.n < _FEWEST_FOR_SETTINGS:
            reasons.append(f"# {one.label}: {one.n} rated calls are too few, {_FEWEST_FOR_SETTINGS} are needed")
        elif refusal := _refusal(one.label, value):
            reasons.append(f"# {entry} is refused: {refusal}")
        else:
            lines.append(f"{entry}  # {remark}")
    if not lines:
        return "\n".join(["No [prevalence] for the settings:", *reasons, ""])
    return "\n".join(["For the settings (--config):", "", "[prevalence]", _CONDITION, *lines, *reasons, ""])


def _refusal(label: str, value: float) -> str | None:
    try:
        Settings(prevalence=dataclasses.replace(PrevalenceSettings(), **{label: value}))
    except ConfigError as error:
        return error.do
    return None


def _retrieval_table(retrieval: Sequence[Retrieval]) -> str:
    heads = [f"{one.bad} of {one.n} calls with {one.at_least} or more of the worst labels" for one in retrieval]
    figures = list(dict.fromkeys(name for one in retrieval for name in one.figures))
    rows: list[list[object]] = [["calls heard", *(one.listened for one in retrieval)]]
    rows += [[name, *(_cell(one.figures.get(name)) for one in retrieval)] for name in figures]
    return show.table("Listening to the worst fifth by score", ("figure", *heads), rows)


def _group_table(groups: Sequence[GroupAgreement]) -> str:
    names = ("error_rate", "macro_f1", "error_gap")
    rows = [[one.dimension, one.group, one.n, *(_cell(one.figures.get(name)) if one.figures else "too few" for name in names)] for one in groups]
    return show.table(f"By {groups[0].column}", ("dimension", "group", "calls", *names), rows)


def _fairness_table(fairness: Sequence[Shift]) -> str:
    rows = [
        [
            f"{one.kind}: {one.version}",
            one.against,
            one.dimension,
            one.n,
            *(_cell(one.figures.get(name), form) for name, form in (("flipped", ".2f"), ("change", "+.3f"))),
        ]
        for one in fairness
    ]
    return show.table("The same calls worded otherwise", ("wording", "against", "dimension", "calls", "flipped", "change of the worst label"), rows)


def _cell(value: Interval | None, form: str = ".2f") -> str:
    if value is None:
        return ""
    limits = "" if value.low is None or value.high is None else f" ({value.low:{form}} to {value.high:{form}})"
    return f"{value.value:{form}}{limits}"


def _rows(found: Evaluation) -> Iterator[dict[str, Any]]:
    """Flat rows, one a figure."""

    def rows(part: str, dimension: str, subject: str, n: int, figures: Mapping[str, Interval]) -> Iterator[dict[str, Any]]:
        head = {"part": part, "dimension": dimension, "subject": subject, "calls": n}
        for name, value in figures.items():
            yield {**head, "figure": name, **_plain(value)}
        if not figures:  # counted, not judged
            yield {**head, "figure": None, "value": None, "low": None, "high": None}

    for one in found.agreement.values():
        yield from rows("agreement", one.dimension, "", one.n, {**one.figures, **one.selective})
        whole = {"part": "agreement", "dimension": one.dimension, "subject": "", "calls": one.n}
        yield {**whole, "figure": "abstained_share", "value": plain(one.abstained_share)}
        for label, held in one.by_label.items():
            yield from rows("label", one.dimension, label, one.support[label], held)
        if one.rated_twice:
            yield from rows("raters", one.dimension, "", one.rated_twice, one.raters)
        for label, counts in one.confusion.items():
            head = {"part": "confusion", "dimension": one.dimension, "subject": label, "calls": one.support[label]}
            for other, count in counts.items():
                which = ", ".join(one.wrong_calls[label].get(other, ())) or None
                yield {**head, "figure": other, "value": count, "which": which}
    for share in found.shares:
        yield from rows("prevalence", share.dimension, share.label, share.n, {"share": share.share})
    for worst in found.retrieval:
        yield from rows("retrieval", "", f"at least {worst.at_least}", worst.n, worst.figures)
    for group in found.groups or ():
        yield from rows("group", group.dimension, group.group, group.n, group.figures)
    for shift in found.fairness or ():
        yield from rows("fairness", shift.dimension, f"{shift.kind}: {shift.version}", shift.n, shift.figures)


def _plain(record: Any) -> dict[str, Any]:
    """A record as JSON with at most 4 decimals."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: rounded(inner) for name, inner in value.items()}
        return plain(value)

    out: dict[str, Any] = rounded(dataclasses.asdict(record))
    return out
