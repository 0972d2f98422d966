"""An interactive page of schedules: one file that needs no network. It needs Vega-Altair, the extra `plot`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from jaxcec.evaluation.schedule import Placed, Schedule, bars, resources
from jaxcec.files import write_aside

WIDTH = 620  # of the charts of one policy, pixels
ROW_HEIGHT = (14, 26)  # of one resource, least and most, pixels
USUAL_HEIGHT = 800  # of the rows of all resources, unless these heights forbid it, pixels
LABEL_WIDTH = 220  # most of the name of a resource, pixels
ROOMY = 12  # nodes of the largest network that is drawn with large circles
MAX_FRAMES = 150  # of other tenants' load in a page
FLOW_SPACING = 0.025  # between flows over the same link
DETAILS = {  # tooltip of a bar: field of the data, title shown
    "name": "microservice",
    "host": "on",
    "C": "C, load (Mcycles)",
    "D": "D, input (Mbit)",
    "B": "B, share of bandwidth",
    "hold": "hold (s)",
    "flow": "flow (s)",
    "wait": "wait (s)",
    "run": "run (s)",
}
_STYLE = """<style>
body { font-family: sans-serif; margin: 12px; }
#slider { position: sticky; top: 0; background: white; z-index: 1; padding: 6px 0; }
#slider input[type=range] { width: 620px; vertical-align: middle; }
</style>
"""
_SLIDER = '<div id="slider"></div>\n'  # above the charts, always visible
_HELP = [
    "Above: executions on each node and flows on each link, coloured by service. Hover over a bar for details; "
    "click it to highlight its service, double-click to show all.",
    "Below: the network at the time of the slider. Darker: other tenants use more. Wider: more bandwidth. "
    "Coloured lines: flows. Numbers: running microservices.",
]


def save_page(schedules: Sequence[Schedule], path: Path, *, title: str) -> None:
    """Write an HTML page with one column per policy: a Gantt chart, and the network at the time chosen with a slider.

    The schedules are those of one episode under each policy.

    Raises:
        ImportError: Vega-Altair is not installed.
    """
    with warnings.catch_warnings():
        # One click highlights a service in all charts, so several charts share one selection parameter on purpose.
        warnings.filterwarnings("ignore", message="Automatically deduplicated selection parameter")
        page = _chart(schedules, title).to_html(inline=True, embed_options={"renderer": "svg"})
    page = page.replace("<head>", f"<head>\n{_STYLE}", 1)
    head, body, rest = page.rpartition("<body>")  # the last one: the library in the head contains the word too
    write_aside(path, f"{head}{body}\n{_SLIDER}{rest}")


def _chart(schedules: Sequence[Schedule], title: str) -> Any:
    """All columns, with the slider that they share."""
    alt = _altair()
    end = max(schedule.makespan for schedule in schedules)
    slider = alt.binding_range(
        min=0.0, max=round(end, 1), step=round(end / 1000.0, 2) or 0.01, name="time (s) ", element="#slider"
    )
    now = alt.param(name="now", value=round(end / 4.0, 1), bind=slider)
    service = alt.selection_point(name="picked", fields=["service"], on="click", clear="dblclick")
    columns = [_column(schedule, schedules, service) for schedule in schedules]
    return (
        alt.hconcat(*columns, spacing=30, title=alt.Title(title, subtitle=_HELP))
        .add_params(now)
        .configure_view(stroke=None)
        .configure_axis(grid=False)
        .configure_title(anchor="start")
    )


def _column(schedule: Schedule, schedules: Sequence[Schedule], service: Any) -> Any:
    """The charts of one policy; `service` is the selection that highlights a service."""
    alt = _altair()
    heading = f"{schedule.policy}: ACT {schedule.act:,.1f} s, makespan {schedule.makespan:,.0f} s"
    charts = alt.vconcat(_gantt(schedule, schedules, service), _topology(schedule, schedules, service), spacing=10)
    return charts.properties(title=alt.Title(heading, fontSize=14))


def _gantt(schedule: Schedule, schedules: Sequence[Schedule], service: Any) -> Any:
    """One row per resource; bars of a row that overlap share its height."""
    alt = _altair()
    rows = resources(schedules)
    labels = list(map(schedule.name, rows))
    numbers = {(p.service, p.microservice): number for number, p in enumerate(schedule.placed)}
    values = []
    for bar in bars(schedule):
        top, height = rows.index(bar.resource) + 0.08, 0.84 / bar.slots
        position = {"y": round(top + bar.slot * height, 3), "y2": round(top + (bar.slot + 1) * height, 3)}
        time = {"t": round(bar.start, 1), "t2": round(bar.end, 1)}
        values.append(position | time | {"n": numbers[bar.placed.service, bar.placed.microservice]})
    details = alt.Data(values=[_details(schedule, p) | {"n": number} for number, p in enumerate(schedule.placed)])
    # A microservice has many bars, but the page contains its details only once.
    lookup = alt.LookupData(data=details, key="n", fields=["service", *DETAILS])
    names = alt.Axis(
        values=[row + 0.5 for row in range(len(rows))],
        labelExpr=f"{json.dumps(labels)}[floor(datum.value)]",
        title=None,
        ticks=False,
        domain=False,
        labelLimit=LABEL_WIDTH,
    )
    end = max(s.makespan for s in schedules)
    least, most = (height * len(rows) for height in ROW_HEIGHT)
    height = min(max(least, USUAL_HEIGHT), most)
    chart = alt.Chart(alt.Data(values=values)).mark_rect(stroke="white", strokeWidth=0.4, clip=True)
    boxes = chart.transform_lookup(lookup="n", from_=lookup).encode(
        x=alt.X("t:Q", title="time (s)", scale=alt.Scale(domain=[0, end], nice=False)),
        x2="t2:Q",
        y=alt.Y("y:Q", axis=names, scale=alt.Scale(domain=[len(rows), 0], nice=False)),
        y2="y2:Q",
        color=_by_service(schedule),
        opacity=alt.condition(service, alt.value(1.0), alt.value(0.12)),
        tooltip=[alt.Tooltip(f"{name}:N", title=title) for name, title in DETAILS.items()],
    )
    line = alt.Chart(alt.Data(values=[{}])).mark_rule(color="black", strokeDash=[4, 3])
    now = line.encode(x=alt.datum(alt.expr("now"), type="quantitative"))
    return alt.layer(boxes.add_params(service), now).properties(width=WIDTH, height=height)


def _details(schedule: Schedule, placed: Placed) -> dict[str, Any]:
    """The fields of DETAILS."""
    origins = ", ".join(schedule.nodes[v] for v in placed.origins)
    return {
        "service": placed.service,
        "name": f"service {placed.service}, microservice {placed.microservice}",
        "host": f"{placed.host}, input from {origins}" if origins else f"{placed.host}, input already there",
        "C": f"{placed.load:,.1f}",
        "D": f"{placed.data:,.1f}",
        "B": f"{placed.bandwidth:.3f}",
        "hold": f"{placed.hold:,.1f}",
        "flow": f"{placed.flow_start:,.1f} to {placed.data_ready:,.1f}" if origins else "none",
        "wait": f"{placed.wait:,.1f}",
        "run": f"{placed.start:,.1f} to {placed.finish:,.1f}",
    }


def _by_service(schedule: Schedule) -> Any:
    """The colour of each service."""
    alt = _altair()
    services = list(range(len(schedule.releases)))
    return alt.Color("service:N", scale=alt.Scale(domain=services, scheme="tableau20"), legend=None)


def _topology(schedule: Schedule, schedules: Sequence[Schedule], service: Any) -> Any:
    """The network at the time of the slider; all policies see the same load of other tenants."""
    alt = _altair()
    positions = _layout(schedule)
    links = [
        {**_line(positions[a], positions[b]), "name": name, "Mbps": round(bandwidth, 1)}
        for name, (a, b, bandwidth) in zip(schedule.link_names, schedule.links, strict=True)
    ]
    nodes = [{"x": x, "y": y, "name": schedule.nodes[v]} for v, (x, y) in sorted(positions.items())]
    frames, length = _mean_loads(max(schedules, key=lambda s: s.makespan))
    width = alt.Size("Mbps:Q", scale=alt.Scale(range=[1, 8]), legend=None)
    lines = _with_load(links, frames[:, : len(links)], length).mark_rule()
    of_nodes = frames[:, [len(links) + v for v in sorted(positions)]]
    scale = min((ROOMY / len(nodes)) ** 0.5, 1.0)
    circles = _with_load(nodes, of_nodes, length).mark_circle(size=900 * scale**2, opacity=1.0, stroke="black")
    names = alt.Chart(alt.Data(values=nodes)).mark_text(dy=-8 - 16 * scale, fontSize=8 + 3 * scale)
    layers = alt.layer(
        lines.encode(**_axes(), x2="x2:Q", y2="y2:Q", size=width, **_shade("Mbps")),
        _flows(schedule, positions, service),
        circles.encode(**_axes(), **_shade()),
        _running(schedule, positions),
        names.encode(**_axes(), text="name:N"),
    )
    return layers.resolve_scale(color="independent", size="independent").properties(
        width=WIDTH, height=min(360 / scale, WIDTH)
    )


def _active(values: list[dict[str, Any]]) -> Any:
    """A chart of the rows whose interval, from `t` to `t2`, contains the time of the slider."""
    alt = _altair()
    return alt.Chart(alt.Data(values=values)).transform_filter("datum.t <= now && now < datum.t2")


def _with_load(rows: list[dict[str, Any]], frames: np.ndarray, length: float) -> Any:
    """A chart of links or nodes, one row each, with the share that other tenants use at the time of the slider.

    The shares are (frames, rows); a frame is `length` s long.
    """
    alt = _altair()
    values = [
        {"name": row["name"], "t": round(k * length, 1), "t2": round((k + 1) * length, 1), "load": round(share, 2)}
        for k, frame in enumerate(frames.tolist())
        for row, share in zip(rows, frame, strict=True)
    ]
    fields = [name for name in rows[0] if name != "name"]
    return _active(values).transform_lookup("name", alt.LookupData(alt.Data(values=rows), "name", fields))


def _shade(*fields: str) -> dict[str, Any]:
    """Encoding of the load: darker where other tenants use more; the tooltip has the share and some other fields."""
    alt = _altair()
    grey = alt.Color("load:Q", scale=alt.Scale(scheme="greys", domain=[-0.2, 0.9]), legend=None)
    share = alt.Tooltip("load:Q", title="used by other tenants", format=".0%")
    return {"color": grey, "tooltip": ["name:N", share, *(f"{name}:Q" for name in fields)]}


def _axes() -> dict[str, Any]:
    """Encoding of a position in the network."""
    alt = _altair()
    scale, axis = alt.Scale(domain=[-1.15, 1.15], nice=False), alt.Axis(labels=False, ticks=False, domain=False)
    plain = {"title": None, "axis": axis, "scale": scale}
    return {"x": alt.X("x:Q", **plain), "y": alt.Y("y:Q", **plain)}


def _flows(schedule: Schedule, positions: Mapping[int, np.ndarray], service: Any) -> Any:
    """A line along each link for every flow that crosses it at the time of the slider."""
    alt = _altair()
    ends = [(positions[a], positions[b]) for a, b, _ in schedule.links]
    values = [
        _line(*ends[bar.resource[1]], FLOW_SPACING * (1 + bar.slot))
        | {"t": round(bar.start, 1), "t2": round(bar.end, 1), "service": bar.placed.service}
        | {"to": f"{bar.placed.task} on {bar.placed.host}"}
        for bar in bars(schedule)
        if bar.resource[0] == "link"
    ]
    tooltip = ["service:N", alt.Tooltip("to:N", title="to microservice")]
    opacity = alt.condition(service, alt.value(1.0), alt.value(0.12))
    lines = _active(values).mark_rule(strokeWidth=2.5)
    return lines.encode(**_axes(), x2="x2:Q", y2="y2:Q", color=_by_service(schedule), opacity=opacity, tooltip=tooltip)


def _running(schedule: Schedule, positions: Mapping[int, np.ndarray]) -> Any:
    """Number of microservices that run on each node and its end device at the time of the slider."""
    values = [
        {"x": x, "y": y, "t": round(p.start, 1), "t2": round(p.finish, 1)}
        for p in schedule.placed
        for x, y in [positions[schedule.places[p.node]]]
    ]
    counted = _active(values).transform_aggregate(running="count()", groupby=["x", "y"])
    return counted.mark_text(fontSize=13, fontWeight="bold", color="#c2410c").encode(**_axes(), text="running:Q")


def _layout(schedule: Schedule) -> dict[int, np.ndarray]:
    """(2,) position in [-1, 1] of each edge node that has a place of its own."""
    graph = nx.Graph([(a, b) for a, b, _ in schedule.links])
    graph.add_nodes_from(schedule.places)
    return nx.kamada_kawai_layout(graph)


def _line(start: np.ndarray, end: np.ndarray, offset: float = 0.0) -> dict[str, float]:
    """A line between two positions, shifted sideways by an offset."""
    along = (end - start) / np.linalg.norm(end - start)
    shift = offset * np.array([-along[1], along[0]])
    (x, y), (x2, y2) = start + shift, end + shift
    return {"x": round(float(x), 3), "y": round(float(y), 3), "x2": round(float(x2), 3), "y2": round(float(y2), 3)}


def _mean_loads(schedule: Schedule) -> tuple[np.ndarray, float]:
    """Other tenants' load in at most MAX_FRAMES frames, averaged over several where needed, and their length in s."""
    step = -(-len(schedule.loads) // MAX_FRAMES)
    starts = np.arange(0, len(schedule.loads), step)
    means = np.add.reduceat(schedule.loads, starts) / np.diff([*starts, len(schedule.loads)])[:, None]
    return means, step * schedule.frame


def _altair() -> Any:
    """The module `altair`; an ImportError names the extra that installs it."""
    try:
        import altair
        import vl_convert  # noqa: F401  # embeds Vega's library in the page
    except ImportError:
        raise ImportError("a schedule's page needs Vega-Altair: pip install 'jaxcec[plot]'") from None
    return altair
