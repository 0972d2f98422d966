"""A page that lays what was measured in the lab over what was predicted. It needs Vega-Altair, the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcec.files import write_aside
from jaxcec.live.referee import LEAST, Interval, Outcome

_WIDTH, _ROW = 720, 26  # pixels
_HELP = [
    "Left: the first episode. Pale: when each execution was predicted to run by the decision that placed it.",
    "Narrow and dark: when it ran, as measured. Hover for numbers; drag to move, scroll to zoom.",
    f"Right: every flow, execution and finish of all episodes that was predicted to take {LEAST:g} s or more.",
]


def save_referee_page(outcomes: Sequence[Outcome], path: Path, *, title: str) -> None:
    """Write one HTML file that needs no network.

    Raises:
        ImportError: Vega-Altair is not installed.
    """
    alt = import_altair()
    policies = list(dict.fromkeys(outcome.policy for outcome in outcomes))
    rows = []
    for number, policy in enumerate(policies):
        mine = [outcome for outcome in outcomes if outcome.policy == policy]
        zoom = alt.selection_interval(name=f"zoom{number}", bind="scales", encodings=["x"])
        rows.append(alt.hconcat(_executions(mine[0]).add_params(zoom), _durations(mine), spacing=40))
    chart = alt.vconcat(*rows, spacing=30).properties(title=alt.Title(title, subtitle=_HELP, anchor="start"))
    write_aside(path, chart.to_html(inline=True, embed_options={"renderer": "svg"}))


def _executions(outcome: Outcome) -> Any:
    """Predicted and measured executions of an episode, one row for each host."""
    alt = import_altair()
    runs = [_row(each) for each in outcome.intervals if each.what == "execution"]
    heading = f"{outcome.policy}: ACT {outcome.simulated:,.1f} s in the simulator, {outcome.measured:,.1f} s measured"
    base = alt.Chart(alt.Data(values=runs), title=heading).encode(
        y=alt.Y("host:O", title="node"),
        color=alt.Color("service:N", scale=alt.Scale(scheme="tableau20"), legend=None),
        tooltip=["name:N", "predicted:N", "measured:N"],
    )
    axis = alt.X("predicted_start:Q", title="time (s)")
    predicted = base.mark_bar(opacity=0.35, size=0.7 * _ROW).encode(x=axis, x2="predicted_end:Q")
    measured = base.mark_bar(size=0.25 * _ROW).encode(x=alt.X("start:Q", title="time (s)"), x2="end:Q")
    hosts = len({run["host"] for run in runs})
    return alt.layer(predicted, measured).properties(width=_WIDTH, height=_ROW * hosts)


def _row(each: Interval) -> dict[str, Any]:
    times = ("predicted_start", "predicted_end", "start", "end")
    return {
        "host": each.host,
        "service": each.service,
        "name": f"{each.service}, microservice {each.microservice}",
        "predicted": f"{each.predicted_start:,.1f} to {each.predicted_end:,.1f} s",
        "measured": f"{each.start:,.1f} to {each.end:,.1f} s",
        **{name: round(getattr(each, name), 2) for name in times},
    }


def _durations(outcomes: Sequence[Outcome]) -> Any:
    """Measured against predicted durations, with the line on which they are equal."""
    alt = import_altair()
    points = [
        {"what": each.what, "predicted": round(each.predicted_end - each.predicted_start, 3)}
        | {"measured": round(max(each.end - each.start, LEAST / 10), 3)}
        for outcome in outcomes
        for each in outcome.intervals
        if each.predicted_end - each.predicted_start >= LEAST
    ]
    most = max((max(point["predicted"], point["measured"]) for point in points), default=LEAST)
    line = alt.Chart(alt.Data(values=[{"x": LEAST}, {"x": most}])).mark_line(color="grey", strokeDash=[4, 3])
    log = alt.Scale(type="log", nice=False)
    dots = alt.Chart(alt.Data(values=points)).mark_circle(opacity=0.5, size=25)
    dots = dots.encode(
        x=alt.X("predicted:Q", scale=log, title="predicted (s)"),
        y=alt.Y("measured:Q", scale=log, title="measured (s)"),
        color=alt.Color("what:N", title=None),
        tooltip=["what:N", "predicted:Q", "measured:Q"],
    )
    equal = line.encode(x=alt.X("x:Q", scale=log), y=alt.Y("x:Q", scale=log))
    return alt.layer(equal, dots).resolve_scale(color="independent").properties(width=300, height=300)


def import_altair() -> Any:
    """The module `altair`; an ImportError names the extra that installs it."""
    try:
        import altair
        import vl_convert  # noqa: F401  # embeds Vega's library in the page
    except ImportError:
        raise ImportError("the referee's page needs Vega-Altair: pip install 'jaxcec[plot]'") from None
    return altair
