"""Random sequences against the model, with kills, checkpoints and lost disks; then any moment of them is restored and is the model's."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.boot.recover import restore_to
from service.engine.options import Options
from snapshots.fetch import Progress
from snapshots.history import Point, restore_point
from tests.system.client import Client
from tests.system.estate import Estate, checkpoint, require_sound
from tests.system.model import Model
from tests.system.server import Server, wait_until
from tests.system.test_property import NAMES, Walk

SETTINGS = {"SEGMENT_CODES": 16, "LOG_INTERVAL": 0.05}


class Moment:
    """The model as it was at a request, and a time between that request and the next."""

    def __init__(self, model: Model, time_us: int) -> None:
        self._frozen = pickle.dumps(model)
        self.time_us = time_us

    @property
    def model(self) -> Model:
        found: Model = pickle.loads(self._frozen)
        return found


class Journey(Walk):
    """A walk whose disk gets lost now and then: what comes back is the model of the last request that the bucket has."""

    def __init__(self, estate: Estate, server: Server, seed: int) -> None:
        super().__init__(server, seed, graphs=False)
        self._estate = estate
        self._past: dict[int, Moment] = {}
        self.lost_rows = 0
        steps: list[tuple[float, Callable[[], None]]] = [(3, self._checkpoint), (1.5, self._lose_disk), (1.5, self._lose_disk_when_shipped)]
        self._steps += steps

    def travel(self, steps: int, travels: int) -> None:
        """`steps` random steps, then `travels` restores of random moments, by request and by time."""
        self._remember()
        for name in NAMES[:2]:
            self._expect(self._client.create_index(name), self._model.create_index(name))
            self._remember()
        weights, actions = zip(*self._steps, strict=True)
        for action in [*self._rng.choices(actions, weights, k=steps), self._checkpoint, self._lose_disk_when_shipped]:
            action()
        self._look_at_everything()
        self._leave()
        assert self._server.stop() == 0
        require_sound(self._estate.prefix)
        self._estate.without_disk()
        for number in range(travels):
            target = self._estate.root / f"travel-{number}"
            self._visit(self._rng.choice([each for each in self._past if each]), target, by_time=bool(number % 2))

    def _visit(self, sequence: int, target: Path, *, by_time: bool) -> None:
        moment = self._past[sequence]
        point = self._point(sequence, moment.time_us if by_time else None)
        restored = restore_to(self._estate.prefix, point, target, Options(), Progress(), lambda *_: None, force=False)
        assert restored.sequence == sequence
        with Server(target, SNAPSHOT_URL="none", SEGMENT_CODES=16) as server:
            self._server, self._client, self._model = server, Client(server.port), moment.model
            self._look_at_everything()
            self._client.close()

    def _point(self, sequence: int, time_us: int | None) -> Point:
        if time_us is None:
            return restore_point(self._estate.prefix, sequence=sequence)
        return restore_point(self._estate.prefix, at_us=time_us)

    def _add(self) -> None:
        super()._add()
        self._remember()

    def _delete(self) -> None:
        super()._delete()
        self._remember()

    def _create_index(self) -> None:
        super()._create_index()
        self._remember()

    def _delete_index(self) -> None:
        super()._delete_index()
        self._remember()

    def _remember(self) -> None:
        sequence = self._status("sequence")
        if sequence not in self._past:
            self._past[sequence] = Moment(self._model, time.time_ns() // 1000)

    def _status(self, member: str) -> int:
        return int(self._client.send("GET", "/snapshots/status").body[member])

    def _checkpoint(self) -> None:
        checkpoint(self._client)

    def _lose_disk_when_shipped(self) -> None:
        wait_until(lambda: self._status("lag_rows") == 0, 60, "the log to be shipped")
        before = self._status("sequence")
        self._lose_disk()
        assert self._status("sequence") == before

    def _lose_disk(self) -> None:
        """With local durability the last requests may be lost, whole ones, from the end."""
        shipped, before = self._status("shipped_sequence"), self._status("sequence")
        self._leave()
        self._server.kill()
        self._estate.without_disk()
        self._server.restart()
        found = self._status("sequence")
        assert shipped <= found <= before
        self.lost_rows += before - found
        self._model = self._past[found].model
        self._past = {sequence: moment for sequence, moment in self._past.items() if sequence <= found}


def journey(root: Path, seed: int, steps: int, travels: int) -> None:
    estate = Estate(root)
    with estate.server(**SETTINGS) as server:
        Journey(estate, server, seed).travel(steps, travels)


def test_every_moment_can_be_restored(tmp_path: Path) -> None:
    """Answers are the model's after every loss, and at any request and any time of the past."""
    journey(tmp_path, 1, steps=150, travels=4)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200, 212))
def test_every_moment_can_be_restored_at_length(tmp_path: Path, seed: int) -> None:
    """The same for many seeds and longer sequences."""
    journey(tmp_path, seed, steps=1_000, travels=20)
