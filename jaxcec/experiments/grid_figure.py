"""Fig. 4 and 5 of the paper: ACT along the axes of the grids. It needs matplotlib, the extra `plot`."""

from __future__ import annotations

from pathlib import Path

from jaxcec.evaluation import bootstrap_mean
from jaxcec.evaluation.figures import pyplot, save_figure
from jaxcec.experiments.grids import AXES, Acts, Point, acts_along

STYLES = {  # policies that are drawn: colour and marker
    "le": ("0.6", "v"),
    "local": ("0.35", "^"),
    "greedy": ("C4", "s"),
    "eft": ("C2", "D"),
    "ddpg": ("C1", "o"),
    "dtdrlmo": ("C0", "o"),
    "dtdrlmo-plan": ("C3", "o"),
    "clairvoyant": ("k", "*"),
}
LABELS = {
    "num_services": "services",
    "max_microservices": "maximum microservices of a service",
    "bandwidth": "mean bandwidth of a link (Mbit/s)",
}


def draw_grid(acts: Acts, base: Point, path: Path) -> None:
    """Draw the ACT of every policy along each axis, with 95 % intervals; nothing if no axis has two points.

    All axes pass through the base. The path is without suffix; a PNG and an SVG are written.
    """
    plt = pyplot()
    swept = {axis: played for axis in AXES if len(played := acts_along(acts, base, axis)) > 1}
    if not swept:
        return
    figure, axes = plt.subplots(1, len(swept), figsize=(4.0 * len(swept), 3.6), squeeze=False, layout="constrained")
    for panel, (axis, played) in zip(axes[0], swept.items(), strict=True):
        for name, (color, marker) in STYLES.items():
            shown = {value: bootstrap_mean(by[name]) for value, by in played.items() if name in by}
            means = [interval.mean for interval in shown.values()]
            spread = [[i.mean - i.low for i in shown.values()], [i.high - i.mean for i in shown.values()]]
            line = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1.2, "capsize": 3}
            panel.errorbar(list(shown), means, yerr=spread, label=name, **line)
        panel.set(yscale="log", xlabel=LABELS[axis], xticks=list(AXES[axis]), ylabel="ACT (s), 95 % interval")
        for set_formatter in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
            set_formatter(lambda act, _: f"{act:g}" if f"{act:e}"[0] in "1235" else "")
    figure.suptitle(f"{base.dataset}, {base.setting}", fontsize=10)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    save_figure(figure, *(path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")))
