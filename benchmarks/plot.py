"""Here lives the picture; it needs matplotlib, and is left out without it."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.plan import OURS, TITLES

__all__ = ["draw"]

# Which figure of a workload is drawn, and whether its axis is logarithmic.
DRAWN = {
    "p1": ("p50_ms", "ms", False),
    "p2": ("steps_per_s", "steps/s", True),
    "p3": ("us_per_event", "µs per event", True),
    "p10": ("p50_ms", "ms", True),
}
OURS_COLOUR, PEER_COLOUR = "#1f6f54", "#b9b2a5"


def draw(report: Mapping[str, Any], path: Path) -> bool:
    """Draw the report's workloads side by side; False if matplotlib is not there, or there is nothing to draw."""
    shown = [workload for workload in report if workload in DRAWN]
    if find_spec("matplotlib") is None or not shown:
        return False
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(shown), figsize=(3.6 * len(shown), 3.2), squeeze=False)
    for axis, workload in zip(axes[0], shown, strict=True):
        name, unit, logarithmic = DRAWN[workload]
        rows = {
            title: row["figures"][name] for title, row in report[workload]["rows"].items() if name in row["figures"]
        }
        values = [row["median"] for row in rows.values()]
        colours = [OURS_COLOUR if title.startswith(OURS) else PEER_COLOUR for title in rows]
        errors = [
            [row["median"] - row["low"] for row in rows.values()],
            [row["high"] - row["median"] for row in rows.values()],
        ]
        titles = [title.replace("continuum, ", "continuum\n").replace(", ", "\n") for title in rows]
        bars = axis.barh(titles, values, color=colours, xerr=errors, ecolor="#555555", error_kw={"lw": 0.8})
        axis.bar_label(bars, [f" {value:,.3g}" if value < 1000 else f" {value:,.0f}" for value in values], fontsize=7)
        axis.invert_yaxis()
        if logarithmic:
            axis.set_xscale("log")
            axis.set_xlim(min(values) / 5, max(values) * 5)
        else:
            axis.set_xlim(right=max(values) * 1.25)
        axis.set_xlabel(unit, fontsize=7)
        axis.set_title(TITLES[workload].replace(": ", "\n", 1).replace(", ", ",\n", 1), fontsize=7, loc="left")
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True
