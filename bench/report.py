"""Results as markdown tables: figures, ratios, and the bars that a run of 100,000 assets has to pass."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from bench.load import Result
from bench.measure import Measured
from bench.truth import Quality

OTHERS_SHARE_MAX = 0.1
BAR_ASSETS, BAR_BITS = 100_000, 256

Figures = TypeVar("Figures")
"""What is measured about one server."""

Figure = Callable[[Measured], float | None]


class Run(msgspec.Struct, Generic[Figures], frozen=True):
    """One run of a benchmark as it is stored."""

    date: str
    machine: str
    python: str
    seconds_each: float
    measured: list[Figures]


class Row(msgspec.Struct, Generic[Figures], frozen=True):
    """`bar`: how many times better than the reference we have to be, where that is asked for."""

    title: str
    figure: Callable[[Figures], float | None]
    unit: str
    more_is_better: bool
    bar: float | None = None


def _rate(pick: Callable[[Measured], Result | None]) -> Figure:
    def figure(measured: Measured) -> float | None:
        result = pick(measured)
        return None if result is None else result.requests / result.elapsed_s

    return figure


def _p50(pick: Callable[[Measured], Result | None]) -> Figure:
    def figure(measured: Measured) -> float | None:
        result = pick(measured)
        return None if result is None else result.p50_ms

    return figure


def _p99(pick: Callable[[Measured], Result | None]) -> Figure:
    def figure(measured: Measured) -> float | None:
        result = pick(measured)
        return None if result is None else result.p99_ms

    return figure


def _cpu_ms(pick: Callable[[Measured], Result | None]) -> Figure:
    def figure(measured: Measured) -> float | None:
        result = pick(measured)
        return None if result is None else result.server_cpu_s / result.requests * 1000

    return figure


def _net_ms(measured: Measured) -> float | None:
    """Search p50 without what the server takes to answer a request that does nothing."""
    return measured.search.p50_ms - measured.noop.p50_ms if measured.search and measured.noop else None


def _net_of_empty_ms(measured: Measured) -> float | None:
    """Search p50 without what the server takes for the same request where there is nothing to find."""
    return measured.search.p50_ms - measured.empty_search.p50_ms if measured.search and measured.empty_search else None


ROWS: list[Row[Measured]] = [
    Row("ingest", lambda m: m.ingested / m.ingest.elapsed_s, "assets/s", True, 8),
    Row("server CPU to ingest 1,000 assets", lambda m: m.ingest.server_cpu_s / m.ingested * 1e6, "ms", False),
    Row("`/healthz` p50, 1 client", _p50(lambda m: m.noop), "ms", False),
    Row("search in an empty index p50, 1 client", _p50(lambda m: m.empty_search), "ms", False),
    Row("search p50, 1 client", _p50(lambda m: m.search), "ms", False, 3),
    Row("search p50 minus `/healthz` p50", _net_ms, "ms", False, 5),
    Row("search p50 minus that in an empty index", _net_of_empty_ms, "ms", False),
    Row("search p99, 1 client", _p99(lambda m: m.search), "ms", False),
    Row("search p50, limit 100", _p50(lambda m: m.search_100), "ms", False),
    Row("server CPU for a search, 32 clients", _cpu_ms(lambda m: m.at_32), "ms", False),
    Row("searches, 8 clients", _rate(lambda m: m.at_8), "/s", True),
    Row("searches, 32 clients", _rate(lambda m: m.at_32), "/s", True, 4),
    Row("search p99, 32 clients", _p99(lambda m: m.at_32), "ms", False),
    Row("anonymous memory after ingest", lambda m: m.memory_bytes / 1e6, "MB", False, 2),
    Row("anonymous memory after a restart", lambda m: m.memory_restarted_bytes / 1e6 or None, "MB", False),
    Row("disk after a stop", lambda m: m.disk_bytes / 1e6 or None, "MB", False),
    Row("SIGTERM to exit", lambda m: m.stop_s or None, "s", False),
    Row("start to ready", lambda m: m.start_s or None, "s", False),
]


def comparison(run: Run[Measured]) -> str:
    """Bars are judged on a quiet machine and at the size that they are meant for; elsewhere the table shows them alone."""
    shown, our = run.measured, run.measured[0]
    judged = len(shown) > 1 and our.assets == BAR_ASSETS and our.bits == BAR_BITS and others_share(run) <= OTHERS_SHARE_MAX
    heads = " | ".join(f"{m.name} {m.version}" for m in shown)
    lines = [f"| {our.assets:,} assets, {our.bits} bits | {heads} | times better | bar |", "|---|" + "---|" * (len(shown) + 2)]
    lines += [line(row, shown, judged=judged) for row in ROWS]
    for title, text in TEXTS.items():
        lines.append(f"| {title} | {' | '.join(text(m) for m in shown)} | | {_verdict(title, our, judged=judged)} |")
    return "\n".join(lines)


def line(row: Row[Figures], shown: list[Figures], *, judged: bool) -> str:
    """A row of a comparison: the figure of each server, the ratio, and the bar."""
    values = [row.figure(figures) for figures in shown]
    cells = [_number(value, row.unit) for value in values]
    return f"| {row.title} | {' | '.join(cells)} | {_ratio(row, values, judged=judged)} |"


def growth(measured: list[Measured]) -> str:
    """One column for each size."""
    heads = " | ".join(f"{m.assets:,}" for m in measured)
    lines = [f"| assets ({measured[0].bits} bits) | {heads} |", "|---|" + "---:|" * len(measured)]
    lines += [f"| {row.title} | {' | '.join(_number(row.figure(m), row.unit) for m in measured)} |" for row in ROWS]
    for title, text in TEXTS.items():
        lines.append(f"| {title} | {' | '.join(text(m) for m in measured)} |")
    return "\n".join(lines)


def header(run: Run[Figures]) -> str:
    return f"{run.date}, {run.machine}, Python {run.python}, {run.seconds_each:g} s for each row of searches"


def quietness(share: float) -> str:
    """Whether the figures count: the servers run one after the other, so what else runs falls on one of them and makes up a ratio."""
    if share <= OTHERS_SHARE_MAX:
        return f"Other processes took at most {share:.0%} of the processors in any row."
    return f"NOT A QUIET MACHINE: other processes took up to {share:.0%} of the processors. Times, rates and ratios here do not count."


def others_share(run: Run[Measured]) -> float:
    return most_of_others(result for m in run.measured for result in (m.ingest, m.noop, m.search, m.search_100, m.at_8, m.at_32))


def most_of_others(results: Iterable[Result | None]) -> float:
    """The largest share of the processors that other processes had meanwhile."""
    return max(result.others_share for result in results if result)


def make_run(measured: list[Figures], seconds: float) -> Run[Figures]:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Run(today, machine(), platform.python_version(), seconds, measured)


def machine() -> str:
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {models[0] if models else platform.machine()}, {memory:.0f} GiB, Linux {platform.release()}"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _ratio(row: Row[Figures], values: list[float | None], *, judged: bool) -> str:
    """The last two cells: the ratio, and the bar with whether it is met."""
    our, other = values[0], values[-1]
    if len(values) < 2 or not our or not other:
        return " | "
    ratio = our / other if row.more_is_better else other / our
    bar = "" if row.bar is None else bar_text(f"{row.bar:g}", met=ratio >= row.bar, judged=judged)
    return f"{ratio:.3g} | {bar}"


def bar_text(text: str, *, met: bool, judged: bool) -> str:
    return f"{text}: {'met' if met else 'missed'}" if judged else f"{text}: not judged"


def _recall(pick: Callable[[Measured], Quality | None]) -> Callable[[Measured], str]:
    def text(measured: Measured) -> str:
        quality = pick(measured)
        if quality is None:
            return "not measured"
        return f"{quality.recall:.4f}, {quality.wrong_scores:.1%} of the scores wrong ({quality.queries} queries)"

    return text


def _ready(measured: Measured) -> str:
    return "not measured" if measured.crash is None else f"{measured.crash.ready_s:.2f} s"


def _found(measured: Measured) -> str:
    crash = measured.crash
    if crash is None:
        return "not measured"
    if crash.searchable_s is None:
        return f"not within 30 s: {crash.missing_at_end} of {crash.checked} missing"
    return f"{crash.searchable_s:.2f} s ({crash.checked} checked)"


def _verdict(title: str, our: Measured, *, judged: bool) -> str:
    if title == "recall@10" and our.quality is not None:
        return bar_text("1.0", met=our.quality.recall == 1, judged=judged)
    if title == "SIGKILL to all found" and our.crash is not None:
        return bar_text("2 s", met=our.crash.searchable_s is not None and our.crash.searchable_s <= 2, judged=judged)
    return ""


TEXTS: dict[str, Callable[[Measured], str]] = {
    "recall@10": _recall(lambda m: m.quality),
    "recall@10, limit 100": _recall(lambda m: m.quality_100),
    "SIGKILL to ready": _ready,
    "SIGKILL to all found": _found,
}
