"""The picture: how long a house waits for the first sound, with and without kugel-bridge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figures

OURS, PEER = "#1769aa", "#b8bfc6"


def draw(contestants: Sequence[Figures], file: Path, caption: str) -> None:
    """Bars of the medians, whiskers up to the 99th percentile, on a logarithmic axis; as SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    # The same figures give the same file: a picture that changed has changed figures.
    mpl.rcParams["svg.hashsalt"] = "kugel-bridge"
    from matplotlib import pyplot

    ordered = sorted(contestants, key=lambda each: each["median_ms"], reverse=True)
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(ordered) + 1.4), layout="constrained")
    medians = [each["median_ms"] for each in ordered]
    reach = [max(0.0, each["p99_ms"] - each["median_ms"]) for each in ordered]
    colours = [OURS if each["name"].startswith("kugel-bridge") else PEER for each in ordered]
    axes.barh(
        [each["name"] for each in ordered],
        medians,
        color=colours,
        xerr=[[0.0] * len(reach), reach],
        error_kw={"ecolor": "#444444", "capsize": 3, "elinewidth": 1},
    )
    for place, each in enumerate(ordered):
        axes.annotate(
            f" {each['median_ms']:.1f} ms",
            (each["p99_ms"], place),
            va="center",
            xytext=(4, 0),
            textcoords="offset points",
        )
    axes.set_xscale("log")
    axes.set_xlim(right=max(each["p99_ms"] for each in ordered) * 3)
    axes.set_xlabel("publish to first frame at the card: median, line to 99th percentile (ms, log)")
    axes.set_title(caption, fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(figure)
