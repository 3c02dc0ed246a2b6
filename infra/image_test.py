"""Builds the container image where no image registry is reachable, runs it as a container engine would, and looks at what it does.

Needs root and Debian: mmdebstrap makes a base with Python, buildah builds on it (chroot isolation, vfs storage). The image then runs in
namespaces of its own, with the user, environment, entry point and health check that stand in the image. Everything happens in a temporary
directory that is removed. What this machine's pip needs to reach packages is mounted into the build and stays out of the image.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUITE = "trixie"  # Python 3.13, as in the default base
PACKAGES = "python3,python3-venv,python3-dev,ca-certificates"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
URL = "http://127.0.0.1:8000"
START_S = 60
STOP_S = 30
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ASSET = {"iscc_id": "ISCC:MAIGHFZT2ZPQAAAB", "iscc_code": "ISCC:KAC7PH77VHMW6XDJZANLLDOGRJN3UJBLFDU44C54IREROCFKY7XNSDY"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, help="a root file system from an earlier run (tar), to save its making")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("image-test: needs root, to install buildah and to enter namespaces")
    if request("GET", "/healthz")[0]:
        sys.exit(f"image-test: something answers at {URL} already")
    install_tools()
    with tempfile.TemporaryDirectory(prefix="image-test-") as directory:
        buildah = Buildah(Path(directory))
        make_base(buildah, arguments.base or debootstrap(Path(directory) / "base.tar"))
        config = build(buildah)
        check_config(config)
        root = buildah("mount", buildah("from", "--pull-never", "localhost/tidepool"))
        say("size of the image", f"{disk_mb(Path(root))} MB, of it /opt/tidepool {disk_mb(Path(root) / 'opt/tidepool')} MB")
        check_contents(Path(root))
        with running(Path(root), config) as init:
            exercise(Path(root), config, init)
    say("all of it holds")


class Buildah:
    """The buildah command with its storage below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.options = ["--root", f"{directory}/storage", "--runroot", f"{directory}/run", "--storage-driver", "vfs"]

    def __call__(self, *command: str) -> str:
        return run("buildah", *self.options, *command)


def install_tools() -> None:
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "buildah", "mmdebstrap")


def debootstrap(target: Path) -> Path:
    began = time.monotonic()
    run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(target))
    say("base made", f"{SUITE}, {time.monotonic() - began:.0f} s")
    return target


def make_base(buildah: Buildah, tar: Path) -> None:
    container = buildah("from", "scratch")
    run("tar", "-C", buildah("mount", container), "-xf", str(tar))
    buildah("umount", container)
    buildah("config", "--env", f"PATH={PATH}", container)
    buildah("commit", "-q", "--rm", container, "localhost/base")


def build(buildah: Buildah) -> dict[str, Any]:
    """Docker's format: the other one has no place for HEALTHCHECK."""
    began = time.monotonic()
    mounts = [option for mount in pip_mounts(buildah.directory) for option in ("--volume", mount)]
    flags = ["--isolation", "chroot", "--pull-never", "--network", "host", "--format", "docker", "--build-arg", "BASE=localhost/base"]
    buildah("bud", "-q", *flags, *mounts, "-f", str(ROOT / "Containerfile"), "-t", "localhost/tidepool", str(ROOT))
    say("image built", f"{time.monotonic() - began:.0f} s")
    inspected = json.loads(buildah("inspect", "--type", "image", "localhost/tidepool"))
    config: dict[str, Any] = inspected["Docker"]["config"]
    return config


def pip_mounts(directory: Path) -> Iterator[str]:
    """This machine's pip settings as one file, and the local paths that they name. pip lists those of the environment first."""
    settings: dict[str, str] = {}
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        key, _, quoted = line.partition("=")
        settings.setdefault(key.rpartition(".")[2], quoted[1:-1].replace("\\n", " "))
    words = {word.removeprefix("file://") for value in settings.values() for word in value.split()}
    paths = {CERTIFICATES} | {word.removesuffix("/simple") for word in words if word.startswith("/")}  # files stand beside the index
    yield from (f"{path}:{path}:ro" for path in sorted(paths) if Path(path).exists())
    file = directory / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    yield f"{file}:/etc/pip.conf:ro"


def check_config(config: dict[str, Any]) -> None:
    check("user is not root", config["User"] == "10001:10001")
    check("entry point is an init", config["Entrypoint"] == ["tini", "--"])
    check("stop signal", config["StopSignal"] == "SIGTERM")
    check("health check is there", config["Healthcheck"]["Test"][0] == "CMD")
    check("data is a volume", list(config["Volumes"]) == ["/data"])


def check_contents(root: Path) -> None:
    check("no compiler", not any((root / "usr/bin" / name).exists() for name in ("cc", "gcc", "cc1")))
    check("the C parts", all(any((root / "opt/tidepool").rglob(f"{name}*.so")) for name in ("_scan", "_chunks")))
    check("no pip settings of this machine", not (root / "etc/pip.conf").exists() or (root / "etc/pip.conf").stat().st_size == 0)


@contextmanager
def running(root: Path, config: dict[str, Any]) -> Iterator[int]:
    """The image's own command as process 1 of a new process namespace. Gives the id that it has outside."""
    mounts = 'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc"'
    script = f'{mounts} && exec chroot --userspec="$1" --groups= "$0" env -i "${{@:2}}"'
    arguments = [str(root), config["User"], *config["Env"], *config["Entrypoint"], *config["Cmd"]]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "slave"]
    engine = subprocess.Popen([*namespaces, "bash", "-c", script, *arguments])
    try:
        until("its first process", lambda: bool(children(engine.pid)), engine.pid)
        init = children(engine.pid)[0]
        yield init
        os.kill(init, signal.SIGTERM)
        check("SIGTERM ends it with 0", engine.wait(STOP_S) == 0)
    finally:
        engine.kill()
        engine.wait()


def exercise(root: Path, config: dict[str, Any], init: int) -> None:
    began = time.monotonic()
    until("/healthz", lambda: request("GET", "/healthz")[0] == 200, init)
    until("/readyz", lambda: request("GET", "/readyz")[0] == 200, init)
    say("ready", f"{time.monotonic() - began:.1f} s after its start")
    check("process 1 is the init", "tini" in Path(f"/proc/{init}/comm").read_text())
    processes = [init, *children(init)]
    check("the server runs below the init", len(processes) > 1)
    check("nobody is root", all(user_of(process) == 10001 for process in processes))
    health = config["Healthcheck"]["Test"][1:]
    enter = ["nsenter", "--target", str(init), "--pid", "--mount", "chroot", "--userspec=10001:10001", str(root), "env", "-i"]
    check("health check passes", subprocess.run([*enter, *config["Env"], *health]).returncode == 0)
    check("an index is created", request("POST", "/indexes", {"name": "first"})[0] == 201)
    check("an asset is added", request("POST", "/indexes/first/assets", [ASSET])[0] == 201)
    status, found = request("POST", "/indexes/first/search", {"iscc_code": ASSET["iscc_code"]})
    check("the asset is found", status == 200 and [match["iscc_id"] for match in found["global_matches"]] == [ASSET["iscc_id"]])
    check("its data is in /data, owned by the user", (root / "data/live/data.mdb").stat().st_uid == 10001)


def request(method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Status and answer. A server that is not there has status 0."""
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(call, timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except urllib.error.URLError:
        return 0, None


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def user_of(process: int) -> int:
    return Path(f"/proc/{process}").stat().st_uid


def until(what: str, holds: Callable[[], bool], process: int) -> None:
    """Waits for a state that the process brings about."""
    deadline = time.monotonic() + START_S
    while not holds():
        if not Path(f"/proc/{process}").exists():
            sys.exit(f"image-test: it ended before {what}")
        if time.monotonic() > deadline:
            sys.exit(f"image-test: waited {START_S} s for {what}")
        time.sleep(0.05)


def disk_mb(path: Path) -> int:
    return int(run("du", "-sm", str(path)).split()[0])


def check(what: str, holds: bool) -> None:
    if not holds:
        sys.exit(f"image-test: does not hold: {what}")
    say(what)


def say(what: str, facts: str = "") -> None:
    print(f"ok  {what}" + (f": {facts}" if facts else ""), flush=True)


def run(*command: str) -> str:
    """What a command printed. One that fails ends the test and shows its errors."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"image-test: {command[0]} failed with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
