"""Real object stores on loopback, for tests: `with moto_store() as store: open_bucket(store.url, store.environment)`."""

from tests.stores.ceph import CEPH_MISSING, ceph_store
from tests.stores.faulty import Faulty, faulty_store
from tests.stores.moto import moto_store
from tests.stores.rclone import rclone_store
from tests.stores.store import Store
from tests.stores.swift import swift_store

__all__ = ["CEPH_MISSING", "Faulty", "Store", "ceph_store", "faulty_store", "moto_store", "rclone_store", "swift_store"]
