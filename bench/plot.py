"""The growth of each figure with the number of assets, as one small picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from bench.measure import Measured
from bench.report import ROWS, Run, header

PANELS = [
    ["ingest"],
    ["search p50, 1 client", "search p99, 1 client", "search p50, limit 100"],
    ["searches, 8 clients", "searches, 32 clients"],
    ["anonymous memory after ingest", "anonymous memory after a restart", "disk after a stop"],
    ["SIGTERM to exit", "start to ready"],
    ["search p99, 32 clients"],
]


def draw(run: Run[Measured], path: Path) -> None:
    rows = {row.title: row for row in ROWS}
    sizes = [measured.assets for measured in run.measured]
    figure = Figure(figsize=(13, 7), layout="constrained")
    for panel, titles in zip(figure.subplots(2, len(PANELS) // 2).flat, PANELS, strict=True):
        for title in titles:
            panel.plot(sizes, [rows[title].figure(measured) for measured in run.measured], marker="o", label=title)
        panel.set(xscale="log", yscale="log", xlabel="assets", ylabel=rows[titles[0]].unit)
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.set_xticks([], minor=True)
        panel.grid(visible=True, linewidth=0.3)
        panel.legend(fontsize="small")
    figure.suptitle(header(run), fontsize="small")
    with rc_context({"svg.fonttype": "none"}):  # text stays text and the file small
        figure.savefig(path)
