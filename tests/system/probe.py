"""A process that does nothing but ask for health and time the answers: `python -m tests.system.probe PORT SERVER_PROCESS_ID`.

It ends when standard input closes, and prints one JSON object: under each path the seconds of every answer; under `unexplained` what is
left of them without the time in which this process or threads of the service could have run but had no processor; under `wrong` whatever
was not 200. On a machine that does other things beside, that waiting says nothing about the service.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time
from pathlib import Path

PATHS = ("/healthz", "/readyz")
PAUSE_SECONDS = 0.005


def main(port: int, server: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    seconds: dict[str, list[float]] = {**{path: [] for path in PATHS}, "unexplained": []}
    wrong: list[str] = []
    while True:
        for path in PATHS:
            if select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
                print(json.dumps({**seconds, "wrong": wrong}))  # noqa: T201 - it is what the parent reads
                return
            waits = waiting(server)
            started = time.perf_counter()
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                wrong.append(f"{path}: {error!r}")
                connection.close()
                continue
            taken = time.perf_counter() - started
            seconds[path].append(taken)
            seconds["unexplained"].append(max(0.0, taken - longest_wait(waits, waiting(server), server)))
            if answer.status != 200:
                wrong.append(f"{path}: {answer.status}")


def waiting(server: int) -> dict[str, int]:
    """For each thread of the service and for this process, nanoseconds so far in which it could have run but had no processor."""
    threads = {path.name: path / "schedstat" for path in Path(f"/proc/{server}/task").iterdir()}
    found = {"probe": int(Path("/proc/self/schedstat").read_text().split()[1])}
    for name, path in threads.items():
        try:
            found[name] = int(path.read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that ended meanwhile
    return found


def longest_wait(before: dict[str, int], after: dict[str, int], server: int) -> float:
    """Seconds: of the probe, of the event loop, and of the two threads that waited longest, which may have held the interpreter's lock."""
    waits = {name: (waited - before.get(name, waited)) / 1e9 for name, waited in after.items()}
    return waits.pop("probe") + waits.pop(str(server), 0.0) + sum(sorted(waits.values())[-2:])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
