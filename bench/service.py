"""Our server and iscc-search 0.3.3 on the same data through HTTP on loopback; prints a table with ratios. See README.md here."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec

from bench.measure import Measured, make_data_set, measure
from bench.report import comparison, growth, header, make_run, others_share, quietness
from bench.servers import Target, ours, reference
from tests.system.reference import reference_python

RESULTS = Path(__file__).parent


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-", dir=arguments.directory) as name:
        measured = _growth(Path(name), arguments) if arguments.sizes else _comparison(Path(name), arguments)
    run = make_run(measured, arguments.seconds)
    if arguments.out is not None:
        arguments.out.write_bytes(msgspec.json.format(msgspec.json.encode(run)))
    print(f"\n{header(run)}. {quietness(others_share(run))}\n\n{growth(run.measured) if arguments.sizes else comparison(run)}")
    if arguments.plot is not None:
        from bench.plot import draw  # matplotlib is wanted for this alone

        draw(run, arguments.plot)


def _comparison(directory: Path, arguments: argparse.Namespace) -> list[Measured]:
    targets = [] if arguments.only == "reference" else [ours()]
    if arguments.only != "ours":
        targets.append(reference(arguments.reference or reference_python()))
    return _measure(targets, directory, arguments.assets, arguments)


def _growth(directory: Path, arguments: argparse.Namespace) -> list[Measured]:
    return [figures for size in arguments.sizes for figures in _measure([ours()], directory, size, arguments)]


def _measure(targets: list[Target], directory: Path, size: int, arguments: argparse.Namespace) -> list[Measured]:
    with tempfile.TemporaryDirectory(dir=directory) as name:
        _say(f"{size} assets are being made")
        data = make_data_set(Path(name), size, arguments.bits)
        return [measure(target, data, Path(name) / target.name, arguments.seconds, arguments.time_limit, _say) for target in targets]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _sizes(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--assets", type=int, default=100_000)
    parser.add_argument("--bits", type=int, default=256, choices=(64, 256))
    parser.add_argument(
        "--reference", type=Path, help="python of a virtual environment with iscc-search; made in a cache directory if left out"
    )
    parser.add_argument("--only", choices=("ours", "reference"), help="measure one server alone")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each row of searches")
    parser.add_argument(
        "--time-limit", type=float, default=4 * 3600.0, help="seconds for ingest; what is not in by then leaves no searches to compare"
    )
    parser.add_argument("--sizes", type=_sizes, default=[], help="our server alone at these sizes, as 10000,100000,1000000")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    parser.add_argument("--plot", type=Path, help="file for a plot of the growth, .svg or .png")
    parser.add_argument("--directory", type=Path, help="where data goes meanwhile; the default is the temporary directory of the system")
    parser.add_argument("--large", action="store_true", help="short for the sizes, --out and --plot of the table of growth in README.md")
    arguments = parser.parse_args()
    if arguments.large:
        arguments.sizes, arguments.out, arguments.plot = [10_000, 100_000, 1_000_000], RESULTS / "growth.json", RESULTS / "growth.svg"
    return arguments


if __name__ == "__main__":
    main()
