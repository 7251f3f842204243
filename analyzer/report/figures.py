"""The two drawn figures, as inline SVG that takes its colours from the page: effects as a forest plot, scores over time."""

from __future__ import annotations

import io
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from analyzer.report.shares import Share
from analyzer.report.words import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Drawn in stand-in colours that are then replaced by the page's variables: light, dark and print need one drawing.
_INK, _SOFT, _GRID, _WORSE, _BETTER = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES: Final[Mapping[str, str]] = {
    _INK: "var(--ink)",
    _SOFT: "var(--soft)",
    _GRID: "var(--line)",
    _WORSE: "var(--worse)",
    _BETTER: "var(--better)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An estimate with its interval, in the unit of the axis."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """One effect per 100 calls: the estimate, beside it the naive one and the placebo where they are known."""

    outcome: str
    contrast: str
    adjusted: Span
    naive: Span | None
    placebo: Span | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One question over time: the shares of its worst and best label per period, `None` where a period has too few calls."""

    title: str
    worst: Sequence[Share | None]
    best: Sequence[Share | None]


def forest(rows: Sequence[ForestRow], *, wide: bool, name: str) -> str:
    """The forest plot as an SVG element; `wide` puts the names beside the rows, else above them. `name` makes its ids unique.

    The text alternative is short, since the page holds every number in a table.
    """
    from matplotlib.figure import Figure

    height = 0.75 + len(rows) * (0.62 if wide else 0.86)
    figure = Figure(figsize=(9.6 if wide else 3.7, height))
    left, right = (0.29, 0.80) if wide else (0.04, 0.96)
    axes: Axes = figure.add_axes((left, 0.5 / height, right - left, 1 - 0.55 / height))
    for place, item in enumerate(rows):
        y = -float(place)
        axes.plot([0, 0], [y + (0.4 if wide else 0.14), y - 0.62], color=_INK, linewidth=1, clip_on=False)  # by row: it must not cross names
        for span, drop, size, style in ((item.placebo, 0.46, 5.0, "x"), (item.naive, 0.23, 5.5, "open"), (item.adjusted, 0.0, 7.5, "full")):
            if span is None:
                continue
            colour = _INK if style == "full" else _SOFT
            axes.plot([span.low, span.high], [y - drop] * 2, color=colour, linewidth=2.2 if style == "full" else 1.1, linestyle="-", clip_on=False)
            face = "none" if style == "open" else colour
            marker = {"full": "s", "open": "o", "x": "x"}[style]
            axes.plot([span.estimate], [y - drop], marker=marker, color=colour, markerfacecolor=face, markersize=size, clip_on=False)
        outcome, contrast = (visible(text).replace("\n", " ") for text in (item.outcome, item.contrast))
        if wide:
            _write(axes, -0.02, y, outcome, ha="right", weight="bold")
            _write(axes, -0.02, y - 0.33, contrast, ha="right", color=_SOFT)
            shown = f"{item.adjusted.estimate:+.1f} ({item.adjusted.low:+.1f} to {item.adjusted.high:+.1f})".replace("-", "−")
            _write(axes, 1.02, y, shown)
        else:
            _write(axes, 0.0, y + 0.3, f"{outcome}: {contrast}")
    axes.set_ylim(-len(rows) + 0.4, 0.35 if wide else 0.55)
    _dress(axes, "difference per 100 calls", grid="x" if wide else None)
    axes.set_yticks([])
    return _inline(figure, name, "Forest plot", f"{len(rows)} effects with 95 % intervals; the table below gives every number.")


def trend(periods: Sequence[str], panels: Sequence[Panel], *, wide: bool, name: str) -> str:
    """Shares per period with their intervals, one panel per question, as an SVG element."""
    from matplotlib.figure import Figure

    shape = (1, len(panels)) if wide else (len(panels), 1)
    figure = Figure(figsize=(9.6, 2.9) if wide else (3.7, 2.3 * len(panels)), layout="constrained")
    for axes, panel in zip(figure.subplots(*shape, squeeze=False).ravel(), panels, strict=True):
        for shift, shares, marker, colour in ((-0.08, panel.worst, "v", _WORSE), (0.08, panel.best, "^", _BETTER)):
            known = [(x + shift, item, item.estimate) for x, item in enumerate(shares) if item is not None and item.estimate is not None]
            if known:
                xs = [x for x, _, _ in known]
                axes.plot(xs, [100 * e for _, _, e in known], marker=marker, color=colour, linewidth=1.4, label=known[0][1].label)
                axes.vlines(xs, [100 * item.low for _, item, _ in known], [100 * item.high for _, item, _ in known], color=colour)
        axes.set_title(panel.title, loc="left", fontsize=10, color=_INK)
        axes.set_xlim(-0.4, len(periods) - 0.6)
        axes.set_ylim(bottom=0)
        step = max(1, -(-len(periods) // 5))
        axes.set_xticks(range(0, len(periods), step), [visible(text) for text in periods[::step]])
        _dress(axes, "", grid="y")
        axes.legend(frameon=False, fontsize=8.5, labelcolor=_INK, loc="upper left", borderaxespad=0.1)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * 1.3)
    return _inline(figure, name, "Scores over time", "Share of calls per period in per cent with 95 % intervals; the table below gives every number.")


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text at a fraction of the axes' width and a height in data units; never read as a formula."""
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=10, parse_math=False, **{"color": _INK, **style})


def _dress(axes: Axes, label: str, grid: Literal["x", "y"] | None) -> None:
    axes.set_xlabel(label, color=_SOFT, fontsize=9.5)
    axes.tick_params(colors=_SOFT, labelsize=9, length=0)
    if grid is not None:
        axes.grid(visible=True, axis=grid, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    for side in axes.spines.values():
        side.set_visible(False)


def _inline(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as one SVG element without namespace, style sheet, date or foreign reference, ids led by `name`."""
    import matplotlib as mpl

    out = io.BytesIO()
    figure.patch.set_visible(False)
    with warnings.catch_warnings(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "DejaVu Sans"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the page's own fonts draw the text
        figure.savefig(out, format="svg", metadata={"Date": None})
    root = ET.fromstring(out.getvalue())  # noqa: S314 - our own drawing
    ids: dict[str, str] = {}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if "id" in element.attrib:
            ids[element.attrib["id"]] = element.attrib["id"] = f"{name}-{element.attrib['id']}"
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):
                parent.remove(child)
        parent.attrib.pop("clip-path", None)
        if parent.get("href", "").startswith("#"):
            parent.set("href", f"#{name}-{parent.attrib['href'][1:]}")
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib |= {"viewBox": box, "role": "img", "aria-labelledby": f"{name}-title {name}-desc", "class": "drawing"}
    for tag, text in (("desc", description), ("title", title)):
        element = ET.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(0, element)
    svg = ET.tostring(root, encoding="unicode")
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return svg
