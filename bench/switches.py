"""What each switch saves: time until ready and memory of an empty service, with it on and off. `python -m bench.switches`.

The runs of all switches take turns, so that what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import httpx
import msgspec

from tests.system.server import Server

RUNS = 5
WARM = ("/", "/docs", "/openapi/openapi.json", "/metrics", "/status")
"""Asked before memory is looked at: some parts are made when somebody wants them."""
SWITCHES: dict[str, dict[str, object]] = {
    "all on": {},
    "GRAPHS=no": {"GRAPHS": "no"},
    "SIMPRINTS=no": {"SIMPRINTS": "no"},
    "DOCS=no": {"DOCS": "no"},
    "METRICS=no": {"METRICS": "no"},
    "SNAPSHOT_URL=none": {"SNAPSHOT_URL": "none"},
    "RATE_LIMIT=60/minute (on)": {"RATE_LIMIT": "60/minute"},
    "all off": {"GRAPHS": "no", "SIMPRINTS": "no", "DOCS": "no", "METRICS": "no", "SNAPSHOT_URL": "none"},
}


class Run(msgspec.Struct, frozen=True):
    """One start."""

    ready_s: float
    anonymous: int


def measure(settings: dict[str, object]) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", **settings)
        server.start()
        try:
            ready_s = server.wait_ready()
            for path in WARM:
                httpx.get(server.url + path)
            return Run(ready_s, anonymous_bytes(server.process.pid))
        finally:
            server.end()


def anonymous_bytes(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def table(found: dict[str, list[Run]]) -> str:
    """Medians, and what they are less than those of the first row."""
    lines = ["| setting | ready after, s | saved, ms | anonymous memory, MB | saved, MB |", "|---|---|---|---|---|"]
    medians = {
        name: (statistics.median(run.ready_s for run in runs), statistics.median(run.anonymous for run in runs))
        for name, runs in found.items()
    }
    first_s, first_bytes = next(iter(medians.values()))
    for name, (ready_s, size) in medians.items():
        saved_ms, saved_mb = (first_s - ready_s) * 1000, (first_bytes - size) / 1e6
        lines.append(f"| {name} | {ready_s:.2f} | {saved_ms:.0f} | {size / 1e6:.1f} | {saved_mb:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    found: dict[str, list[Run]] = {name: [] for name in SWITCHES}
    for _ in range(runs):
        for name, settings in SWITCHES.items():
            found[name].append(measure(settings))
    print(table(found))


if __name__ == "__main__":
    main()
