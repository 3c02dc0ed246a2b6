"""Both kernels, and every variant of the compiled one that this processor runs, against a scan in plain Python."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.engine import kernels
from service.engine.kernels import Bodies, Hits, Nearest, Words

# Where no compiler is, the package installs without the C kernel. In CI a skip is a failure.
_scan = pytest.importorskip("service.engine._scan", reason="the C kernel was not built: install a compiler, then the package again")

RangeScan = Callable[[Words, int, Words, Sequence[int] | int], Hits]
TopScan = Callable[[Words, int, Words, int], Nearest]
BodyScan = Callable[[Sequence[kernels.Part], Words, Sequence[int] | int, int], Bodies]
Expected = list[tuple[int, int, int]]

SHAPES = [(words, compared) for words in (1, 2, 3, 4) for compared in range(1, words + 1)]
COUNTS = (0, 1, 63, 64, 65, 1000, 5000)


@pytest.fixture(params=["numpy", *_scan.variants()])
def kernel(request: pytest.FixtureRequest) -> Iterator[tuple[RangeScan, TopScan]]:
    """The pair of functions of one kernel, with its variant active for the length of the test."""
    if request.param == "numpy":
        yield kernels.numpy_range_scan, kernels.numpy_top_scan
        return
    before = _scan.variant()
    _scan.select(request.param)
    yield kernels.compiled_range_scan, kernels.compiled_top_scan
    _scan.select(before)


def make_columns(words: int, count: int, seed: int = 1) -> Words:
    """Random rows with near and exact duplicates; the places behind `count` hold copies of the first rows, which no scan may see."""
    generator = np.random.default_rng([seed, words, count])
    rows = generator.integers(0, 2**64, (count, words), np.uint64)
    for row in range(1, count, 3):
        rows[row] = rows[row - 1] ^ (np.uint64(1) << generator.integers(0, 64, words, np.uint64))
    rows[2::7] = rows[: len(rows[2::7])]
    spare = generator.integers(1, 200)
    return np.ascontiguousarray(np.concatenate([rows, np.resize(rows, (spare, words))]).T)


def make_queries(columns: Words, count: int, compared: int) -> Words:
    """A row, a row with three bits changed, the opposite of a row, and a random one."""
    queries = np.random.default_rng([compared, count]).integers(0, 2**64, (4, compared), np.uint64)
    if count:
        queries[0] = columns[:compared, count - 1]
        queries[1] = columns[:compared, 0] ^ np.uint64(0b10101)
        queries[2] = ~columns[:compared, count // 2]
    return queries


def distances(columns: Words, count: int, query: Words) -> list[int]:
    rows = columns[: len(query), :count].T.tolist()
    return [sum((a ^ b).bit_count() for a, b in zip(row, query.tolist(), strict=True)) for row in rows]


def in_range(table: Sequence[Sequence[int]], radii: Sequence[int]) -> Expected:
    return [(q, r, d) for q, row in enumerate(table) for r, d in enumerate(row) if d <= radii[q]]


def nearest(found: Sequence[int], limit: int) -> list[tuple[int, int]]:
    last = sorted(found)[min(limit, len(found)) - 1] if found else 0
    return [(row, distance) for distance, row in sorted((d, r) for r, d in enumerate(found) if d <= last)]


def as_tuples(result: Hits | Bodies | Nearest) -> list[tuple[Any, ...]]:
    return list(zip(*(array.tolist() for array in result), strict=True))


@pytest.mark.parametrize(("words", "compared"), SHAPES)
def test_range_equals_brute_force(kernel: tuple[RangeScan, TopScan], words: int, compared: int) -> None:
    """Every pair within the radius is found with its distance, in order, for every shape and for radii from none to all."""
    range_scan, _ = kernel
    bits = 64 * compared
    for count in COUNTS:
        columns = make_columns(words, count)
        queries = make_queries(columns, count, compared)
        table = [distances(columns, count, query) for query in queries]
        for radii in ([0] * 4, [bits // 4] * 4, [0, 5, bits, bits // 2], [bits] * 4):
            assert as_tuples(range_scan(columns, count, queries, radii)) == in_range(table, radii)
        assert as_tuples(range_scan(columns, count, queries[1:2], bits // 2)) == in_range(table[1:2], [bits // 2])


@pytest.mark.parametrize(("words", "compared"), SHAPES)
def test_top_equals_brute_force(kernel: tuple[RangeScan, TopScan], words: int, compared: int) -> None:
    """The nearest rows come with everything that ties with the last one, by distance, then row."""
    _, top_scan = kernel
    for count in COUNTS:
        columns = make_columns(words, count)
        for query in make_queries(columns, count, compared):
            found = distances(columns, count, query)
            for limit in (1, 10, 300, count, count + 1):
                if limit:
                    assert as_tuples(top_scan(columns, count, query, limit)) == nearest(found, limit)


def test_many_queries_over_many_blocks(kernel: tuple[RangeScan, TopScan]) -> None:
    """A call with many queries gives what the queries give one by one."""
    range_scan, _ = kernel
    columns = make_columns(2, 20_000)
    queries = np.ascontiguousarray(columns[:, :70].T)
    radii = [number % 60 for number in range(70)]
    together = range_scan(columns, 20_000, queries, radii)
    for number in range(70):
        alone = kernels.numpy_range_scan(columns, 20_000, queries[number : number + 1], radii[number])
        mine = together.query == number
        assert (together.row[mine].tolist(), together.distance[mine].tolist()) == (alone.row.tolist(), alone.distance.tolist())
    assert together.query.tolist() == sorted(together.query.tolist())


def bodies_of(columns: Words, count: int, queries: Words, radii: Sequence[int] | int) -> list[tuple[Any, ...]]:
    hits = kernels.numpy_range_scan(np.ascontiguousarray(columns), count, queries, radii)
    return [
        (b"".join(int(word).to_bytes(8, "big") for word in columns[:, row]), query, distance) for query, row, distance in as_tuples(hits)
    ]


@pytest.mark.parametrize("body_scan", [kernels.numpy_body_scan, kernels.compiled_body_scan])
@pytest.mark.parametrize("words", [1, 2, 3, 4])
def test_bodies_of_many_parts(body_scan: BodyScan, words: int) -> None:
    """Each part, be it a slice of larger columns, adds what it gives alone, with the bodies of its rows; none gives nothing."""
    columns = make_columns(words, 5_000)
    parts = [(columns, 5_000), (columns[:, 100:900], 800), (columns[:, 4_000:], 3), (columns, 0), (columns[:, 7:8], 1)]
    queries = np.ascontiguousarray(columns[:, :5_000:1_000].T)
    radii = [0, 64 * words, 30, 60, 5]
    alone = [bodies_of(columns, count, queries, radii) for columns, count in parts]
    assert sorted(as_tuples(body_scan(parts, queries, radii, 2))) == sorted(chain(*alone))
    assert list(map(bool, alone)) == [True, True, True, False, True]
    assert as_tuples(body_scan([], queries, radii, 1)) == []
    with pytest.raises(ValueError, match="queries do not fit columns"):
        body_scan([(columns, 5_000), (make_columns(words % 4 + 1, 5), 5)], queries, radii, 1)


@pytest.mark.parametrize("length", [1, 5, 70])
def test_threads_find_what_one_finds(length: int) -> None:
    """Also more threads than processors and than pieces of work, over parts of all sizes, from several callers at once."""
    columns = make_columns(2, 1_000_000 // length)
    parts = [(columns, columns.shape[1]), (columns[:, 100:900], 800), (columns, 0), (columns[:, 5:], columns.shape[1] // 2)] * 4
    queries = np.ascontiguousarray(columns[:, :length].T)
    radii = [40 + number % 5 for number in range(length)]

    def found(threads: int) -> list[tuple[Any, ...]]:
        return as_tuples(kernels.compiled_body_scan(parts, queries, radii, threads))

    alone = found(1)
    assert len(alone) > 40
    assert [found(threads) for threads in (2, 3, 1000)] == [alone] * 3
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(found, [2] * 8)) == [alone] * 8


HELPED = """
import os, signal, sys
import numpy as np
from service.engine import kernels

columns = np.zeros((2, 1_000_000), np.uint64)
queries = np.full((8, 2), 2**64 - 1, np.uint64)
queries[0] = 0

def scan():
    return len(kernels.compiled_body_scan([(columns, 1_000_000)], queries, 0, 3).query)

tasks = len(os.listdir("/proc/self/task"))
print(scan(), len(os.listdir("/proc/self/task")) - tasks)
sys.stdout.flush()
if os.fork() == 0:
    signal.alarm(60)
    os._exit(0 if scan() == scan() == 1_000_000 else 1)
print(os.wait()[1])
"""


def test_helpers_stay_and_a_child_gets_its_own() -> None:
    """Of three threads two are new; a process that forks takes none of them along."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", HELPED], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["1000000", "2", "0"], "")


def test_no_thread_is_not_a_number_of_threads() -> None:
    with pytest.raises(ValueError, match="threads=0"):
        _scan.body_scan([(WORDS, 100)], QUERY, 3, 0)


def test_a_part_that_cannot_be_read_fails_the_call() -> None:
    """Also behind parts that can, whose memory is given back."""
    held = sys.getrefcount(WORDS)
    for bad, error in (((WORDS, 10**6), ValueError), ((WORDS[:, ::2], 1), ValueError), ((WORDS,), IndexError), (None, TypeError)):
        with pytest.raises(error):
            _scan.body_scan([(WORDS, 100), bad], QUERY, 3, 1)
    with pytest.raises(TypeError):
        _scan.body_scan(None, QUERY, 3, 1)
    assert sys.getrefcount(WORDS) == held


@pytest.mark.parametrize("words", [1, 2, 3, 4])
@pytest.mark.parametrize("queries", [1, 3, 5])
def test_rows_at_every_distance(kernel: tuple[RangeScan, TopScan], words: int, queries: int) -> None:
    """One row among random ones at each distance: what lies within the radius is found, whichever words differ, and nothing else."""
    range_scan, _ = kernel
    generator = np.random.default_rng([words, queries])
    bits = 64 * words
    columns = generator.integers(0, 2**64, (words, 200 * bits), np.uint64)
    asked = np.ascontiguousarray(columns[:, :queries].T)
    for distance in range(bits + 1):
        row = asked[distance % queries].copy()
        for bit in generator.permutation(bits)[:distance]:
            row[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
        columns[:, 64 + distance * 99] = row
    for radius in range(0, bits // 2, 7):
        found = as_tuples(range_scan(columns, columns.shape[1], asked, radius))
        assert found == as_tuples(kernels.numpy_range_scan(columns, columns.shape[1], asked, radius))
        assert len(found) > radius


def test_radii_of_every_kind(kernel: tuple[RangeScan, TopScan]) -> None:
    """A list, a tuple, an array and numbers of numpy are radii; one beyond the bits that are compared finds all."""
    range_scan, _ = kernel
    columns = make_columns(1, 100)
    queries = make_queries(columns, 100, 1)
    expected = as_tuples(range_scan(columns, 100, queries, [20] * 4))
    for radii in (20, np.int64(20), (20, 20, 20, 20), np.full(4, 20)):
        assert as_tuples(range_scan(columns, 100, queries, radii)) == expected  # type: ignore[arg-type]  # arrays are no Sequence to mypy
    assert len(range_scan(columns, 100, queries, 10**30).row) == 400


def test_no_queries_find_nothing(kernel: tuple[RangeScan, TopScan]) -> None:
    """A call without queries has no hits."""
    range_scan, _ = kernel
    assert as_tuples(range_scan(make_columns(2, 100), 100, np.empty((0, 2), np.uint64), [])) == []
    assert as_tuples(range_scan(make_columns(2, 100), 100, np.empty((0, 2), np.uint64), 64)) == []


def test_result_types(kernel: tuple[RangeScan, TopScan]) -> None:
    """Results have the same types whether something was found or not."""
    range_scan, top_scan = kernel
    columns = make_columns(4, 100)
    for count in (0, 100):
        hits = range_scan(columns, count, columns[:, :1].T, 0)
        assert [array.dtype for array in hits] == [np.int64, np.int64, np.uint16]
        assert [array.dtype for array in top_scan(columns, count, columns[:, 0], 1)] == [np.int64, np.uint16]


def test_strided_queries(kernel: tuple[RangeScan, TopScan]) -> None:
    """Queries cut from longer ones, and a query that is a column of the words, need no copy by the caller."""
    range_scan, top_scan = kernel
    columns = make_columns(4, 1000)
    long = make_queries(columns, 1000, 4)
    assert as_tuples(range_scan(columns, 1000, long[::2, :3], 90)) == as_tuples(range_scan(columns, 1000, long[::2, :3].copy(), 90))
    assert as_tuples(top_scan(columns, 1000, columns[:, 7], 1)) == as_tuples(top_scan(columns, 1000, columns[:, 7].copy(), 1))


def test_read_only_map(kernel: tuple[RangeScan, TopScan], tmp_path: Path) -> None:
    """A segment file that is mapped for reading is scanned in place."""
    range_scan, top_scan = kernel
    columns = make_columns(4, 1000)
    columns.tofile(tmp_path / "segment")
    mapped: Words = np.memmap(tmp_path / "segment", np.uint64, "r", shape=columns.shape)
    query = columns[:, 999]
    assert as_tuples(range_scan(mapped, 1000, query[None], 70)) == as_tuples(range_scan(columns, 1000, query[None], 70))
    assert as_tuples(top_scan(mapped, 1000, query, 5)) == as_tuples(top_scan(columns, 1000, query, 5))


def test_top_with_one_tie_group(kernel: tuple[RangeScan, TopScan]) -> None:
    """When all rows are equally far, all of them are the nearest one."""
    _, top_scan = kernel
    columns = np.full((2, 30_000), 0xFF, np.uint64)
    result = top_scan(columns, 30_000, np.zeros(2, np.uint64), 1)
    assert result.row.tolist() == list(range(30_000))
    assert set(result.distance.tolist()) == {16}


def test_top_when_rows_come_nearer(kernel: tuple[RangeScan, TopScan]) -> None:
    """The order that keeps the radius wide for longest, far rows first, loses nothing."""
    _, top_scan = kernel
    columns = np.sort(make_columns(1, 5000), axis=1)
    far_first = columns[:, np.argsort(-np.bitwise_count(columns[0]).astype(int), kind="stable")].copy()
    found = distances(far_first, 5000, np.zeros(1, np.uint64))
    assert as_tuples(top_scan(far_first, 5000, np.zeros(1, np.uint64), 10)) == nearest(found, 10)


WORDS = make_columns(2, 100)
QUERY = np.zeros((1, 2), np.uint64)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param((WORDS, -1, QUERY, 3), ValueError, id="negative count"),
        pytest.param((WORDS, WORDS.shape[1] + 1, QUERY, 3), ValueError, id="count over capacity"),
        pytest.param((WORDS, 1.0, QUERY, 3), TypeError, id="count is a float"),
        pytest.param((WORDS[:1], 1, QUERY, 3), ValueError, id="more query words than columns"),
        pytest.param((WORDS, 1, QUERY[:, :0], 3), ValueError, id="no query words"),
        pytest.param((np.zeros((5, 9), np.uint64), 1, np.zeros((1, 5), np.uint64), 3), ValueError, id="more than four words"),
        pytest.param((WORDS, 1, QUERY[0, 0], 3), TypeError, id="query without dimensions"),
        pytest.param((WORDS[0], 1, QUERY, 3), TypeError, id="columns of one dimension"),
        pytest.param((WORDS.astype(np.int64), 1, QUERY, 3), TypeError, id="signed columns"),
        pytest.param((WORDS.astype(">u8"), 1, QUERY, 3), TypeError, id="columns of other byte order"),
        pytest.param((WORDS.view(np.uint8), 1, QUERY, 3), TypeError, id="columns of bytes"),
        pytest.param((WORDS, 1, QUERY.astype(np.float64), 3), TypeError, id="float query"),
        pytest.param((WORDS.tolist(), 1, QUERY, 3), TypeError, id="list of lists"),
        pytest.param((WORDS[:, ::2], 1, QUERY, 3), ValueError, id="strided columns"),
        pytest.param((WORDS, 1, QUERY, -1), ValueError, id="negative radius or limit"),
        pytest.param((WORDS, 1, QUERY, -(10**30)), ValueError, id="very negative radius or limit"),
        pytest.param((WORDS, 1, QUERY, 0.5), TypeError, id="float radius or limit"),
    ],
)
def test_bad_arguments(kernel: tuple[RangeScan, TopScan], arguments: tuple[Words, int, Words, int], error: type[Exception]) -> None:
    """What would read outside the columns, or misread them, is refused."""
    range_scan, top_scan = kernel
    columns, count, queries, number = arguments
    with pytest.raises(error):
        range_scan(columns, count, queries, number)
    with pytest.raises(error):
        top_scan(columns, count, queries[0] if queries.ndim else queries, number)


@pytest.mark.parametrize(
    ("radii", "error"), [([], ValueError), ([1, 2], ValueError), ([-1], ValueError), ([None], TypeError), ("3", TypeError)]
)
def test_bad_radii(kernel: tuple[RangeScan, TopScan], radii: list[int], error: type[Exception]) -> None:
    """There is exactly one radius for each query, and each is a number."""
    with pytest.raises(error):
        kernel[0](WORDS, 100, QUERY, radii)


def test_bad_limit(kernel: tuple[RangeScan, TopScan]) -> None:
    """The nearest none are not asked for."""
    with pytest.raises(ValueError, match="limit"):
        kernel[1](WORDS, 100, QUERY[0], 0)


def test_misaligned_columns_are_refused() -> None:
    """The compiled kernel reads whole words; numpy copes with any address."""
    shifted = np.frombuffer(bytes(8 * 20 + 1), np.uint8)[1:].view(np.uint64).reshape(2, 10)
    with pytest.raises(TypeError, match="aligned"):
        kernels.compiled_range_scan(shifted, 10, QUERY, 3)


def test_wrong_number_of_arguments() -> None:
    """The C functions count their arguments."""
    with pytest.raises(TypeError, match="given=0"):
        _scan.range_scan()
    with pytest.raises(TypeError, match="given=0"):
        _scan.top_scan()


def test_unknown_variant_is_refused() -> None:
    """A variant that this processor cannot run is never active."""
    before = _scan.variant()
    with pytest.raises(ValueError, match="avx1024"):
        _scan.select("avx1024")
    assert _scan.variant() == before


def body_scan_alone(columns: Words, count: int, queries: Words, radius: int) -> object:
    return kernels.compiled_body_scan([(columns, count)], queries, radius, 1)


@pytest.mark.parametrize("scan", [kernels.compiled_range_scan, body_scan_alone])
def test_long_scan_lets_other_threads_run(scan: Callable[[Words, int, Words, int], object]) -> None:
    """While the compiled kernel scans, Python code in another thread goes on."""
    columns = np.zeros((4, 500_000), np.uint64)
    queries = np.full((20, 4), 2**64 - 1, np.uint64)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # so a thread gets the interpreter only when the other one gives it away
    try:
        assert any(ran_during_scan(partial(scan, columns, columns.shape[1], queries, 10)) for _ in range(100))
    finally:
        sys.setswitchinterval(interval)


def ran_during_scan(scan: Callable[[], object]) -> bool:
    """Whether this thread came to run between the start and the end of a scan in another; a busy machine may delay it once."""
    started = threading.Event()
    woken: list[bool] = []
    seen: list[bool] = []

    def work() -> None:
        started.set()
        scan()
        seen.append(bool(woken))

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    woken.append(True)
    thread.join()
    return seen[0]


def test_compiled_kernel_is_built() -> None:
    """Where tests run, the extension was built and is what the engine uses."""
    assert kernels.KERNEL.startswith("c-")
    assert kernels.KERNEL.removeprefix("c-") == _scan.variants()[0]
    assert (kernels.range_scan, kernels.top_scan) == (kernels.compiled_range_scan, kernels.compiled_top_scan)
    assert kernels.body_scan is kernels.compiled_body_scan


def test_numpy_kernel_without_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extension the same names are the numpy kernel."""
    monkeypatch.setitem(sys.modules, "service.engine._scan", None)
    monkeypatch.delattr("service.engine._scan")
    source = Path(kernels.__file__)
    fresh: dict[str, object] = {"__name__": "kernels_without_extension"}
    exec(compile(source.read_text("utf-8"), str(source), "exec"), fresh)
    assert fresh["KERNEL"] == "numpy"
    assert fresh["range_scan"] is fresh["numpy_range_scan"]
    assert fresh["body_scan"] is fresh["numpy_body_scan"]
