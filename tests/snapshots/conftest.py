"""Stores that start once for all tests here that want them. With several workers each starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores import CEPH_MISSING, Store, ceph_store, moto_store


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
