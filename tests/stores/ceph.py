"""Ceph's RADOS gateway with one monitor and one disk below it, all on loopback, from Debian's packages.

It checks signatures, creates atomically, and shows no half object. Starts in about nine seconds and needs no root.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stores.children import Children, run
from tests.stores.store import Store, with_bucket
from tests.system.server import free_port

CEPH_MISSING = any(shutil.which(name) is None for name in ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool"))
DISK_BYTES = 10 * 1024**3  # a sparse file
ACCESS_KEY, SECRET_KEY = "testkey", "testsecret"

# One copy of everything, few placement groups, and short rounds of the monitor: nobody waits for a majority of one.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = {monitor}
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
keyring = {home}/keyring
run_dir = {home}/run
admin_socket = {home}/run/$name.asok
log_file = {home}/log/$name.log
crash_dir = {home}/log
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_osd_min_down_reporters = 1
mon_data_avail_warn = 2
mon_data_avail_crit = 1
paxos_min_wait = 0.01
paxos_propose_interval = 0.05
rgw_rados_pool_pg_num_min = 8

[mon]
mon_data = {home}/monitor

[osd]
osd_data = {home}/disk
osd_objectstore = bluestore
osd_memory_target = 939524096
bluestore_block_create = true
bluestore_block_size = {disk_bytes}

[client]
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_data = {home}/gateway
rgw_enable_ops_log = false
rgw_enable_usage_log = false
"""
CAPABILITIES = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "osd.0": ("mon", "allow profile osd", "osd", "allow *"),
    "client.rgw": ("mon", "allow rw", "osd", "allow rwx"),
}


@contextmanager
def ceph_store() -> Iterator[Store]:
    # Names of sockets must be short, so not in the directory of the test.
    with (
        tempfile.TemporaryDirectory(prefix="ceph-", ignore_cleanup_errors=True) as directory,
        Children(Path(directory) / "log") as children,
    ):
        home, port = Path(directory), free_port()
        settings = _lay_out(home, port)
        _start(home, settings, children)
        endpoint = f"http://127.0.0.1:{port}"
        children.wait_answers(endpoint)
        yield with_bucket(endpoint, ACCESS_KEY, SECRET_KEY)


def _lay_out(home: Path, port: int) -> Path:
    """Configuration, keys and an empty monitor."""
    for name in ("monitor", "disk", "gateway", "run"):
        (home / name).mkdir()
    cluster, monitor = uuid.uuid4(), f"[v2:127.0.0.1:{free_port()}/0,v1:127.0.0.1:{free_port()}/0]"
    settings, keys, map_file = home / "ceph.conf", home / "keyring", home / "monitors"
    settings.write_text(CONFIGURATION.format(fsid=cluster, monitor=monitor, home=home, port=port, disk_bytes=DISK_BYTES), "utf-8")
    run("ceph-authtool", "--create-keyring", keys)
    for name, capabilities in CAPABILITIES.items():
        pairs = zip(capabilities[::2], capabilities[1::2], strict=True)
        run("ceph-authtool", keys, "--gen-key", "-n", name, *(word for pair in pairs for word in ("--cap", *pair)))
    run("monmaptool", "--create", "--fsid", str(cluster), "--addv", "a", monitor, map_file)
    run("ceph-mon", "-c", settings, "--mkfs", "-i", "a", "--monmap", map_file, "--keyring", keys)
    return settings


def _start(home: Path, settings: Path, children: Children) -> None:
    children.start("monitor", ["ceph-mon", "-c", settings, "-i", "a", "-f"])
    disk = str(uuid.uuid4())
    run("ceph", "-c", settings, "osd", "new", disk)
    run("ceph-osd", "-c", settings, "-i", "0", "--mkfs", "--osd-uuid", disk)
    children.start("disk", ["ceph-osd", "-c", settings, "-i", "0", "-f"])
    children.start("gateway", ["radosgw", "-c", settings, "-n", "client.rgw", "-f"])
    user = ["--uid=test", "--display-name=test", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"]
    run("radosgw-admin", "-c", settings, "user", "create", *user)
