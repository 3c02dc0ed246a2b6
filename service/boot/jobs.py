"""What is done on a schedule while the service runs. Each job never runs beside itself; runs that were missed become one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import uniform

import msgspec

from service.logs import event

JITTER_SHARE = 0.1


class Job(msgspec.Struct, frozen=True):
    """`interval_s` 0: never."""

    name: str
    interval_s: float
    run: Callable[[], None]


class Jobs:
    """Lives from the claim to the stop. Each job has a thread."""

    def __init__(self, jobs: list[Job]) -> None:
        from apscheduler.executors.pool import ThreadPoolExecutor  # a tenth of a second, and not needed without a bucket
        from apscheduler.schedulers.background import BackgroundScheduler

        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler = BackgroundScheduler(executors={"default": ThreadPoolExecutor(len(jobs))}, timezone=UTC)
        self.failures: dict[str, int] = {job.name: 0 for job in jobs}
        for job in jobs:
            if job.interval_s:
                jitter = job.interval_s * JITTER_SHARE
                self._scheduler.add_job(
                    self._run,
                    "interval",
                    args=[job],
                    id=job.name,
                    seconds=job.interval_s,
                    jitter=jitter,
                    start_date=datetime.now(UTC) + timedelta(seconds=job.interval_s + uniform(0, jitter)),  # noqa: S311 - jitter
                    max_instances=1,
                    coalesce=True,
                    misfire_grace_time=None,
                )

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        """No job begins any more. One that runs is not waited for: the process ends, and the next start cleans up after it."""
        self._scheduler.shutdown(wait=False)

    def _run(self, job: Job) -> None:
        try:
            job.run()
        except Exception as error:  # noqa: BLE001 - the loop around a scheduled job: counted, reported, tried again at the next turn
            self.failures[job.name] += 1
            event(logging.ERROR, "job failed", job=job.name, error=f"{type(error).__name__}: {error}")
