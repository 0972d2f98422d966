"""A page to look at schedules in: one file, no network. Needs Vega-Altair, the extra `plot`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from jaxcec.evaluation.schedule import Placed, Schedule, bars, resources, slot_counts
from jaxcec.files import write_aside

WIDTH = 620  # of one policy's charts
BAND = 26  # height of a resource's row
FRAMES = 150  # at most, of other tenants' load in the page
DETAILS = {  # what hovering over a bar shows, with Vega's name for it
    "what": "microservice",
    "where": "on",
    "C": "C, load (Mcycles)",
    "D": "D, input (Mbit)",
    "B": "B, share of bandwidth",
    "hold": "hold (s)",
    "flow": "flow (s)",
    "wait": "wait (s)",
    "run": "run (s)",
}


def save_page(schedules: Sequence[Schedule], path: Path, title: str) -> None:
    """Write the page: policies side by side, each with its Gantt chart over its topology at the time of a slider.

    Args:
        schedules: one episode under each policy.
        path: the HTML file.
        title: above all.

    Raises:
        ImportError: Vega-Altair is not installed.
    """
    with warnings.catch_warnings():
        # One click picks a service in all charts: that is one parameter in several of them, as is meant.
        warnings.filterwarnings("ignore", message="Automatically deduplicated selection parameter")
        page = _chart(schedules, title).to_html(inline=True, embed_options={"renderer": "svg"})
    page = page.replace("<head>", f"<head>\n{_STYLE}", 1)
    head, body, rest = page.rpartition("<body>")  # the last: the drawing code in the head has such words, too
    write_aside(path, f"{head}{body}\n{_SLIDER}{rest}")


def _chart(schedules: Sequence[Schedule], title: str) -> Any:
    alt = _altair()
    end = max(schedule.makespan for schedule in schedules)
    slider = alt.binding_range(
        min=0.0, max=round(end, 1), step=round(end / 1000.0, 2) or 0.01, name="time (s) ", element="#slider"
    )
    now = alt.param(name="now", value=round(end / 4.0, 1), bind=slider)
    service = alt.selection_point(name="picked", fields=["service"], on="click", clear="dblclick")
    columns = [_column(schedule, schedules, now, service) for schedule in schedules]
    return (
        alt.hconcat(*columns, spacing=30, title=alt.Title(title, subtitle=_HELP))
        .add_params(now)
        .configure_view(stroke=None)
        .configure_axis(grid=False)
        .configure_title(anchor="start")
    )


_STYLE = """<style>
body { font-family: sans-serif; margin: 12px; }
#slider { position: sticky; top: 0; background: white; z-index: 1; padding: 6px 0; }
#slider input[type=range] { width: 620px; vertical-align: middle; }
</style>
"""
_SLIDER = '<div id="slider"></div>\n'  # above the charts, and always in sight

_HELP = [
    "Above: what runs on each node and flows over each link, coloured by service. Drag the slider; hover for details; "
    "click a bar for its service alone, double-click for all.",
    "Below: the network at the slider's time. Darker: more is taken by other tenants. Wider: more bandwidth. "
    "Coloured lines: input on its way. Numbers: microservices that run.",
]


def _column(schedule: Schedule, schedules: Sequence[Schedule], now: Any, service: Any) -> Any:
    alt = _altair()
    heading = f"{schedule.policy}: ACT {schedule.act:,.1f} s, all done after {schedule.makespan:,.0f} s"
    charts = alt.vconcat(_gantt(schedule, schedules, service), _topology(schedule, schedules, service), spacing=10)
    return charts.properties(title=alt.Title(heading, fontSize=14))


def _gantt(schedule: Schedule, schedules: Sequence[Schedule], service: Any) -> Any:
    """A row for each resource; bars of one row that overlap share its height."""
    alt = _altair()
    rows = resources(schedules)
    drawn = bars(schedule)
    slots = slot_counts(drawn)
    numbers = {(p.service, p.microservice): number for number, p in enumerate(schedule.placed)}
    values = []
    for bar in drawn:
        top, height = rows.index(bar.resource) + 0.08, 0.84 / slots[bar.resource]
        place = {"y": round(top + bar.slot * height, 3), "y2": round(top + (bar.slot + 1) * height, 3)}
        time = {"t": round(bar.start, 1), "t2": round(bar.end, 1)}
        values.append(place | time | {"n": numbers[bar.placed.service, bar.placed.microservice]})
    details = alt.Data(values=[_details(p) | {"n": number} for number, p in enumerate(schedule.placed)])
    # A microservice has many bars: its details are in the page once.
    told = alt.LookupData(data=details, key="n", fields=["service", *DETAILS])
    names = alt.Axis(
        values=[row + 0.5 for row in range(len(rows))],
        labelExpr=f"{rows}[floor(datum.value)]",
        title=None,
        ticks=False,
        domain=False,
        labelLimit=90,
    )
    end = max(s.makespan for s in schedules)
    chart = alt.Chart(alt.Data(values=values)).mark_rect(stroke="white", strokeWidth=0.4, clip=True)
    boxes = chart.transform_lookup(lookup="n", from_=told).encode(
        x=alt.X("t:Q", title="s", scale=alt.Scale(domain=[0, end], nice=False)),
        x2="t2:Q",
        y=alt.Y("y:Q", axis=names, scale=alt.Scale(domain=[len(rows), 0], nice=False)),
        y2="y2:Q",
        color=_by_service(schedule),
        opacity=alt.condition(service, alt.value(1.0), alt.value(0.12)),
        tooltip=[alt.Tooltip(f"{name}:N", title=shown) for name, shown in DETAILS.items()],
    )
    line = alt.Chart(alt.Data(values=[{}])).mark_rule(color="black", strokeDash=[4, 3])
    moment = line.encode(x=alt.datum(alt.expr("now"), type="quantitative"))
    return alt.layer(boxes.add_params(service), moment).properties(width=WIDTH, height=BAND * len(rows))


def _details(placed: Placed) -> dict[str, Any]:
    came = ", ".join(f"node {v}" for v in placed.origins)
    where = f"{placed.host}, input from {came}" if came else f"{placed.host}, input was there"
    return {
        "service": placed.service,
        "what": f"service {placed.service}, microservice {placed.microservice}",
        "where": where,
        "C": f"{placed.load:,.1f}",
        "D": f"{placed.data:,.1f}",
        "B": f"{placed.bandwidth:.3f}",
        "hold": f"{placed.hold:,.1f}",
        "flow": f"{placed.flow_start:,.1f} to {placed.data_ready:,.1f}" if came else "none",
        "wait": f"{placed.wait:,.1f}",
        "run": f"{placed.start:,.1f} to {placed.finish:,.1f}",
    }


def _by_service(schedule: Schedule) -> Any:
    alt = _altair()
    services = list(range(len(schedule.releases)))
    return alt.Color("service:N", scale=alt.Scale(domain=services, scheme="tableau20"), legend=None)


def _topology(schedule: Schedule, schedules: Sequence[Schedule], service: Any) -> Any:
    """The network at the slider's time. Other tenants' load is the same whatever the policy, and in the page once."""
    alt = _altair()
    at = _layout(schedule)
    ends = [at[v] for v in range(schedule.num_nodes)]
    links = [
        {**_line(ends[a], ends[b]), "name": f"link {a}-{b}", "Mbps": round(bandwidth, 1)}
        for a, b, bandwidth in schedule.links
    ]
    nodes = [{"x": x, "y": y, "name": f"node {v}"} for v, (x, y) in enumerate(ends)]
    frames, length = _framed(max(schedules, key=lambda s: s.makespan))
    width = alt.Size("Mbps:Q", scale=alt.Scale(range=[1, 8]), legend=None)
    lines = _loaded(links, frames[:, : len(links)], length).mark_rule()
    circles = _loaded(nodes, frames[:, len(links) :], length).mark_circle(size=900, opacity=1.0, stroke="black")
    names = alt.Chart(alt.Data(values=nodes)).mark_text(dy=-24, fontSize=11)
    layers = alt.layer(
        lines.encode(**_place(), x2="x2:Q", y2="y2:Q", size=width, **_load_shown("Mbps")),
        _flows(schedule, ends, service),
        circles.encode(**_place(), **_load_shown()),
        _running(schedule, ends),
        names.encode(**_place(), text="name:N"),
    )
    return layers.resolve_scale(color="independent", size="independent").properties(width=WIDTH, height=360)


def _now(values: list[dict[str, Any]]) -> Any:
    """A chart of those rows, which last from t to t2, that last at the slider's time."""
    alt = _altair()
    return alt.Chart(alt.Data(values=values)).transform_filter("datum.t <= now && now < datum.t2")


def _loaded(rows: list[dict[str, Any]], frames: np.ndarray, length: float) -> Any:
    """Links, or nodes, with the share that other tenants have now."""
    alt = _altair()
    values = [
        {"name": row["name"], "t": round(k * length, 1), "t2": round((k + 1) * length, 1), "load": round(share, 2)}
        for k, frame in enumerate(frames.tolist())
        for row, share in zip(rows, frame, strict=True)
    ]
    fields = [name for name in rows[0] if name != "name"]
    return _now(values).transform_lookup("name", alt.LookupData(alt.Data(values=rows), "name", fields))


def _load_shown(*more: str) -> dict[str, Any]:
    """Darker where others take more, with the share in figures."""
    alt = _altair()
    grey = alt.Color("load:Q", scale=alt.Scale(scheme="greys", domain=[-0.2, 0.9]), legend=None)
    share = alt.Tooltip("load:Q", title="taken by others", format=".0%")
    return {"color": grey, "tooltip": ["name:N", share, *(f"{name}:Q" for name in more)]}


def _place() -> dict[str, Any]:
    alt = _altair()
    scale, axis = alt.Scale(domain=[-1.15, 1.15], nice=False), alt.Axis(labels=False, ticks=False, domain=False)
    return {
        "x": alt.X("x:Q", title=None, axis=axis, scale=scale),
        "y": alt.Y("y:Q", title=None, axis=axis, scale=scale),
    }


def _flows(schedule: Schedule, ends: Sequence[np.ndarray], service: Any) -> Any:
    """A line along each link that input crosses now."""
    alt = _altair()
    joins = {schedule.link_name(i): (a, b) for i, (a, b, _) in enumerate(schedule.links)}
    values = [
        _line(ends[joins[bar.resource][0]], ends[joins[bar.resource][1]], _BESIDE * (1 + bar.slot))
        | {"t": round(bar.start, 1), "t2": round(bar.end, 1), "service": bar.placed.service}
        | {"to": f"{bar.placed.microservice} on {bar.placed.host}"}
        for bar in bars(schedule)
        if bar.resource in joins
    ]
    told = ["service:N", alt.Tooltip("to:N", title="to microservice")]
    seen = alt.condition(service, alt.value(1.0), alt.value(0.12))
    lines = _now(values).mark_rule(strokeWidth=2.5)
    return lines.encode(**_place(), x2="x2:Q", y2="y2:Q", color=_by_service(schedule), opacity=seen, tooltip=told)


def _running(schedule: Schedule, ends: Sequence[np.ndarray]) -> Any:
    """How many microservices run on each node now, its device included."""
    values = [
        {"x": ends[p.node][0], "y": ends[p.node][1], "t": round(p.start, 1), "t2": round(p.finish, 1)}
        for p in schedule.placed
    ]
    counted = _now(values).transform_aggregate(running="count()", groupby=["x", "y"])
    return counted.mark_text(fontSize=13, fontWeight="bold", color="#c2410c").encode(**_place(), text="running:Q")


_BESIDE = 0.025  # how far flows over one link are drawn from each other


def _layout(schedule: Schedule) -> dict[int, np.ndarray]:
    """(2,) position of each edge node, in [-1, 1]."""
    graph = nx.Graph([(a, b) for a, b, _ in schedule.links])
    graph.add_nodes_from(range(schedule.num_nodes))
    return nx.kamada_kawai_layout(graph)


def _line(one: np.ndarray, other: np.ndarray, beside: float = 0.0) -> dict[str, float]:
    """From one position to the other, moved a little to the side."""
    along = (other - one) / np.linalg.norm(other - one)
    shift = beside * np.array([-along[1], along[0]])
    (x, y), (x2, y2) = one + shift, other + shift
    return {"x": round(float(x), 3), "y": round(float(y), 3), "x2": round(float(x2), 3), "y2": round(float(y2), 3)}


def _framed(schedule: Schedule) -> tuple[np.ndarray, float]:
    """Other tenants' load in frames few enough for a page, means over several, and how long each lasts, s."""
    step = -(-len(schedule.loads) // FRAMES)
    starts = np.arange(0, len(schedule.loads), step)
    means = np.add.reduceat(schedule.loads, starts) / np.diff([*starts, len(schedule.loads)])[:, None]
    return means, step * schedule.frame


def _altair() -> Any:
    try:
        import altair
        import vl_convert  # noqa: F401  # puts the drawing code into the page
    except ImportError:
        raise ImportError("a schedule's page needs Vega-Altair: pip install 'jaxcec[plot]'") from None
    return altair
