"""Figures: training curves (Fig. 3), ACT of every policy, Gantt charts. They need matplotlib, the extra `plot`."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcec.evaluation.schedule import Schedule, bars, resources
from jaxcec.evaluation.statistics import Interval
from jaxcec.files import write_aside


def training_curves(rows: Sequence[Mapping[str, Any]], path: Path, references: Mapping[str, float]) -> None:
    """Draw the reward, actor loss and critic loss of Fig. 3, the ACT of validation episodes, and the twin's error.

    The rows are metrics in order, with `decisions` and the columns drawn, None or absent where nothing was measured.
    The references are ACT of baselines in s, drawn as horizontal lines. The path is that of a PNG.
    """
    plt = pyplot()
    panels = {
        "reward": "mean reward per decision (s)",
        "actor_loss": "actor loss",
        "critic_loss": "critic loss",
        "validation_act": "ACT on validation episodes (s)",
        "twin_error": "twin: error of a predicted wait (s)",
    }
    shown = [name for name in panels if any(row.get(name) is not None for row in rows)]
    figure, axes = plt.subplots(1, len(shown), figsize=(3.6 * len(shown), 3.0), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], shown, strict=True):
        points = [(row["decisions"] / 1e6, row[name]) for row in rows if row.get(name) is not None]
        axis.plot(*zip(*points, strict=True), color="C0", marker="o" if len(points) < 20 else None, markersize=3)
        axis.set(title=panels[name], xlabel="million decisions")
        axis.title.set_fontsize(10)
        axis.locator_params(axis="x", nbins=4)  # more labels would overlap in a short run
        if name in ("critic_loss", "validation_act"):
            axis.set_yscale("log")
        if name == "validation_act":
            for color, (reference, act) in zip(("C2", "C1", "C3"), references.items(), strict=False):
                axis.axhline(act, color=color, linestyle="--", linewidth=1.0, label=reference)
            if references:
                axis.legend(fontsize=8)
    save_figure(figure, path)


def act_bars(acts: Mapping[str, Interval], path: Path, *, title: str, highlighted: Collection[str] = ()) -> None:
    """Draw the ACT of each policy in s, with its 95 % interval, on a logarithmic axis of a PNG.

    The highlighted policies, such as the learned ones, are drawn in colour.
    """
    plt = pyplot()
    means, lows, highs = np.transpose(list(acts.values()))
    width = max(1.0 * len(acts), 0.07 * len(title)) + 1.5  # a title is not clipped
    figure, axis = plt.subplots(figsize=(width, 3.6), layout="constrained")
    colors = ["C0" if name in highlighted else "0.65" for name in acts]
    bars = axis.bar(list(acts), means, yerr=[means - lows, highs - means], capsize=4, color=colors)
    axis.bar_label(
        bars, labels=[f"{mean:,.0f}" if mean >= 100.0 else f"{mean:.3g}" for mean in means], padding=3, fontsize=8
    )
    axis.set(yscale="log", ylabel="ACT (s), 95 % interval", title=title)
    axis.title.set_fontsize(10)
    axis.margins(y=0.15)
    save_figure(figure, path)


def schedule_figure(schedules: Sequence[Schedule], path: Path, *, title: str) -> None:
    """Draw Gantt charts side by side in a PNG: executions on nodes and flows on links, coloured by service.

    The schedules are those of one episode under each policy.
    """
    plt = pyplot()
    rows = resources(schedules)
    names = list(map(schedules[0].name, rows))
    size = (6.5 * len(schedules) + 1.0, 0.28 * len(rows) + 1.4)
    figure, axes = plt.subplots(1, len(schedules), figsize=size, squeeze=False, sharey=True, sharex=True)
    for panel, schedule in zip(axes[0], schedules, strict=True):
        for bar in bars(schedule):
            height = 0.84 / bar.slots
            middle = rows.index(bar.resource) - 0.42 + (bar.slot + 0.5) * height
            color = plt.cm.tab20(bar.placed.service % 20)
            panel.barh(middle, bar.end - bar.start, height, bar.start, color=color, edgecolor="white", linewidth=0.2)
        panel.set(xlabel="time (s)", yticks=range(len(rows)), yticklabels=names, ylim=(len(rows) - 0.5, -0.5))
        panel.set_title(f"{schedule.policy}: ACT {schedule.act:,.1f} s", fontsize=10)
        panel.tick_params(axis="y", length=0, labelsize=8)
    figure.suptitle(title, fontsize=10)
    figure.set_layout_engine("constrained")
    save_figure(figure, path)


def pyplot() -> Any:
    """The module `matplotlib.pyplot`, drawing into files.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ImportError("figures need matplotlib: pip install 'jaxcec[plot]'") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def save_figure(figure: Any, *paths: Path) -> None:
    """Write a figure atomically into each path, in the format of its suffix, and close it.

    Equal figures give equal files: an SVG contains neither a date nor random names.
    """
    plt = pyplot()
    for path in paths:
        kind, content = path.suffix.removeprefix("."), io.BytesIO()
        with plt.rc_context({"svg.hashsalt": "jaxcec", "svg.fonttype": "none"}):
            figure.savefig(content, dpi=150, format=kind, metadata={"Date": None} if kind == "svg" else None)
        write_aside(path, content.getvalue())
    plt.close(figure)
