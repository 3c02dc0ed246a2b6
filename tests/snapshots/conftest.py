"""Stores that start once for all tests here that want them. With several workers each starts its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.snapshots.impatient import Opened
from tests.stores import CEPH_MISSING, Faulty, Store, ceph_store, faulty_store, moto_store


@pytest.fixture(scope="session")
def moto() -> Iterator[Store]:
    with moto_store() as store:
        yield store


@pytest.fixture(scope="session")
def ceph() -> Iterator[Store]:
    # In CI, where a skip is a failure, it is there.
    if CEPH_MISSING:
        pytest.skip("ceph-mon, ceph-osd and radosgw are not installed")
    with ceph_store() as store:
        yield store


@pytest.fixture
def faulty(moto: Store) -> Iterator[Faulty]:
    with faulty_store(moto) as faulty:
        yield faulty


@pytest.fixture
def opened() -> Iterator[Opened]:
    with Opened() as opened:
        yield opened


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process without credentials, whatever this machine has."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
