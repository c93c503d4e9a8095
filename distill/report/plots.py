"""Plots as SVG that follows the theme of its page, by matplotlib; it is imported when one is drawn.

Text stays text. Colors are drawn as codes and then replaced by CSS variables. The same series give
the same bytes.
"""

from __future__ import annotations

import dataclasses
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distill.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = (  # of methods on light and on dark pages
    ("#0b6e99", "#5bb8e0"),
    ("#b8500a", "#f5a25d"),
    ("#6940a5", "#bda0f5"),
    ("#3d7a1f", "#9fd47f"),
    ("#8a3a5c", "#e596b8"),
    ("#4d6461", "#a3bdb8"),
    ("#7a6200", "#e0c84a"),
    ("#a01c1c", "#ff9c92"),
)
_TEXT, _AXIS, _PAPER = ("#222222", "#e8e8e8"), ("#bbbbbb", "#5a5a5a"), ("#ffffff", "#181a1b")
_MARKERS, _DASHES = "osD^vPX*", ("-", "--", "-.", ":")
_CODES = {"#010203": "--ink", "#010204": "--axis", "#010205": "--paper"}
_CODES |= {f"#0102{0x10 + index:02x}": f"--c{index}" for index in range(len(COLORS))}
_INK, _LINE, _BACK, *_SERIES = _CODES
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAMESPACE, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "distill",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that sizes are the same everywhere
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _LINE,
    "axes.titlecolor": _INK,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.4,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "text.parse_math": False,  # names are shown as they are
}


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a plot.

    Attributes:
      name: in the legend.
      index: of the method; gives color, marker and dashes.
      x, y: of its points.
      low, high: ends of the interval of each point; () without intervals.
    """

    name: str
    index: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class Plot:
    """What is drawn in one pair of axes.

    Attributes:
      title: above it.
      x_label, y_label: of the axes.
      series: the lines.
      levels: names and heights of horizontal lines, such as the teacher's accuracy.
      log: whether x is logarithmic.
      style: "lines", "dots" (points that are not joined), "steps" or "band" (lines without
        markers, intervals as areas).
      diagonal: whether the line y = x is drawn.
      ticks: places of marks on the x axis; () leaves them to matplotlib.
      names: of the ticks; () shows their numbers.
      limits: of y; None leaves them to matplotlib.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    levels: Sequence[tuple[str, float]] = ()
    log: bool = False
    style: str = "lines"
    diagonal: bool = False
    ticks: Sequence[float] = ()
    names: Sequence[str] = ()
    limits: tuple[float, float] | None = None


def check_installed() -> None:
    """Refuses to start without matplotlib.

    Raises:
      UserError: it is not installed; says how to install it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"plots need matplotlib, which cannot be imported ({error}): "
            'pip install "distill-step-by-step[report]", or pip install matplotlib'
        ) from error


def draw(plots: Sequence[Plot], description: str, prefix: str) -> str:
    """Plots side by side as an `<svg>` element for a page that has the variables of `theme`.

    Args:
      plots: one or more.
      description: what readers who do not see the plots are told.
      prefix: of its ids, which are unique on the page with it.
    """
    return _render(plots, description, prefix, alone=False)


def draw_file(plots: Sequence[Plot], description: str) -> str:
    """As `draw`, as a file of its own, which follows the theme too."""
    return f"{_render(plots, description, 'plot', alone=True)}\n"


def theme() -> str:
    """CSS rules that set the colors of plots, for light and dark pages."""
    rules = []
    for dark in (0, 1):
        values = [_TEXT[dark], _AXIS[dark], _PAPER[dark], *(pair[dark] for pair in COLORS)]
        names = _CODES.values()
        body = "".join(f"{name}:{value};" for name, value in zip(names, values, strict=True))
        rules.append(f":root{{{body}}}")
    return f"{rules[0]}@media(prefers-color-scheme:dark){{{rules[1]}}}"


def _render(plots: Sequence[Plot], description: str, prefix: str, alone: bool) -> str:
    check_installed()
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(5.2 * len(plots), 4.0), layout="constrained")
        FigureCanvasSVG(figure)
        all_axes = figure.subplots(1, len(plots), squeeze=False)[0]
        for axes, plot in zip(all_axes, plots, strict=True):
            _draw_plot(axes, plot)
        file = io.BytesIO()
        figure.savefig(file, format="svg")
    return _themed(file.getvalue(), " ".join(p.title for p in plots), description, prefix, alone)


def _draw_plot(axes: Axes, plot: Plot) -> None:
    for each in plot.series:
        _draw_series(axes, each, plot.style)
    for place, (name, height) in enumerate(plot.levels):
        style = (0, (5, 2 + 3 * place))
        axes.axhline(height, color=_INK, linewidth=1.2, linestyle=style, label=_name(name))
    if plot.diagonal:
        axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1.2)
    if plot.log:
        axes.set_xscale("log")
        # matplotlib's own names of powers are formulas, which are not read as such here.
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
    if plot.ticks:
        names = [_shortened(name, 40) for name in plot.names]
        axes.set_xticks(list(plot.ticks), names or [f"{tick:,g}" for tick in plot.ticks])
        axes.minorticks_off()
        if sum(map(len, names)) > 50:
            axes.tick_params("x", rotation=20, labelsize=8)
    if plot.limits is not None:
        axes.set_ylim(*plot.limits)
    axes.set_title(_shortened(plot.title, 60))
    axes.set_xlabel(_shortened(plot.x_label, 60))
    axes.set_ylabel(plot.y_label)
    _draw_legend(axes, plot)


def _draw_legend(axes: Axes, plot: Plot) -> None:
    """The names below the axes, in the order of the series."""
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [_name(each.name) for each in plot.series] + [_name(name) for name, _ in plot.levels]
    shown = [name for name in dict.fromkeys(names) if name in found]
    if shown:
        columns = 1 if any(len(name) > 24 for name in shown) else 2
        axes.legend(
            [found[name] for name in shown],
            shown,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.18),
            ncols=columns,
            fontsize=9,
        )


def _name(text: str) -> str:
    """A name for a legend, from which matplotlib leaves out those that start with "_"."""
    name = _shortened(text, 60)
    return f"\u200b{name}" if name.startswith("_") else name


def _draw_series(axes: Axes, each: Series, style: str) -> None:
    color = _SERIES[each.index % len(_SERIES)]
    dash = _DASHES[(each.index // len(_SERIES)) % len(_DASHES)]
    shape: dict[str, Any] = {"color": color, "label": _name(each.name)}
    if style == "band":
        axes.plot(each.x, each.y, linestyle=dash, linewidth=1.8, **shape)
        if each.low:
            axes.fill_between(each.x, each.low, each.high, color=color, alpha=0.15, linewidth=0)
        return
    if style == "steps":
        axes.step(each.x, each.y, where="post", linestyle=dash, linewidth=1.8, **shape)
        return
    shape |= {"marker": _MARKERS[each.index % len(_MARKERS)], "markersize": 6}
    linestyle = "none" if style == "dots" else dash
    if each.low:
        below = [y - low for y, low in zip(each.y, each.low, strict=True)]
        above = [high - y for y, high in zip(each.y, each.high, strict=True)]
        axes.errorbar(
            each.x, each.y, (below, above), capsize=3, elinewidth=1.2, linestyle=linestyle, **shape
        )
    else:
        axes.plot(each.x, each.y, linestyle=linestyle, **shape)


def _shortened(text: str, most: int) -> str:
    """A text of one line that XML can hold."""
    line = " ".join(_NOT_XML.sub("?", text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _themed(content: bytes, title: str, description: str, prefix: str, alone: bool) -> str:
    """The SVG of matplotlib with variables for colors, a title, and ids of the page."""
    text = content.decode()
    used = {*re.findall(r"url\(#([^)]+)\)", text), *re.findall(r'href="#([^"]+)"', text)}
    ET.register_namespace("", _NAMESPACE)
    ET.register_namespace("xlink", _XLINK)
    root = ET.fromstring(text)
    for each in root.findall(f"{{{_NAMESPACE}}}metadata"):  # has the date
        root.remove(each)
    for element in root.iter():
        _theme_element(element, used, prefix)
    width, height = (float(root.get(side, "0").removesuffix("pt")) for side in ("width", "height"))
    root.attrib.update({"width": f"{width * 4 / 3:.0f}", "height": f"{height * 4 / 3:.0f}"})
    root.attrib.update({"role": "img", "aria-labelledby": f"{prefix}-title {prefix}-desc"})
    for name, words in (("desc", description), ("title", title)):
        element = ET.Element(f"{{{_NAMESPACE}}}{name}", {"id": f"{prefix}-{name}"})
        element.text = _shortened(words, 2000)
        root.insert(0, element)
    if alone:
        style = ET.Element(f"{{{_NAMESPACE}}}style")
        style.text = theme()
        root.insert(0, style)
    return ET.tostring(root, encoding="unicode")


def _theme_element(element: ET.Element, used: set[str], prefix: str) -> None:
    """Puts variables in place of colors, and the prefix before ids; drops blanks and other ids."""
    name = element.attrib.pop("id", None)
    if name in used:
        element.set("id", f"{prefix}-{name}")
    for key, value in element.attrib.items():
        if "#" in value:
            value = re.sub(r"(url\(|^)#", rf"\1#{prefix}-", value)
            value = re.sub(r"#01\w{4}", lambda code: f"var({_CODES[code[0]]})", value)
        element.set(key, value.replace("'DejaVu Sans'", "system-ui, sans-serif"))
    element.tail = None
    if element.text and not element.text.strip():
        element.text = None
