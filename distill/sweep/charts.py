"""Charts of a sweep as SVG text: accuracy over labels as lines, methods side by side as bars.

Colors are classes of STYLE, for light and dark pages, so that no rule for text can replace them.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Mapping, Sequence

from distill.sweep.results import Group

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 520, 40, 210, 16, 50
PLOT_HEIGHT, BAR_HEIGHT = 300, 52
_LABEL_SPACE = 20  # pixels from the middle of one label to the next
_TITLE_HEIGHT = 34
COLORS = {  # of light and of dark pages
    "finetune": ("#0b6e99", "#5bb8e0"),
    "finetune, stronger": ("#4d6461", "#a3bdb8"),
    "step_by_step": ("#b8500a", "#f5a25d"),
    "distill_labels": ("#6940a5", "#bda0f5"),
}
_OTHERS = ("#8a3a5c", "#e596b8")


def _rules(dark: bool) -> str:
    rules = [
        f".c{index}{{--c:{pair[dark]}}}" for index, pair in enumerate((*COLORS.values(), _OTHERS))
    ]
    text, axis = ("#ddd", "#666") if dark else ("#222", "#bbb")
    return f".chart{{--text:{text};--axis:{axis}}}{''.join(rules)}"


STYLE = (
    ".chart{font:15px system-ui,sans-serif;max-width:100%;height:auto}"
    ".chart text{fill:var(--text)}.chart .mark{fill:var(--c);stroke:none}"
    ".chart .stroke{stroke:var(--c);fill:none}.chart .axis{stroke:var(--axis);stroke-width:1}"
    ".chart .whisker{stroke:var(--text);stroke-width:1.5}"
    ".chart .dashes{stroke:var(--text);stroke-width:1.5;stroke-dasharray:5 4}"
    f"{_rules(False)}@media(prefers-color-scheme:dark){{{_rules(True)}}}"
)


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawing of WIDTH x height.

    Attributes:
      title: heading.
      height: in pixels.
      body: elements of SVG.
    """

    title: str
    height: int
    body: str

    def svg(self) -> str:
        """The chart as an element of a page that has STYLE."""
        return (
            f"<svg class='chart' viewBox='0 0 {WIDTH} {self.height}' width='{WIDTH}' role='img' "
            f"aria-label='{html.escape(self.title, quote=True)}'>{self.body}</svg>"
        )


def make_charts(groups: Sequence[Group], teacher: float | None) -> list[Chart]:
    """Lines for each policy with several label budgets, bars for what has a single one.

    Args:
      groups: of a sweep.
      teacher: accuracy of the noisy teacher, None without one.
    """
    charts, singles = [], []
    for policy in dict.fromkeys(g.policy for g in groups):
        lines: dict[str, list[Group]] = {}
        for g in groups:
            if g.policy == policy:
                lines.setdefault(g.name, []).append(g)
        singles += [line[0] for line in lines.values() if len(line) == 1]
        lines = {name: sorted(x, key=lambda g: g.labels) for name, x in lines.items() if len(x) > 1}
        if lines:
            charts.append(_line_chart(f"Accuracy by number of labels, policy {policy}", lines))
    noisy = [g for g in singles if _is_noisy(g)]
    clean = [g for g in singles if not _is_noisy(g)]
    if clean:
        labels = ", ".join(dict.fromkeys(f"{g.labels:,}" for g in clean))
        charts.append(_bar_chart(f"Accuracy with {labels} labels", clean, None))
    if noisy:
        charts.append(_bar_chart("Students of a noisy teacher", noisy, teacher))
    return charts


def figure(charts: Sequence[Chart]) -> str:
    """All charts side by side, as a file that stands alone."""
    parts = []
    for place, chart in enumerate(charts):
        left = place * WIDTH
        parts.append(
            f"<text x='{left + WIDTH / 2:g}' y='23' text-anchor='middle' font-weight='600'>"
            f"{html.escape(chart.title)}</text><svg x='{left}' y='{_TITLE_HEIGHT}' "
            f"width='{WIDTH}' height='{chart.height}'>{chart.body}</svg>"
        )
    width = WIDTH * len(charts)
    height = _TITLE_HEIGHT + max((chart.height for chart in charts), default=0)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' class='chart' viewBox='0 0 {width} {height}' "
        f"width='{width}' height='{height}'><style>{STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _is_noisy(group: Group) -> bool:
    return group.name.endswith(", noisy teacher")


def _color(name: str) -> str:
    """The class of a method's color: the same in every chart."""
    names = list(COLORS)
    name = name.removesuffix(", noisy teacher")
    return f"c{names.index(name) if name in names else len(names)}"


def _line_chart(title: str, lines: Mapping[str, Sequence[Group]]) -> Chart:
    budgets = sorted({g.labels for line in lines.values() for g in line})
    across, bottom = WIDTH - LEFT - RIGHT, TOP + PLOT_HEIGHT

    def x(labels: int) -> float:
        return LEFT + across * (budgets.index(labels) + 0.25) / (len(budgets) - 0.5)

    def y(accuracy: float) -> float:
        return TOP + PLOT_HEIGHT * (1 - accuracy)

    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(
            f"<line class='axis' x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(tick):.1f}' "
            f"y2='{y(tick):.1f}'/><text x='{LEFT - 8}' y='{y(tick) + 5:.1f}' "
            f"text-anchor='end'>{tick:g}</text>"
        )
    for labels in budgets:
        parts.append(
            f"<text x='{x(labels):.1f}' y='{bottom + 22}' text-anchor='middle'>{labels:,}</text>"
        )
    middle = LEFT + across / 2
    parts.append(f"<text x='{middle:g}' y='{bottom + 43}' text-anchor='middle'>labels</text>")
    ends = {name: y(line[-1].mean) for name, line in lines.items()}
    places = spread_labels(ends, TOP, bottom)
    for name, line in lines.items():
        parts.append(_line(name, line, x, y))
        last, place = line[-1], places[name]
        parts.append(
            f"<g class='{_color(name)}'><line class='stroke' x1='{x(last.labels) + 8:.1f}' "
            f"y1='{ends[name]:.1f}' x2='{WIDTH - RIGHT + 8}' y2='{place:.1f}' opacity='.6'/></g>"
            f"<text x='{WIDTH - RIGHT + 12}' y='{place + 5:.1f}'><tspan class='mark "
            f"{_color(name)}'><tspan font-weight='600'>{last.mean:.2f}</tspan> "
            f"{html.escape(name)}</tspan></text>"
        )
    return Chart(title, bottom + BOTTOM, "".join(parts))


def _line(
    name: str, line: Sequence[Group], x: Callable[[int], float], y: Callable[[float], float]
) -> str:
    points = " ".join(f"{x(g.labels):.1f},{y(g.mean):.1f}" for g in line)
    parts = [f"<polyline class='stroke' points='{points}' stroke-width='2.5'/>"]
    for g in line:
        high, low = y(min(1, g.mean + g.spread)), y(max(0, g.mean - g.spread))
        center = f"{x(g.labels):.1f}"
        parts.append(
            f"<line class='stroke' x1='{center}' x2='{center}' y1='{high:.1f}' y2='{low:.1f}' "
            f"stroke-width='1.5'/><circle class='mark' cx='{center}' cy='{y(g.mean):.1f}' r='4.5'>"
            f"<title>{html.escape(name)}, {g.labels} labels: {g.mean:.3f}</title></circle>"
        )
    return f"<g class='{_color(name)}'>{''.join(parts)}</g>"


def spread_labels(wanted: Mapping[str, float], top: float, bottom: float) -> dict[str, float]:
    """Places for labels in a column, as near to the wanted ones as lets none touch another.

    Args:
      wanted: the height of each label's middle, by name.
      top, bottom: between which they stay.
    """
    order = sorted(wanted, key=wanted.__getitem__)
    places: list[float] = []
    for name in order:  # down from the top, none too near to the one above it
        floor = places[-1] + _LABEL_SPACE if places else top
        places.append(max(wanted[name], floor))
    for index in reversed(range(len(places))):  # then up from the bottom
        ceiling = places[index + 1] - _LABEL_SPACE if index + 1 < len(places) else bottom
        places[index] = min(places[index], ceiling)
    return dict(zip(order, places, strict=True))


def _bar_chart(title: str, groups: Sequence[Group], teacher: float | None) -> Chart:
    across, bottom = WIDTH - 2 * LEFT, TOP + BAR_HEIGHT * len(groups)

    def x(accuracy: float) -> float:
        return LEFT + across * accuracy

    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(
            f"<line class='axis' x1='{x(tick):.1f}' x2='{x(tick):.1f}' y1='{TOP}' y2='{bottom}'/>"
            f"<text x='{x(tick):.1f}' y='{bottom + 20}' text-anchor='middle'>{tick:g}</text>"
        )
    if teacher is not None:
        parts.append(
            f"<line class='dashes' x1='{x(teacher):.1f}' x2='{x(teacher):.1f}' y1='{TOP}' "
            f"y2='{bottom + 28}'/><text x='{x(teacher):.1f}' y='{bottom + 43}' "
            f"text-anchor='middle'>the teacher: {teacher:.3f}</text>"
        )
    for index, g in enumerate(groups):
        top = TOP + BAR_HEIGHT * index
        low, high = x(max(0, g.mean - g.spread)), x(min(1, g.mean + g.spread))
        name = g.name.removesuffix(", noisy teacher")
        whisker = f"<line class='whisker' x1='{low:.1f}' x2='{high:.1f}' y1='{top + 35}' "
        whisker += f"y2='{top + 35}'/>"
        parts.append(
            f"<text x='{LEFT + 6}' y='{top + 19}' font-weight='600'>{html.escape(name)} "
            f"{g.mean:.3f}</text><rect class='mark {_color(g.name)}' x='{LEFT}' y='{top + 26}' "
            f"width='{across * g.mean:.1f}' height='18' rx='2'/>{whisker if g.spread else ''}"
        )
    return Chart(title, bottom + (BOTTOM if teacher is not None else 28), "".join(parts))
