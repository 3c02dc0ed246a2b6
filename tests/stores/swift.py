"""OpenStack Swift with its S3 interface: refuses a second create, but lets several through that come at the same moment.

The probe must refuse it.
"""

from __future__ import annotations

import getpass
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stores.children import Children, run
from tests.stores.store import Store, with_bucket
from tests.system.server import free_port

BIN = Path(sys.executable).parent
ACCESS_KEY, SECRET_KEY = "test:tester", "testing"
COMMON = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {home}
user = {user}
workers = 0
log_level = WARNING
log_address = {home}/no-log-socket
devices = {home}/devices
mount_check = false
fallocate_reserve = 0
recon_cache_path = {home}/recon
"""
KEEPER = """\
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
FILTERS = ("catch_errors", "gatekeeper", "listing_formats", "bulk", "s3api", "tempauth", "copy", "slo")
OPTIONS = {
    "s3api": "location = us-east-1\ns3_acl = false\n",
    "tempauth": f"user_test_tester = {SECRET_KEY} .admin\n",
}
PROXY = "[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\naccount_autocreate = true\n"
SECRETS = "[swift-hash]\nswift_hash_path_prefix = tide\nswift_hash_path_suffix = pool\n[storage-policy:0]\nname = one\ndefault = yes\n"


@contextmanager
def swift_store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="swift-") as directory, Children(Path(directory) / "log") as children:
        home = Path(directory)
        for name in ("devices/one", "recon"):
            (home / name).mkdir(parents=True)
        (home / "swift.conf").write_text(SECRETS, "utf-8")
        for name in ("account", "container", "object"):
            _start(home, name, _ring(home, name), KEEPER.format(name=name), children)
        port = free_port()
        _start(home, "proxy", port, _proxy(), children)
        children.wait_answers(f"http://127.0.0.1:{port}")
        yield with_bucket(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY)


def _ring(home: Path, name: str) -> int:
    """The map of where things are: one device. Its port."""
    port, ring = free_port(), home / f"{name}.builder"
    builder = BIN / "swift-ring-builder"
    run(builder, ring, "create", "6", "1", "0")
    run(builder, ring, "add", f"r1z1-127.0.0.1:{port}/one", "1")
    run(builder, ring, "rebalance")
    return port


def _proxy() -> str:
    sections = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n{OPTIONS.get(name, '')}" for name in FILTERS)
    return f"[pipeline:main]\npipeline = {' '.join(FILTERS)} proxy-server\n{PROXY}{sections}"


def _start(home: Path, name: str, port: int, sections: str, children: Children) -> None:
    settings = home / f"{name}-server.conf"
    settings.write_text(COMMON.format(port=port, home=home, user=getpass.getuser()) + sections, "utf-8")
    children.start(name, [BIN / f"swift-{name}-server", settings, "-v"])
