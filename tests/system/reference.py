"""The reference server and its client in a virtual environment of their own, installed once and kept.

`TIDEPOOL_REFERENCE_VENV` names the directory; without it, it is in the user's cache directory.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import venv
from pathlib import Path

PACKAGE, VERSION = "iscc-search", "0.3.3"


def reference_python() -> Path:
    """The interpreter that can import iscc_search. Several processes may call it at once; an install that was cut off is finished."""
    directory = Path(os.environ.get("TIDEPOOL_REFERENCE_VENV") or _default_directory())
    directory.parent.mkdir(parents=True, exist_ok=True)
    python = directory / "bin" / "python"
    with (directory.parent / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not python.exists():
            venv.create(directory, with_pip=True)
        if not _installed(python):
            _install(python)
    return python


def _default_directory() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tidepool" / f"reference-{sys.version_info.major}.{sys.version_info.minor}"


def _installed(python: Path) -> bool:
    """pip writes what a package needs before the package itself, so its version stands for all."""
    script = f"import importlib.metadata as m, sys; sys.exit(m.version({PACKAGE!r}) != {VERSION!r})"
    return subprocess.run([str(python), "-c", script], capture_output=True, check=False).returncode == 0


def _install(python: Path) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{PACKAGE}=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the reference could not be installed command={command} error={done.stderr[-2000:]}")
